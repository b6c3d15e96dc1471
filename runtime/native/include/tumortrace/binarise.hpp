// What a network gives, as rows of bits: logits in float32, float16 or integers, several classes, or a mask.

#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "tumortrace/bitmask.hpp"
#include "tumortrace/dispatch.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace tumortrace {

/// What packing a row met.
struct RowContent {
    bool filled;  ///< a pixel is foreground
    bool nan;     ///< a value is not a number; it is background
};

/// IEEE 754 binary16, as it is stored.
struct Half {
    std::uint16_t bits;
};

namespace detail {

/// 64 bytes of 0 or 1 to 64 bits.
inline Word collect(const std::uint8_t* flags) noexcept {
#if defined(__SSE2__)
    Word word = 0;
    for (std::size_t part = 0; part < 4; ++part) {
        const __m128i bytes = _mm_load_si128(reinterpret_cast<const __m128i*>(flags + 16 * part));
        word |= static_cast<Word>(_mm_movemask_epi8(_mm_slli_epi16(bytes, 7))) << (16 * part);
    }
    return word;
#elif defined(__aarch64__)
    alignas(16) constexpr std::int8_t place[16] = {0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7};
    const int8x16_t shift = vld1q_s8(place);
    const auto sixteen = [&](std::size_t part) { return vshlq_u8(vld1q_u8(flags + 16 * part), shift); };
    const uint8x16_t low = vpaddq_u8(sixteen(0), sixteen(1)), high = vpaddq_u8(sixteen(2), sixteen(3));
    const uint8x16_t half = vpaddq_u8(low, high);
    return vgetq_lane_u64(vreinterpretq_u64_u8(vpaddq_u8(half, half)), 0);
#else
    Word word = 0;
    for (std::size_t i = 0; i < word_bits; ++i) {
        word |= Word{flags[i]} << i;
    }
    return word;
#endif
}

/// Packs a row whose pixel x is foreground where `is_foreground(x)`, and NaN where `is_nan(x)`.
///
/// Two plain loops of fixed length per word, which the compiler turns into vector instructions.
template <typename IsForeground, typename IsNan>
inline RowContent pack_row(std::size_t columns, IsForeground is_foreground, IsNan is_nan, Word* words) noexcept {
    Word any = 0;
    std::uint32_t nan = 0;
    alignas(16) std::array<std::uint8_t, word_bits> flags{};
    for (std::size_t start = 0; start < columns; start += word_bits) {
        const auto pack = [&](std::size_t count) {
            for (std::size_t i = 0; i < count; ++i) {
                flags[i] = is_foreground(start + i) ? 1 : 0;
            }
            for (std::size_t i = 0; i < count; ++i) {
                nan |= is_nan(start + i) ? 1U : 0U;
            }
        };
        if (columns - start >= word_bits) {
            pack(word_bits);
        } else {
            flags.fill(0);
            pack(columns - start);
        }
        const Word word = collect(flags.data());
        words[start / word_bits] = word;
        any |= word;
    }
    return {any != 0, nan != 0};
}

/// Packs what is above `threshold`, with the instructions of every CPU of the architecture.
inline RowContent pack_above(const float* logits, std::size_t columns, float threshold, Word* words) noexcept {
    return pack_row(
        columns, [=](std::size_t x) { return logits[x] > threshold; },
        [=](std::size_t x) { return logits[x] != logits[x]; }, words);
}

#if defined(__x86_64__)

/// The same with AVX2, which keeps up with memory. (AVX-512 was no faster.)
__attribute__((target("avx2"))) inline RowContent pack_above_avx2(const float* logits, std::size_t columns,
                                                                  float threshold, Word* words) noexcept {
    constexpr std::size_t lanes = 8;
    const __m256 level = _mm256_set1_ps(threshold);
    __m256 unordered = _mm256_setzero_ps();
    Word any = 0;
    std::size_t x = 0;
    for (; x + word_bits <= columns; x += word_bits) {
        Word word = 0;
        for (std::size_t part = 0; part < word_bits; part += 2 * lanes) {
            const __m256 low = _mm256_loadu_ps(logits + x + part), high = _mm256_loadu_ps(logits + x + part + lanes);
            const int bits = _mm256_movemask_ps(_mm256_cmp_ps(low, level, _CMP_GT_OQ)) |
                             _mm256_movemask_ps(_mm256_cmp_ps(high, level, _CMP_GT_OQ)) << lanes;
            word |= static_cast<Word>(bits) << part;
            unordered = _mm256_or_ps(unordered, _mm256_cmp_ps(low, high, _CMP_UNORD_Q));
        }
        words[x / word_bits] = word;
        any |= word;
    }
    bool nan = false;
    if (x < columns) {
        Word word = 0;
        std::size_t part = 0;
        for (; x + part + lanes <= columns; part += lanes) {
            const __m256 values = _mm256_loadu_ps(logits + x + part);
            word |= static_cast<Word>(_mm256_movemask_ps(_mm256_cmp_ps(values, level, _CMP_GT_OQ))) << part;
            unordered = _mm256_or_ps(unordered, _mm256_cmp_ps(values, values, _CMP_UNORD_Q));
        }
        for (; x + part < columns; ++part) {
            const float value = logits[x + part];
            word |= Word{value > threshold} << part;
            nan = nan || value != value;
        }
        words[x / word_bits] = word;
        any |= word;
    }
    return {any != 0, nan || _mm256_movemask_ps(unordered) != 0};
}

#endif

using PackAbove = RowContent (*)(const float*, std::size_t, float, Word*) noexcept;

/// The fastest way of packing that this CPU has.
inline PackAbove best_pack_above() noexcept {
#if defined(__x86_64__)
    if (has(Vectors::avx2)) {
        return pack_above_avx2;
    }
#endif
    return pack_above;
}

/// Integers in the order of the halves that they stand for; both zeros have keys that no half lies between.
inline std::int16_t order_key(Half half) noexcept {
    const auto bits = static_cast<std::int16_t>(half.bits);
    return static_cast<std::int16_t>(bits ^ ((bits >> 15) & 0x7FFF));
}

inline bool is_nan(Half half) noexcept { return (half.bits & 0x7FFF) > 0x7C00; }

/// Its value, exactly.
inline float to_float(Half half) noexcept {
    const std::uint32_t magnitude = half.bits & 0x7FFFU, sign = std::uint32_t{half.bits & 0x8000U} << 16;
    // Read as a float, the exponent is 112 too low; infinity and NaN take the highest one besides.
    const std::uint32_t shifted = magnitude << 13, raised = magnitude >= 0x7C00U ? shifted | 0x7F800000U : shifted;
    float value = 0.0F;
    std::memcpy(&value, &raised, sizeof value);
    value = magnitude >= 0x7C00U ? value : value * 0x1p112F;
    return sign != 0 ? -value : value;
}

/// The key of the greatest half that is not above `threshold`; below all keys but those of NaN if there is none.
inline std::int16_t key_not_above(float threshold) noexcept {
    int low = -0x7C02, high = 0x7C00;  // below minus infinity; infinity
    while (low < high) {
        const int middle = low + (high - low + 1) / 2;
        const auto key = static_cast<std::int16_t>(middle);
        const Half half{static_cast<std::uint16_t>(key ^ ((key >> 15) & 0x7FFF))};
        if (to_float(half) <= threshold) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return static_cast<std::int16_t>(low);
}

}  // namespace detail

/// Logits (slices, rows, columns), one foreground class: above the threshold is foreground.
class FloatLogits {
  public:
    static constexpr bool has_logits = true;

