// The borders of what a slice holds, as polygons that go between pixels.

#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "tumortrace/binarise.hpp"
#include "tumortrace/bitmask.hpp"
#include "tumortrace/runs.hpp"

namespace tumortrace {

/// (row, column) where four pixels meet: pixel (r, c) lies between corners (r, c) and (r + 1, c + 1).
using PixelCorner = std::array<std::int32_t, 2>;

/// Closed polygons, the last corner of each joined to its first.
struct Contours {
    struct Border {
        std::size_t end;  ///< one past its last corner, among those of all
        std::size_t run;  ///< one of the runs that it goes along
        bool hole;        ///< it goes around background
    };

    std::vector<PixelCorner> corners;
    std::vector<Border> borders;
};

/// Traces the borders of slices from their runs.
///
/// A border goes along the edges between mask and background, with the mask on its right where rows point down: those
/// around the mask clockwise, those of holes counter-clockwise. It has corners only where it turns, so that rows and
/// columns change in turns. Filled by the even-odd rule, the borders of a slice give its pixels again, every one.
class ContourTracer {
  public:
    /// Adds the borders of a slice, in the order of their first rows, then columns.
    ///
    /// @param joined whether pixels that share a corner alone have one border; else each has its own
    /// @param wanted tells by its index whether the part of the mask that a run belongs to is traced
    template <typename Wanted>
    void trace(const RunMask& mask, std::size_t slice, bool joined, const Wanted& wanted, Contours& found) {
        mask_ = &mask;
        top_ = slice * mask.rows();
        first_ = mask.first(top_);
        joined_ = joined;
        const std::size_t last = mask.last(top_ + mask.rows() - 1);
        rows_.clear();
        for (std::size_t row = top_; row < top_ + mask.rows(); ++row) {
            rows_.insert(rows_.end(), mask.last(row) - mask.first(row), row);
        }
        seen_.assign(2 * (last - first_), 0);
        for (std::size_t run = first_; run < last; ++run) {
            for (const bool right : {false, true}) {
                if (seen({run, right}) == 0 && wanted(run)) {
                    follow({run, right}, found);
                }
            }
        }
    }

  private:
    /// The left side of a run, which borders go up, or its right side, which they go down.
    struct Side {
        std::size_t run;
        bool right;

        bool operator==(const Side& other) const noexcept { return run == other.run && right == other.right; }
    };

    static constexpr std::size_t none = std::numeric_limits<std::size_t>::max();

    static std::ptrdiff_t offset(std::size_t index) noexcept { return static_cast<std::ptrdiff_t>(index); }

    /// The border that goes along a side that was not met yet. A border's first side is a left one, a hole's a right
    /// one.
    void follow(const Side start, Contours& found) {
        Side side = start;
        do {
            seen(side) = 1;
            const Side next = side.right ? below(side) : above(side);
            if (column(side) != column(next)) {
                const auto line = static_cast<std::int32_t>(row_of(side) - top_ + (side.right ? 1 : 0));
                found.corners.push_back({line, column(side)});
                found.corners.push_back({line, column(next)});
            }
            side = next;
        } while (!(side == start));
        found.borders.push_back({found.corners.size(), start.run, start.right});
    }

    /// The side that follows on a right one.
    Side below(const Side side) const noexcept {
        const std::size_t row = row_of(side);
        const std::uint16_t x = run_of(side).end;
        const std::size_t under = row + 1 < top_ + mask_->rows() ? first_that_reaches(row + 1, x) : none;
        if (under == none || runs()[under].begin > x || (runs()[under].begin == x && !joined_)) {
            return west(side.run, row, x);
        }
        return runs()[under].end == x ? Side{under, true} : east(under, row + 1, x);
    }

    /// The side that follows on a left one.
    Side above(const Side side) const noexcept {
        const std::size_t row = row_of(side);
        const std::uint16_t x = run_of(side).begin;
        const std::size_t over = row > top_ ? first_that_reaches(row - 1, x) : none;
        if (over == none || runs()[over].begin > x || (runs()[over].end == x && !joined_)) {
            return east(side.run, row, x);
        }
        return runs()[over].begin == x ? Side{over, false} : west(over, row - 1, x);
    }

    /// The side at the end of the way from column `x` to the east, along the top of a run.
    Side east(std::size_t run, std::size_t row, std::uint16_t x) const noexcept {
        const std::uint16_t end = runs()[run].end;
        if (row > top_) {
            std::size_t over = first_that_reaches(row - 1, x);
            over += over != none && runs()[over].end == x ? 1 : 0;
            if (over != none && over != mask_->last(row - 1)) {
                const std::uint16_t begin = runs()[over].begin;
                if (begin < end || (begin == end && joined_)) {
                    return {over, false};
                }
            }
        }
        return {run, true};
    }

    /// The side at the end of the way from column `x` to the west, along the bottom of a run.
    Side west(std::size_t run, std::size_t row, std::uint16_t x) const noexcept {
        const std::uint16_t begin = runs()[run].begin;
        if (row + 1 < top_ + mask_->rows()) {
            const std::size_t reaching = first_that_reaches(row + 1, x);
            const std::size_t after = reaching == none ? mask_->last(row + 1) : reaching;
            if (after != mask_->first(row + 1)) {
                const std::uint16_t end = runs()[after - 1].end;
                if (end > begin || (end == begin && joined_)) {
                    return {after - 1, true};
                }
            }
        }
        return {run, false};
    }

    /// The first run of a row that ends at column `x` or after it.
    std::size_t first_that_reaches(std::size_t row, std::uint16_t x) const noexcept {
        const auto start = runs().begin() + offset(mask_->first(row)), stop = runs().begin() + offset(mask_->last(row));
        const auto found = std::lower_bound(start, stop, x, [](Run run, std::uint16_t end) { return run.end < end; });
        return found == stop ? none : static_cast<std::size_t>(found - runs().begin());
    }

    const std::vector<Run>& runs() const noexcept { return mask_->runs(); }
    Run run_of(const Side& side) const noexcept { return runs()[side.run]; }
    std::size_t row_of(const Side& side) const noexcept { return rows_[side.run - first_]; }
    std::uint8_t& seen(const Side& side) noexcept { return seen_[2 * (side.run - first_) + (side.right ? 1 : 0)]; }
    std::int32_t column(const Side& side) const noexcept { return side.right ? run_of(side).end : run_of(side).begin; }

    const RunMask* mask_ = nullptr;
    std::size_t top_ = 0;    ///< first row of the slice
    std::size_t first_ = 0;  ///< its first run
    bool joined_ = true;
    std::vector<std::size_t> rows_;   ///< of every run of the slice
    std::vector<std::uint8_t> seen_;  ///< for both sides of every run of the slice, whether a border goes along it
};

/// The borders of one image, whose pixels belong together where they share a corner.
///
/// @param image (rows, columns), 1 to 65535 of each; not 0 is mask
inline Contours mask_contours(const std::uint8_t* image, std::size_t rows, std::size_t columns) {
    BitSlice bits;
    bits.reset(rows, columns);
    for (std::size_t y = 0; y < rows; ++y) {
        bits.set_filled(y, ByteMask().pack({image + y * columns, columns}, bits.row(y)).filled);
    }
    RunMask mask;
    mask.reset(rows, columns);
    mask.append(bits);
    Contours found;
    ContourTracer().trace(mask, 0, true, [](std::size_t) { return true; }, found);
    return found;
}

}  // namespace tumortrace
