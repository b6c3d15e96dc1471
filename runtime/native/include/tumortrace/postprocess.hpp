// From what a network gives to labelled lesions, in one pass over the scan.

#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>

#include "tumortrace/binarise.hpp"
#include "tumortrace/bitmask.hpp"
#include "tumortrace/components.hpp"
#include "tumortrace/holes.hpp"
#include "tumortrace/lesions.hpp"
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

/// What is measured of lesions besides voxels, centroid and bounding box.
struct Measurements {
    std::optional<float> temperature;               ///< confidence, of logits divided by this; positive
    std::optional<std::array<double, 2>> pixel_mm;  ///< diameters, where a pixel has this height and width; positive
};

/// Refuses a shape whose voxels cannot be counted, or that has none.
///
/// @throws std::invalid_argument an extent is 0 or above 65535, or there are more than 2^32 voxels
inline void check_shape(const VolumeShape& shape) {
    constexpr std::uint64_t most = std::uint64_t{1} << 32;
    const std::uint64_t extents[] = {shape.slices, shape.rows, shape.columns};
    std::uint64_t voxels = 1;
    bool fits = true;
    for (const std::uint64_t extent : extents) {
        fits = fits && 1 <= extent && extent <= max_extent;
        voxels *= fits ? extent : 1;
    }
    if (!fits || voxels > most) {
        throw std::invalid_argument("a scan of " + std::to_string(shape.slices) + " slices, " +
                                    std::to_string(shape.rows) + " rows and " + std::to_string(shape.columns) +
                                    " columns given; 1 to 65535 of each and at most 2^32 voxels wanted.");
    }
}

/// Cleans one slice after the other. Slices are independent of each other: several threads take one cleaner each.
class SliceCleaner {
  public:
    /// Makes ready for slices of one shape.
    void prepare(const VolumeShape& shape, const Cleaning& cleaning) {
        // A larger disk reaches no further than from corner to corner.
        const std::size_t most = shape.rows + shape.columns;
        bits_.reset(shape.rows, shape.columns);
        make_disk(opening_, std::min(cleaning.opening_px, most));
        make_disk(closing_, std::min(cleaning.closing_px, most));
        fill_holes_ = cleaning.fill_holes;
    }

    /// Adds a slice to `mask`, cleaned. Returns whether a value is NaN.
    template <typename Source>
    bool add_slice(const Source& source, std::size_t slice, RunMask& mask) {
        const RowContent content = pack(source, slice);
        if (!content.filled) {
            mask.append_empty();
            return content.nan;
        }
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
        return content.nan;
    }

  private:
    static void make_disk(Element& element, std::size_t radius_px) {
        if (element.radius_px() != radius_px) {
            element = Element::disk(radius_px);
        }
    }

    template <typename Source>
    RowContent pack(const Source& source, std::size_t slice) {
        RowContent content{false, false};
        for (std::size_t y = 0; y < bits_.rows(); ++y) {
            const RowContent row = source.pack(slice * bits_.rows() + y, bits_.columns(), bits_.row(y));
            bits_.set_filled(y, row.filled);
            content.filled = content.filled || row.filled;
            content.nan = content.nan || row.nan;
        }
        return content;
    }

    BitSlice bits_;
    Morphology morphology_;
    HoleFiller holes_;
    Element opening_ = Element::disk(0);
    Element closing_ = Element::disk(0);
    bool fill_holes_ = false;
};

/// Segments scans, one at a time. Keeps its buffers: a scan like one before, with no more runs of pixels and lesions,
/// is segmented without allocating.
class Postprocessor {
  public:
    explicit Postprocessor(const Cleaning& cleaning) : cleaning_(cleaning) {}

    /// Segments a scan.
    ///
    /// @param source FloatLogits, HalfLogits, QuantisedLogits, ClassLogits or ByteMask, of `shape`
    /// @return how many values are NaN; if any are, there is no result
    /// @throws std::invalid_argument as `check_shape`, or confidence is asked for of a source without logits
    template <typename Source>
    std::size_t segment(const Source& source, const VolumeShape& shape, const Measurements& measurements = {}) {
        check_shape(shape);
        if (measurements.temperature && !Source::has_logits) {
            throw std::invalid_argument("confidence is asked for; only logits of one class have one.");
        }
        prepare(shape);
        bool nan = false;
        for (std::size_t slice = 0; slice < shape.slices; ++slice) {
            nan = cleaner_.add_slice(source, slice, mask_) || nan;
        }
        if (nan) {
            return source.count_nan(shape.slices * shape.rows * shape.columns);
        }
        finder_.find(mask_, cleaning_.connectivity, cleaning_.min_lesion_voxels);
        if constexpr (Source::has_logits) {
            if (measurements.temperature) {
                finder_.measure_confidence(mask_, source, *measurements.temperature);
            }
        }
        if (measurements.pixel_mm) {
            finder_.measure_diameters(mask_, cleaning_.connectivity, *measurements.pixel_mm);
        }
        return 0;
    }

    /// Largest first; of equal ones that whose first voxel comes first.
    const std::vector<Lesion>& lesions() const noexcept { return finder_.lesions(); }

    /// Sets the lesions' voxels to 1, and leaves all others as they are.
    ///
    /// @param mask (slices, rows, columns)
    void paint_mask(std::uint8_t* mask) const noexcept {
        paint(mask, [](std::uint32_t) { return std::uint8_t{1}; });
    }

    /// Sets the lesions' voxels to the lesion's place in `lesions()`, from 1 on, and leaves all others as they are.
    ///
    /// @param labels (slices, rows, columns)
    void paint_labels(std::uint32_t* labels) const noexcept {
        paint(labels, [](std::uint32_t label) { return label; });
    }

  private:
    void prepare(const VolumeShape& shape) {
        constexpr std::size_t usual_runs = 2;  // of a row; more are made room for where they are met
        cleaner_.prepare(shape, cleaning_);
        mask_.reset(shape.rows, shape.columns);
        mask_.reserve(shape.slices, usual_runs * shape.slices * shape.rows);
    }

    template <typename Value, typename ValueOf>
    void paint(Value* volume, ValueOf value_of) const noexcept {
        finder_.for_each_run(mask_, [&](std::size_t index, std::size_t row) {
            const Run run = mask_.runs()[index];
            Value* const voxels = volume + row * mask_.columns();
            std::fill(voxels + run.begin, voxels + run.end, value_of(finder_.labels()[index]));
        });
    }

    Cleaning cleaning_;
    SliceCleaner cleaner_;
    RunMask mask_;
    LesionFinder finder_;
};

}  // namespace tumortrace