    FloatLogits(const float* logits, float threshold) noexcept
        : logits_(logits), threshold_(threshold), pack_(detail::best_pack_above()) {}

    RowContent pack(std::size_t row, std::size_t columns, Word* words) const noexcept {
        return pack_(logits_ + row * columns, columns, threshold_, words);
    }
    std::size_t count_nan(std::size_t voxels) const noexcept {
        return static_cast<std::size_t>(std::count_if(logits_, logits_ + voxels, [](float v) { return v != v; }));
    }
    float logit(std::size_t voxel) const noexcept { return logits_[voxel]; }

  private:
    const float* logits_;
    float threshold_;
    detail::PackAbove pack_;
};

/// The same in float16, each compared as the float32 that it is.
class HalfLogits {
  public:
    static constexpr bool has_logits = true;

    HalfLogits(const Half* logits, float threshold) noexcept
        : logits_(logits), key_(detail::key_not_above(threshold)) {}

    RowContent pack(std::size_t row, std::size_t columns, Word* words) const noexcept {
        const Half* const logits = logits_ + row * columns;
        const std::int16_t key = key_;
        return detail::pack_row(
            columns, [=](std::size_t x) { return detail::order_key(logits[x]) > key && !detail::is_nan(logits[x]); },
            [=](std::size_t x) { return detail::is_nan(logits[x]); }, words);
    }
    std::size_t count_nan(std::size_t voxels) const noexcept {
        return static_cast<std::size_t>(std::count_if(logits_, logits_ + voxels, detail::is_nan));
    }
    float logit(std::size_t voxel) const noexcept { return detail::to_float(logits_[voxel]); }

