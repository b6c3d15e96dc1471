// Connected components of a mask, found on its runs.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tumortrace/runs.hpp"
#include "tumortrace/union_find.hpp"

namespace tumortrace {

/// Which pixels of a slice, or voxels of a scan, belong together, by the number of neighbours of each.
enum class Connectivity {
    edges_2d = 4,     ///< pixels of a slice that share an edge
    corners_2d = 8,   ///< or a corner
    faces_3d = 6,     ///< voxels that share a face
    edges_3d = 18,    ///< or an edge
    corners_3d = 26,  ///< or a corner
};

/// Numbers components from 0 on in the order of their first voxels. Allocates only for more runs than ever before.
class ComponentFinder {
  public:
    /// Returns the number of components.
    std::uint32_t find(const RunMask& mask, Connectivity connectivity) {
        sets_.reset(mask.runs().size());
        const Reach reach = reach_of(connectivity);
        mask.for_each_filled_row([&](std::size_t row) { connect_row(mask, row, reach); });
        return number();
    }

    /// The component of every run.
    const std::vector<std::uint32_t>& components() const noexcept { return components_; }

  private:
    /// How many columns runs of neighbouring rows may be apart, 1 meaning that they touch at a corner; or `never`.
    struct Reach {
        int in_slice;
        int across;
        int across_and_up;
    };

    static constexpr int never = -1;

    static Reach reach_of(Connectivity connectivity) noexcept {
        switch (connectivity) {
            case Connectivity::edges_2d:
                return {0, never, never};
            case Connectivity::corners_2d:
                return {1, never, never};
            case Connectivity::faces_3d:
                return {0, 0, never};
            case Connectivity::edges_3d:
                return {1, 1, 0};
            case Connectivity::corners_3d:
                break;
        }
        return {1, 1, 1};
    }

    /// Connects a row with the neighbours that come before it in the scan.
    void connect_row(const RunMask& mask, std::size_t row, const Reach& reach) noexcept {
        const std::size_t y = row % mask.rows();
        if (y != 0) {
            connect(mask, row, row - 1, reach.in_slice);
        }
        if (row >= mask.rows()) {
            const std::size_t before = row - mask.rows();
            connect(mask, row, before, reach.across);
            if (y != 0) {
                connect(mask, row, before - 1, reach.across_and_up);
            }
            if (y + 1 != mask.rows()) {
                connect(mask, row, before + 1, reach.across_and_up);
            }
        }
    }

    void connect(const RunMask& mask, std::size_t row, std::size_t other_row, int reach) noexcept {
        if (reach == never) {
            return;
        }
        const auto& runs = mask.runs();
        std::size_t one = mask.first(row), other = mask.first(other_row);
        const std::size_t one_stop = mask.last(row), other_stop = mask.last(other_row);
        while (one < one_stop && other < other_stop) {
            if (runs[one].begin < runs[other].end + reach && runs[other].begin < runs[one].end + reach) {
                sets_.unite(static_cast<std::uint32_t>(one), static_cast<std::uint32_t>(other));
            }
            if (runs[one].end < runs[other].end) {
                ++one;
            } else {
                ++other;
            }
        }
    }

    /// A set's least run comes before its others, and so do their numbers.
    std::uint32_t number() {
        std::uint32_t count = 0;
        const std::size_t runs = sets_.size();
        components_.resize(runs);
        for (std::uint32_t run = 0; run < runs; ++run) {
            const std::uint32_t least = sets_.find(run);
            components_[run] = least == run ? count++ : components_[least];
        }
        return count;
    }

    UnionFind sets_;
    std::vector<std::uint32_t> components_;
};

}  // namespace tumortrace
