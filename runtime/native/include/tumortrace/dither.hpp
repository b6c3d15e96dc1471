// Where rounding begins at each pixel, so that its errors do not follow the picture.

#pragma once

#include <cstddef>
#include <cstdint>

namespace tumortrace {

/// What is added before rounding along a row of pixels, in steps of 2^-32: at pixel i the signed 32-bit integer with
/// the bits of `phase` + i x `step`, which lies between -1/2 and 1/2.
struct Dither {
    std::uint32_t phase;
    std::uint32_t step;

    std::int32_t bits(std::size_t pixel) const noexcept {
        return static_cast<std::int32_t>(phase + static_cast<std::uint32_t>(pixel) * step);
    }
    float at(std::size_t pixel) const noexcept { return value(bits(pixel)); }

    static float value(std::int32_t bits) noexcept { return static_cast<float>(bits) * 0x1p-32F; }
};

/// The dither of a row from a column on, of the plane with this number in its scan.
///
/// Rows and columns step by the two irrational numbers that spread points the most evenly over the plane (M. Roberts
/// 2018, "The unreasonable effectiveness of quasirandom sequences": 1/g and 1/g^2 with g^3 = g + 1), planes by the
/// golden ratio: each neighbourhood has all offsets about as often.
inline Dither dither_of(std::size_t plane, std::size_t row, std::size_t column) noexcept {
    constexpr std::uint32_t by_plane = 2654435769U, by_row = 2447445414U, by_column = 3242174889U;
    return {static_cast<std::uint32_t>(plane) * by_plane + static_cast<std::uint32_t>(row) * by_row +
                static_cast<std::uint32_t>(column) * by_column,
            by_column};
}

}  // namespace tumortrace
