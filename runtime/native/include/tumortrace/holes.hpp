// Filling holes: background from which no path of 4-connected background pixels leads out of its slice.

#pragma once

#include <cstddef>
#include <cstdint>

#include "tumortrace/runs.hpp"
#include "tumortrace/union_find.hpp"

namespace tumortrace {

/// Fills holes of slices. Only gaps, the background between two runs of a row, can be parts of one: the rest leads out
/// along its row.
class HoleFiller {
  public:
    /// Fills the holes of the slice that was added last.
    void fill_last_slice(RunMask& mask) {
        const std::size_t stop = mask.slices() * mask.rows(), start = stop - mask.rows();
        origin_ = mask.first(start);
        if (!has_gaps(mask, start, stop)) {
            return;
        }
        sets_.reset(mask.last(stop - 1) - origin_ + 1);
        for (std::size_t row = start; row < stop; ++row) {
            if (mask.first(row) == mask.last(row)) {
                continue;
            }
            sets_.unite(outside, number(mask.last(row) - 1));
            for (std::size_t gap = mask.first(row); gap + 1 < mask.last(row); ++gap) {
                const bool leads_out =
                    row == start || leaves(mask, gap, row - 1) || row + 1 == stop || leaves(mask, gap, row + 1);
                if (leads_out) {
                    sets_.unite(outside, number(gap));
                }
            }
            if (row != start) {
                connect(mask, row);
            }
        }
        mask.join_in_last_slice([&](std::size_t run) { return sets_.find(number(run)) != outside; });
    }

  private:
    static constexpr std::uint32_t outside = 0;

    static bool has_gaps(const RunMask& mask, std::size_t start, std::size_t stop) noexcept {
        for (std::size_t row = start; row < stop; ++row) {
            if (mask.last(row) - mask.first(row) > 1) {
                return true;
            }
        }
        return false;
    }

    /// Whether part of a gap has the background before the first or after the last run of another row beside it.
    static bool leaves(const RunMask& mask, std::size_t gap, std::size_t other) noexcept {
        const auto& runs = mask.runs();
        return mask.first(other) == mask.last(other) || runs[gap].end < runs[mask.first(other)].begin ||
               runs[gap + 1].begin > runs[mask.last(other) - 1].end;
    }

    /// Unites the gaps of a row with those of the row before that share a column.
    void connect(const RunMask& mask, std::size_t row) noexcept {
        const auto& runs = mask.runs();
        std::size_t gap = mask.first(row), above = mask.first(row - 1);
        while (gap + 1 < mask.last(row) && above + 1 < mask.last(row - 1)) {
            if (runs[gap].end < runs[above + 1].begin && runs[above].end < runs[gap + 1].begin) {
                sets_.unite(number(gap), number(above));
            }
            if (runs[gap + 1].begin < runs[above + 1].begin) {
                ++gap;
            } else {
                ++above;
            }
        }
    }

    /// The gap after a run, in the sets. After the last run of a row is no gap, but the outside.
    std::uint32_t number(std::size_t run) const noexcept { return static_cast<std::uint32_t>(run - origin_ + 1); }

    std::size_t origin_ = 0;
    UnionFind sets_;
};

}  // namespace tumortrace