  private:
    const Half* logits_;
    std::int16_t key_;
};

/// The same as integers: a logit is (integer - zero_point) x scale in float32, as in ONNX DequantizeLinear.
///
/// @tparam Integer std::int8_t or std::uint8_t
template <typename Integer>
class QuantisedLogits {
    static_assert(std::is_same_v<Integer, std::int8_t> || std::is_same_v<Integer, std::uint8_t>);

  public:
    static constexpr bool has_logits = true;

    /// @param scale      positive and finite
    /// @param zero_point a value of `Integer`
    QuantisedLogits(const Integer* logits, float scale, int zero_point, float threshold) noexcept
        : logits_(logits), scale_(scale), zero_point_(zero_point) {
        constexpr int last = std::numeric_limits<Integer>::max();
        int integer = std::numeric_limits<Integer>::min();
        while (integer <= last && !(real(integer) > threshold)) {
            ++integer;
        }
        some_ = integer <= last;
        least_ = static_cast<Integer>(std::min(integer, last));
    }

    RowContent pack(std::size_t row, std::size_t columns, Word* words) const noexcept {
        if (!some_) {
            return {false, false};
        }
        const Integer* const logits = logits_ + row * columns;
        const Integer least = least_;
        return detail::pack_row(
            columns, [=](std::size_t x) { return logits[x] >= least; }, [](std::size_t) { return false; }, words);
    }
    std::size_t count_nan(std::size_t) const noexcept { return 0; }
    float logit(std::size_t voxel) const noexcept { return real(logits_[voxel]); }

  private:
    float real(int integer) const noexcept { return static_cast<float>(integer - zero_point_) * scale_; }

    const Integer* logits_;
    float scale_;
    int zero_point_;
    bool some_ = false;  ///< an integer is above the threshold
    Integer least_ = 0;  ///< the least of them
};

/// Logits (slices, classes, rows, columns), class 0 the background: foreground is what has another class's logit as
/// its greatest; of equal ones the first class counts.
class ClassLogits {
  public:
    static constexpr bool has_logits = false;

    /// @param classes at least 2
    /// @param plane   voxels of a class in a slice, rows x columns
    ClassLogits(const float* logits, std::size_t classes, std::size_t rows, std::size_t columns) noexcept
        : logits_(logits), classes_(classes), rows_(rows), plane_(rows * columns) {}

    RowContent pack(std::size_t row, std::size_t columns, Word* words) const noexcept {
        const float* const background = logits_ + row / rows_ * classes_ * plane_ + row % rows_ * columns;
        RowContent content{false, false};
        for (std::size_t start = 0; start < columns; start += word_bits) {
            const std::size_t count = std::min(word_bits, columns - start);
            Word word = 0;
            for (std::size_t other = 1; other < classes_; ++other) {
                const float* const base = background + start;
                const float* const logits = base + other * plane_;
                Word above = 0;
                const RowContent part = detail::pack_row(
                    count, [=](std::size_t x) { return logits[x] > base[x]; },
                    [=](std::size_t x) { return logits[x] != logits[x] || base[x] != base[x]; }, &above);
                word |= above;
                content.nan = content.nan || part.nan;
            }
            words[start / word_bits] = word;
            content.filled = content.filled || word != 0;
        }
        return content;
    }
    std::size_t count_nan(std::size_t voxels) const noexcept {
        return static_cast<std::size_t>(
            std::count_if(logits_, logits_ + voxels * classes_, [](float v) { return v != v; }));
    }

  private:
    const float* logits_;
    std::size_t classes_;
    std::size_t rows_;
    std::size_t plane_;
};

/// A mask (slices, rows, columns), as an engine gives it that has the threshold in its graph: not 0 is foreground.
class ByteMask {
  public:
    static constexpr bool has_logits = false;

    explicit ByteMask(const std::uint8_t* mask) noexcept : mask_(mask) {}

    RowContent pack(std::size_t row, std::size_t columns, Word* words) const noexcept {
        const std::uint8_t* const mask = mask_ + row * columns;
        return detail::pack_row(
            columns, [=](std::size_t x) { return mask[x] != 0; }, [](std::size_t) { return false; }, words);
    }
    std::size_t count_nan(std::size_t) const noexcept { return 0; }

  private:
    const std::uint8_t* mask_;
};

}  // namespace tumortrace
