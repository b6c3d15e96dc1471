// Values to the integers of a network's input, each rounded from where the dither has it begin.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>

#include "tumortrace/dither.hpp"

namespace tumortrace {

/// Real value = scale x (integer - zero_point), as in ONNX QuantizeLinear.
struct Quantisation {
    float scale;     ///< positive and finite
    int zero_point;  ///< a value of the integer type
};

namespace detail {

/// What turns quotients into bytes of integers: clamp(round(quotient) + zero_point), ties to even.
struct Rounding {
    float low, high;  ///< the type's limits, before the zero point is added
    std::uint32_t zero_point;

    std::uint8_t byte(float quotient) const noexcept {
        // Floats around 1.5 x 2^23 are 1 apart: the sum rounds as wanted, and its lowest byte is the integer's.
        constexpr float magic = 12582912.0F;
        const float raised = quotient > low ? quotient : low;
        const float shifted = (raised < high ? raised : high) + magic;
        std::uint32_t bits = 0;
        std::memcpy(&bits, &shifted, sizeof bits);
        return static_cast<std::uint8_t>(bits + zero_point);
    }
};

template <typename Integer>
constexpr Rounding rounding_to(int zero_point) noexcept {
    return {static_cast<float>(std::numeric_limits<Integer>::min() - zero_point),
            static_cast<float>(std::numeric_limits<Integer>::max() - zero_point),
            static_cast<std::uint32_t>(zero_point)};
}

/// Writes the bytes of clamp(round(value / scale + dither) + zero_point), ties to even; NaN gives the lowest integer.
template <typename Integer>
inline void quantise(const float* __restrict values, std::size_t count, Quantisation by, Dither dither,
                     std::uint8_t* __restrict bytes) noexcept {
    const Rounding rounding = rounding_to<Integer>(by.zero_point);
    for (std::size_t i = 0; i < count; ++i) {
        bytes[i] = rounding.byte(values[i] / by.scale + dither.at(i));
    }
}

/// What one value becomes, whatever the dither: `low`, and one more where the dither's bits are above `threshold`.
struct Steps {
    std::uint8_t low;
    std::int32_t threshold;

    std::uint8_t byte(std::int32_t dither_bits) const noexcept {
        return static_cast<std::uint8_t>(low + (dither_bits > threshold ? 1 : 0));
    }
};

/// The steps of a quotient; nothing where there are three of them, as of an odd integer, which ties with both its
/// neighbours.
inline std::optional<Steps> steps_of(float quotient, const Rounding& rounding) noexcept {
    using Bits = std::numeric_limits<std::int32_t>;
    const auto byte = [&](std::int64_t bits) {
        return rounding.byte(quotient + Dither::value(static_cast<std::int32_t>(bits)));
    };
    const std::uint8_t low = byte(Bits::min()), high = byte(Bits::max());
    if (static_cast<std::uint8_t>(high - low) > 1) return std::nullopt;
    std::int64_t below = Bits::min(), above = std::int64_t{Bits::max()} + 1;
    while (above - below > 1) {
        const std::int64_t middle = below + (above - below) / 2;
        (byte(middle) == low ? below : above) = middle;
    }
    return Steps{low, static_cast<std::int32_t>(below)};
}

/// Writes a run of one value.
inline void write_steps(const Steps& steps, std::size_t count, Dither dither, std::uint8_t* __restrict bytes) noexcept {
    const Steps constant = steps;
    for (std::size_t i = 0; i < count; ++i) {
        bytes[i] = constant.byte(dither.bits(i));
    }
}

}  // namespace detail

}  // namespace tumortrace
