// float16, and float32 rounded to it.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "tumortrace/dispatch.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace tumortrace {

/// IEEE 754 binary16, as it is stored.
struct Half {
    std::uint16_t bits;
};

/// Integers in the order of the halves that they stand for; both zeros have keys that no half lies between.
inline std::int16_t order_key(Half half) noexcept {
    const auto bits = static_cast<std::int16_t>(half.bits);
    return static_cast<std::int16_t>(bits ^ ((bits >> 15) & 0x7FFF));
}

inline bool is_nan(Half half) noexcept { return (half.bits & 0x7FFF) > 0x7C00; }
inline bool is_nan(float value) noexcept { return value != value; }

/// Its value, exactly.
inline float to_float(float value) noexcept { return value; }
inline float to_float(Half half) noexcept {
    const std::uint32_t magnitude = half.bits & 0x7FFFU, sign = std::uint32_t{half.bits & 0x8000U} << 16;
    // Read as a float, the exponent is 112 too low; infinity and NaN take the highest one besides.
    const std::uint32_t shifted = magnitude << 13, raised = magnitude >= 0x7C00U ? shifted | 0x7F800000U : shifted;
    float value = 0.0F;
    std::memcpy(&value, &raised, sizeof value);
    value = magnitude >= 0x7C00U ? value : value * 0x1p112F;
    return sign != 0 ? -value : value;
}

/// The bits of the nearest float16, ties to even; what float16 cannot hold becomes an infinity, NaN a quiet NaN.
///
/// Source: Fabian Giesen's float_to_half_fast3_rtne (public domain).
inline std::uint16_t to_half(float value) noexcept {
#if defined(__aarch64__)
    const __fp16 nearest = static_cast<__fp16>(value);
    std::uint16_t half = 0;
    std::memcpy(&half, &nearest, sizeof half);
    return half;
#else
    constexpr std::uint32_t infinity = 255U << 23, overflow = (127U + 16U) << 23, least_normal = 113U << 23;
    // A float whose last bit weighs as much as a denormal half's.
    constexpr std::uint32_t magic = ((127U - 15U) + (23U - 10U) + 1U) << 23;
    std::uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    const std::uint32_t sign = bits & 0x80000000U;
    bits ^= sign;
    float magnitude = 0, magic_value = 0;
    std::memcpy(&magnitude, &bits, sizeof magnitude);
    std::memcpy(&magic_value, &magic, sizeof magic_value);
    const float aligned = magnitude + magic_value;
    std::uint32_t denormal = 0;
    std::memcpy(&denormal, &aligned, sizeof denormal);
    denormal -= magic;
    const std::uint32_t odd = (bits >> 13) & 1U;
    const std::uint32_t normal = (bits + ((15U - 127U) << 23) + 0xFFFU + odd) >> 13;
    const std::uint32_t beyond = bits > infinity ? 0x7E00U : 0x7C00U;
    const std::uint32_t finite = bits < least_normal ? denormal : normal;
    return static_cast<std::uint16_t>((bits >= overflow ? beyond : finite) | (sign >> 16));
#endif
}

namespace detail {

#if defined(__x86_64__)

/// Writes as many halves as fill vector registers, and says how many.
__attribute__((target("avx2,f16c"))) inline std::size_t to_halves_f16c(const float* values, std::size_t count,
                                                                       std::uint16_t* halves) noexcept {
    std::size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        const __m128i eight = _mm256_cvtps_ph(_mm256_loadu_ps(values + i), _MM_FROUND_TO_NEAREST_INT);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(halves + i), eight);
    }
    return i;
}

#endif

}  // namespace detail

/// `to_half` of every value.
inline void to_halves([[maybe_unused]] Vectors vectors, const float* values, std::size_t count,
                      std::uint16_t* halves) noexcept {
    std::size_t i = 0;
#if defined(__x86_64__)
    if (vectors != Vectors::baseline) {
        i = detail::to_halves_f16c(values, count, halves);
    }
#endif
    for (; i < count; ++i) {
        halves[i] = to_half(values[i]);
    }
}

}  // namespace tumortrace
