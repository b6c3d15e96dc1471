// Where in a scan there is a head: which slices, and which part of them.

#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "tumortrace/band.hpp"
#include "tumortrace/voxels.hpp"

namespace tumortrace {

/// The levels that are not foreground, from `begin` to `end` - 1.
struct Background {
    std::size_t begin;
    std::size_t end;
};

/// Least and greatest level among some voxels.
struct LevelSpan {
    std::uint16_t least = std::numeric_limits<std::uint16_t>::max();
    std::uint16_t greatest = 0;

    void add(LevelSpan other) noexcept {
        least = std::min(least, other.least);
        greatest = std::max(greatest, other.greatest);
    }

    /// Whether a level is foreground.
    bool leaves(Background background) const noexcept { return least < background.begin || greatest >= background.end; }
};

/// What is in a band of rows: levels of the head between columns `begin` and `end` - 1, and of all others `air`.
struct BandHead {
    std::uint32_t begin;
    std::uint32_t end;
    std::uint16_t air;
    LevelSpan levels;  ///< those of the head; none where it is empty
};

/// How many bands a slice has: rows that fill none are bands of their own.
inline std::size_t bands_of(std::size_t rows) noexcept { return rows / band_rows + rows % band_rows; }

/// The number of the band that a row is in.
inline std::size_t band_of(std::size_t row, std::size_t rows) noexcept {
    const std::size_t whole = rows / band_rows;
    return row < whole * band_rows ? row / band_rows : row - whole * (band_rows - 1);
}

/// The levels of one channel, of each band and of each column.
class LevelSpans {
  public:
    /// Starts anew, for slices of this size.
    void reset(const Voxels& voxels) {
        bands_.clear();
        bands_.reserve(voxels.slices() * bands_of(voxels.rows()));
        least_.assign(voxels.columns(), LevelSpan{}.least);
        greatest_.assign(voxels.columns(), LevelSpan{}.greatest);
        air_ = {0, 0, voxels.columns()};
    }

    /// Adds the scan's next band, outside whose head all is air.
    template <std::size_t rows>
    void add(const Band<rows>& band, Extent head) {
        const std::uint16_t air = band.level(0, 0);
        const LevelSpan levels = widen_head(band, head, least_.data(), greatest_.data());
        widen_air(air, head);
        bands_.push_back({static_cast<std::uint32_t>(head.begin), static_cast<std::uint32_t>(head.end), air, levels});
    }

    /// Adds the slices of another part of the scan, which follow on these.
    void add(const LevelSpans& other) {
        bands_.insert(bands_.end(), other.bands_.begin(), other.bands_.end());
        for (std::size_t x = 0; x < least_.size(); ++x) {
            least_[x] = std::min(least_[x], other.least_[x]);
            greatest_[x] = std::max(greatest_[x], other.greatest_[x]);
        }
    }

    /// Counts levels from `unused` on from now on; there is none below.
    void lower(std::uint16_t unused) noexcept {
        const auto lowered = [unused](std::uint16_t level) { return static_cast<std::uint16_t>(level - unused); };
        for (BandHead& band : bands_) {
            band.air = lowered(band.air);
            if (band.begin != band.end) band.levels = {lowered(band.levels.least), lowered(band.levels.greatest)};
        }
        for (std::uint16_t& level : least_) level = lowered(level);
        for (std::uint16_t& level : greatest_) level = lowered(level);
    }

    /// Slice by slice.
    const std::vector<BandHead>& bands() const noexcept { return bands_; }
    LevelSpan column(std::size_t x) const noexcept { return {least_[x], greatest_[x]}; }

  private:
    /// What columns before `begin` and from `end` on have seen.
    struct Air {
        std::uint16_t level;
        std::size_t begin;
        std::size_t end;
    };

    template <std::size_t rows>
    static LevelSpan widen_head(const Band<rows>& band, Extent head, std::uint16_t* __restrict least,
                                std::uint16_t* __restrict greatest) noexcept {
        const std::uint16_t flip = band.flip;
        std::array<const std::uint16_t*, rows> lines;
        for (std::size_t row = 0; row < rows; ++row) lines[row] = band.row(row);
        LevelSpan all;
        for (std::size_t x = head.begin; x < head.end; ++x) {
            std::uint16_t low = LevelSpan{}.least, high = LevelSpan{}.greatest;
            for (std::size_t row = 0; row < rows; ++row) {
                const auto level = static_cast<std::uint16_t>(lines[row][x] ^ flip);
                low = level < low ? level : low;
                high = level > high ? level : high;
            }
            least[x] = low < least[x] ? low : least[x];
            greatest[x] = high > greatest[x] ? high : greatest[x];
            all.least = low < all.least ? low : all.least;
            all.greatest = high > all.greatest ? high : all.greatest;
        }
        return all;
    }

    /// Adds a level to the columns outside a head.
    void widen_air(std::uint16_t level, Extent head) noexcept {
        if (level != air_.level) air_ = {level, 0, least_.size()};
        if (head.begin <= air_.begin && head.end >= air_.end) return;
        air_.begin = std::max(air_.begin, head.begin);
        air_.end = std::min(air_.end, head.end);
        for (std::size_t x = 0; x < least_.size(); ++x) {
            if (head.begin <= x && x < head.end) continue;
            least_[x] = std::min(least_[x], level);
            greatest_[x] = std::max(greatest_[x], level);
        }
    }

    std::vector<BandHead> bands_;
    std::vector<std::uint16_t> least_, greatest_;  ///< of each column
    Air air_{};
};

/// Where a scan has foreground in one of its channels.
struct Coverage {
    std::vector<bool> slices;  ///< of each, whether it has any
    Extent rows;
    Extent columns;

    void reset(const Voxels& voxels) {
        slices.assign(voxels.slices(), false);
        rows = columns = {0, 0};
    }

    /// Adds a channel of a scan of this size.
    ///
    /// @param row_of gives the levels of a slice's row
    template <typename RowOf>
    void add(const LevelSpans& spans, Background background, const Voxels& voxels, const RowOf& row_of) {
        const std::size_t height = voxels.rows(), width = voxels.columns();
        std::size_t slice = 0, row = 0;
        for (const BandHead& band : spans.bands()) {
            const std::size_t end = row + band_rows <= height ? row + band_rows : row + 1;
            LevelSpan levels = band.levels;
            if (band.end - band.begin < width) levels.add({band.air, band.air});
            if (levels.leaves(background)) {
                slices[slice] = true;
                for (; row < end; ++row) {
                    const bool known = rows.begin <= row && row < rows.end;
                    if (!known && row_of(slice, row).leaves(background)) rows.add(row);
                }
            }
            row = end == height ? 0 : end;
            slice += row == 0 ? 1 : 0;
        }
        for (std::size_t column = 0; column < width; ++column) {
            if (spans.column(column).leaves(background)) columns.add(column);
        }
    }
};

}  // namespace tumortrace
