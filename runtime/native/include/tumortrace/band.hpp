// Neighbouring rows of levels, and which part of them is air.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace tumortrace {

/// Rows that are looked at together.
constexpr std::size_t band_rows = 8;

/// Levels of whole rows of a slice: what is stored, with the bits of `flip` turned round.
template <std::size_t rows>
struct Band {
    const std::uint16_t* stored;
    std::ptrdiff_t stride;  ///< from one row to the next
    std::size_t columns;
    std::uint16_t flip;

    const std::uint16_t* row(std::size_t index) const noexcept {
        return stored + static_cast<std::ptrdiff_t>(index) * stride;
    }
    std::uint16_t level(std::size_t row, std::size_t column) const noexcept {
        return static_cast<std::uint16_t>(this->row(row)[column] ^ flip);
    }
};

/// From `begin` to `end` - 1; empty where they are the same.
struct Extent {
    std::size_t begin;
    std::size_t end;

    void add(std::size_t index) noexcept {
        begin = begin == end ? index : std::min(begin, index);
        end = std::max(end, index + 1);
    }
    std::size_t size() const noexcept { return end - begin; }
};

namespace detail {

/// Columns that are looked at together.
constexpr std::size_t band_columns = 16;

/// Whether all of them, from `column` on, are of one level.
template <std::size_t rows>
inline bool all_alike(const Band<rows>& band, std::size_t column, std::uint16_t level) noexcept {
    const std::uint16_t* const __restrict first = band.stored + column;
    const std::ptrdiff_t stride = band.stride;
    const auto stored = static_cast<std::uint16_t>(level ^ band.flip);
    std::uint16_t different = 0;
    for (std::size_t x = 0; x < band_columns; ++x) {
        for (std::size_t row = 0; row < rows; ++row) {
            const std::uint16_t other =
                first[static_cast<std::ptrdiff_t>(row) * stride + static_cast<std::ptrdiff_t>(x)];
            different = static_cast<std::uint16_t>(different | (other ^ stored));
        }
    }
    return different == 0;
}

}  // namespace detail

/// The columns outside which all is of the level of the band's first voxel; as few as can be told from columns taken
/// together.
template <std::size_t rows>
inline Extent find_head(const Band<rows>& band) noexcept {
    constexpr std::size_t step = detail::band_columns;
    const std::uint16_t air = band.level(0, 0);
    Extent head{0, band.columns};
    while (head.size() >= step && detail::all_alike(band, head.begin, air)) head.begin += step;
    while (head.size() >= step && detail::all_alike(band, head.end - step, air)) head.end -= step;
    return head;
}

}  // namespace tumortrace
