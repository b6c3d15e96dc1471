// A slice of what a network gives, decided, cleaned, and kept as runs.

#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <vector>

#include "tumortrace/binarise.hpp"
#include "tumortrace/bitmask.hpp"
#include "tumortrace/components.hpp"
#include "tumortrace/confidence.hpp"
#include "tumortrace/holes.hpp"
#include "tumortrace/morphology.hpp"
#include "tumortrace/runs.hpp"

namespace tumortrace {

/// What follows the threshold, in this order: opening and closing with a disk, hole filling, each in every slice by
/// itself; then removal of small components of the scan.
struct Cleaning {
    std::size_t opening_px = 0;  ///< radius of the disk; 0 for none
    std::size_t closing_px = 0;  ///< radius of the disk; 0 for none
    bool fill_holes = false;
    std::size_t min_lesion_voxels = 0;  ///< components of fewer voxels are removed
    Connectivity connectivity = Connectivity::corners_3d;
};

/// What is kept of slices.
struct CleanedSlices {
    RunMask mask;
    std::vector<ProbabilitySum> sums;  ///< of every run's voxels, where a temperature was given

    /// Starts anew, without slices, with room for some.
    void reset(const VolumeShape& shape, bool with_sums) {
        constexpr std::size_t usual_runs = 2;  // of a row; more are made room for where they are met
        const std::size_t runs = usual_runs * shape.slices * shape.rows;
        mask.reset(shape.rows, shape.columns);
        mask.reserve(shape.slices, runs);
        sums.clear();
        sums.reserve(with_sums ? runs : 0);
    }

    /// Adds other slices.
    void append(const CleanedSlices& others) {
        mask.append(others.mask);
        sums.insert(sums.end(), others.sums.begin(), others.sums.end());
    }
};

/// Cleans one slice after the other. Slices are independent of each other: several threads take one cleaner each.
class SliceCleaner {
  public:
    /// Makes ready for slices of one size.
    ///
    /// @param temperature what logits are divided by, positive, where probabilities are to be summed
    void prepare(std::size_t rows, std::size_t columns, const Cleaning& cleaning, std::optional<float> temperature) {
        // A larger disk reaches no further than from corner to corner.
        const std::size_t most = rows + columns;
        bits_.reset(rows, columns);
        make_disk(opening_, std::min(cleaning.opening_px, most));
        make_disk(closing_, std::min(cleaning.closing_px, most));
        fill_holes_ = cleaning.fill_holes;
        temperature_ = temperature;
    }

    /// Adds a slice.
    ///
    /// @param kind   FloatLogits, HalfLogits, QuantisedLogits, ClassLogits or ByteMask
    /// @param row_of gives row y of the slice, a ClassRow
    /// @return how many values are NaN; if any are, the slice is background
    template <typename Kind, typename RowOf>
    std::size_t add_slice(const Kind& kind, const RowOf& row_of, CleanedSlices& kept) {
        bool filled = false;
        std::size_t nan = 0;
        for (std::size_t y = 0; y < bits_.rows(); ++y) {
            const auto row = row_of(y);
            const RowContent content = kind.pack(row, bits_.row(y));
            bits_.set_filled(y, content.filled);
            filled = filled || content.filled;
            nan += content.nan ? kind.count_nan(row) : 0;
        }
        if (nan != 0 || !filled) {
            kept.mask.append_empty();
            return nan;
        }
        clean(kept.mask);
        if constexpr (Kind::has_logits) {
            if (temperature_) {
                sum_probabilities(kind, row_of, kept);
            }
        }
        return 0;
    }

  private:
    static void make_disk(Element& element, std::size_t radius_px) {
        if (element.radius_px() != radius_px) {
            element = Element::disk(radius_px);
        }
    }

    void clean(RunMask& mask) {
        if (opening_.radius_px() != 0) {
            morphology_.open(bits_, opening_);
        }
        if (closing_.radius_px() != 0) {
            morphology_.close(bits_, closing_);
        }
        mask.append(bits_);
        if (fill_holes_) {
            holes_.fill_last_slice(mask);
        }
    }

    /// Of the runs of the last slice.
    template <typename Kind, typename RowOf>
    void sum_probabilities(const Kind& kind, const RowOf& row_of, CleanedSlices& kept) const {
        const RunMask& mask = kept.mask;
        const float inverse = 1.0F / *temperature_;
        const std::size_t start = (mask.slices() - 1) * mask.rows();
        for (std::size_t y = 0; y < mask.rows(); ++y) {
            const std::size_t first = mask.first(start + y), last = mask.last(start + y);
            if (first == last) {
                continue;
            }
            const auto* const values = row_of(y).values;
            for (std::size_t run = first; run < last; ++run) {
                kept.sums.push_back(sum_of(mask.runs()[run].begin, mask.runs()[run].end, inverse,
                                           [&](std::size_t x) { return kind.logit(values[x]); }));
            }
        }
    }

    BitSlice bits_;
    Morphology morphology_;
    HoleFiller holes_;
    Element opening_ = Element::disk(0);
    Element closing_ = Element::disk(0);
    bool fill_holes_ = false;
    std::optional<float> temperature_;
};

}  // namespace tumortrace
