// Neighbouring rows of levels, and which part of them is air.

#pragma once

#include <cstddef>
#include <cstdint>

namespace tumortrace {

/// Whole rows of one slice, the head between columns `begin` and `end` - 1: everywhere else is the level `air`.
template <std::size_t rows>
struct Band {
    const std::uint16_t* levels;
    std::size_t columns;
    std::uint16_t air;
    std::size_t begin;
    std::size_t end;

    const std::uint16_t* row(std::size_t index) const noexcept { return levels + index * columns; }
};

namespace detail {

/// Columns that are looked at together.
constexpr std::size_t band_columns = 16;

template <std::size_t rows>
inline bool is_air(const std::uint16_t* levels, std::size_t columns, std::uint16_t air) noexcept {
    std::uint16_t different = 0;
    for (std::size_t x = 0; x < band_columns; ++x) {
        for (std::size_t row = 0; row < rows; ++row) {
            different = static_cast<std::uint16_t>(different | (levels[row * columns + x] ^ air));
        }
    }
    return different == 0;
}

}  // namespace detail

/// A band, as narrow as columns can be left out together, where air is what its first level is.
///
/// @param columns not 0
template <std::size_t rows>
inline Band<rows> find_band(const std::uint16_t* levels, std::size_t columns) noexcept {
    constexpr std::size_t step = detail::band_columns;
    Band<rows> band{levels, columns, levels[0], 0, columns};
    const auto is_air = [&](std::size_t x) { return detail::is_air<rows>(levels + x, columns, band.air); };
    while (band.begin + step <= band.end && is_air(band.begin)) band.begin += step;
    while (band.begin + step <= band.end && is_air(band.end - step)) band.end -= step;
    return band;
}

}  // namespace tumortrace
