// Where in a scan there is a head: which slices, and which part of them.

#pragma once

#include <algorithm>
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
    bool leaves(Background background, std::size_t lowered) const noexcept {
        return least < background.begin + lowered || greatest >= background.end + lowered;
    }
};

/// The levels of each slice of one channel, of each row over all slices, and of each column.
class LevelSpans {
  public:
    /// Starts anew, for slices of this size.
    void reset(const Voxels& voxels) {
        rows_.assign(voxels.rows(), LevelSpan{});
        slices_.clear();
        slices_.reserve(voxels.slices());
        least_.assign(voxels.columns(), LevelSpan{}.least);
        greatest_.assign(voxels.columns(), LevelSpan{}.greatest);
        lowered_ = 0;
        air_ = {0, 0, voxels.columns()};
    }

    /// Adds the next rows of the scan, of which the first is row `y` of its slice.
    template <std::size_t rows>
    void add(const Band<rows>& band, std::size_t y) {
        if (y == 0) slices_.emplace_back();
        for (std::size_t row = 0; row < rows; ++row) {
            LevelSpan span = span_of(band.row(row) + band.begin, band.end - band.begin);
            if (band.begin != 0 || band.end != band.columns) span.add({band.air, band.air});
            rows_[y + row].add(span);
            slices_.back().add(span);
        }
        widen_head(band, least_.data(), greatest_.data());
        widen_air(band.air, band.begin, band.end);
    }

    /// Adds the slices of another part of the scan, which follow on these.
    void add(const LevelSpans& other) {
        for (std::size_t y = 0; y < rows_.size(); ++y) rows_[y].add(other.rows_[y]);
        slices_.insert(slices_.end(), other.slices_.begin(), other.slices_.end());
        for (std::size_t x = 0; x < least_.size(); ++x) {
            least_[x] = std::min(least_[x], other.least_[x]);
            greatest_[x] = std::max(greatest_[x], other.greatest_[x]);
        }
    }

    /// Says that levels are counted from `unused` on now.
    void lower(std::size_t unused) noexcept { lowered_ = unused; }

    bool slice_leaves(std::size_t slice, Background background) const noexcept {
        return slices_[slice].leaves(background, lowered_);
    }
    bool row_leaves(std::size_t row, Background background) const noexcept {
        return rows_[row].leaves(background, lowered_);
    }
    bool column_leaves(std::size_t column, Background background) const noexcept {
        return LevelSpan{least_[column], greatest_[column]}.leaves(background, lowered_);
    }

  private:
    /// What columns before `begin` and from `end` on have seen.
    struct Air {
        std::uint16_t level;
        std::size_t begin;
        std::size_t end;
    };

    template <std::size_t rows>
    static void widen_head(const Band<rows>& band, std::uint16_t* __restrict least,
                           std::uint16_t* __restrict greatest) noexcept {
        const std::uint16_t* __restrict levels = band.levels;
        const std::size_t columns = band.columns, end = band.end;
        for (std::size_t x = band.begin; x < end; ++x) {
            std::uint16_t low = least[x], high = greatest[x];
            for (std::size_t row = 0; row < rows; ++row) {
                const std::uint16_t level = levels[row * columns + x];
                low = level < low ? level : low;
                high = level > high ? level : high;
            }
            least[x] = low;
            greatest[x] = high;
        }
    }

    /// Adds one level to the columns before `begin` and to those from `end` on.
    void widen_air(std::uint16_t level, std::size_t begin, std::size_t end) noexcept {
        if (level != air_.level) air_ = {level, 0, least_.size()};
        if (begin <= air_.begin && end >= air_.end) return;
        air_.begin = std::max(air_.begin, begin);
        air_.end = std::min(air_.end, end);
        for (std::size_t x = 0; x < least_.size(); ++x) {
            if (begin <= x && x < end) continue;
            least_[x] = std::min(least_[x], level);
            greatest_[x] = std::max(greatest_[x], level);
        }
    }

    static LevelSpan span_of(const std::uint16_t* levels, std::size_t columns) noexcept {
        LevelSpan span;
        for (std::size_t x = 0; x < columns; ++x) {
            span.least = levels[x] < span.least ? levels[x] : span.least;
            span.greatest = levels[x] > span.greatest ? levels[x] : span.greatest;
        }
        return span;
    }

    std::vector<LevelSpan> rows_;
    std::vector<LevelSpan> slices_;
    std::vector<std::uint16_t> least_, greatest_;
    std::size_t lowered_ = 0;
    Air air_{};
};

/// From `begin` to `end` - 1; empty where they are the same.
struct Extent {
    std::size_t begin;
    std::size_t end;

    void add(std::size_t index) noexcept {
        begin = begin == end ? index : std::min(begin, index);
        end = std::max(end, index + 1);
    }
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
    void add(const LevelSpans& spans, Background background, const Voxels& voxels) {
        for (std::size_t slice = 0; slice < voxels.slices(); ++slice) {
            if (spans.slice_leaves(slice, background)) slices[slice] = true;
        }
        for (std::size_t row = 0; row < voxels.rows(); ++row) {
            if (spans.row_leaves(row, background)) rows.add(row);
        }
        for (std::size_t column = 0; column < voxels.columns(); ++column) {
            if (spans.column_leaves(column, background)) columns.add(column);
        }
    }
};

}  // namespace tumortrace
