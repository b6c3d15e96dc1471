// From what a network gives to labelled lesions, in one pass over the scan.

#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "tumortrace/binarise.hpp"
#include "tumortrace/bitmask.hpp"
#include "tumortrace/cleaning.hpp"
#include "tumortrace/grid.hpp"
#include "tumortrace/lesion_runs.hpp"
#include "tumortrace/lesions.hpp"
#include "tumortrace/own_grid.hpp"
#include "tumortrace/runs.hpp"
#include "tumortrace/thread_pool.hpp"

namespace tumortrace {

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

namespace detail {

inline std::string to_string(const Size& size) {
    return std::to_string(size.rows) + "x" + std::to_string(size.columns) + " px";
}

}  // namespace detail

/// Refuses a placement that no window of a grid is.
///
/// @throws std::invalid_argument the slices are empty on the grid, reach beyond it, or the grid is wider than 65535
inline void check_placement(const Placement& placement) {
    const auto fits = [](std::size_t offset, std::size_t scaled, std::size_t grid) {
        return 1 <= scaled && scaled <= grid && grid <= max_extent && offset <= grid - scaled;
    };
    const auto& [scan, scaled, offset, grid] = placement;
    if (!fits(offset.rows, scaled.rows, grid.rows) || !fits(offset.columns, scaled.columns, grid.columns)) {
        throw std::invalid_argument("slices of " + detail::to_string(scaled) + " at (" + std::to_string(offset.rows) +
                                    ", " + std::to_string(offset.columns) + ") do not lie on a grid of " +
                                    detail::to_string(grid) + ".");
    }
}

/// Segments scans, one at a time: all at once, or slices as they come. Of a slice that was added, its cleaned runs are
/// kept and nothing else.
///
/// Keeps its buffers: a scan like one before, with no more runs of pixels and lesions, is segmented without allocating.
/// After an error there is no scan until the next one is begun.
class Postprocessor {
  public:
    /// @param threads that share the slices of every `add`; results do not depend on it
    /// @throws std::invalid_argument as `ThreadPool`
    explicit Postprocessor(const Cleaning& cleaning, std::size_t threads = 1)
        : cleaning_(cleaning), pool_(threads), workers_(threads) {}

    /// Begins a scan.
    ///
    /// @param slices    how many it has
    /// @param placement where they lie in what the network gives
    /// @throws std::invalid_argument as `check_shape` and `check_placement`
    void begin(std::size_t slices, const Placement& placement, const Measurements& measurements = {}) {
        stage_ = Stage::none;
        shape_ = {slices, placement.scan.rows, placement.scan.columns};
        check_shape(shape_);
        check_placement(placement);
        placement_ = placement;
        measurements_ = measurements;
        for (Worker& worker : workers_) {
            worker.cleaner.prepare(shape_.rows, shape_.columns, cleaning_, measurements.temperature);
            if (resamples()) {
                worker.resampler.set(placement);
            }
        }
        kept_.reset(shape_, measurements.temperature.has_value());
        stage_ = Stage::begun;
    }

    /// Adds the next slices. They are read where they are, and not kept.
    ///
    /// @param kind what the values are: FloatLogits, HalfLogits, QuantisedLogits, ClassLogits or ByteMask
    /// @return how many values are NaN; if any are, there is no scan any more
    /// @throws std::invalid_argument there are more slices than begun, they lie on another grid, confidence is asked
    /// for
    ///     of what is no logits of one class, or a mask would have to be resampled
    template <typename Kind>
    std::size_t add(const Kind& kind, const Output<typename Kind::Value>& output) {
        take(output.slices);
        check_grid(output.grid);
        if (measurements_.temperature && !Kind::has_logits) {
            throw std::invalid_argument("confidence is asked for; only logits of one class have one.");
        }
        const std::size_t parts = pool_.share(output.slices, [&](std::size_t part, std::size_t begin, std::size_t end) {
            add_part(kind, output, begin, end, workers_[part], part == 0 ? kept_ : workers_[part].kept);
        });
        std::size_t nan = 0;
        for (std::size_t part = 0; part < parts; ++part) {
            nan += workers_[part].nan;
            if (part != 0) {
                kept_.append(workers_[part].kept);
            }
        }
        stage_ = nan == 0 ? Stage::begun : Stage::none;
        return nan;
    }

    /// Adds slices of background.
    ///
    /// @throws std::invalid_argument there are more than begun
    void skip(std::size_t slices) {
        take(slices);
        for (std::size_t slice = 0; slice < slices; ++slice) {
            kept_.mask.append_empty();
        }
        stage_ = Stage::begun;
    }

    /// Finds and measures the lesions of the scan, all of whose slices were added.
    ///
    /// @throws std::invalid_argument slices are missing
    void finish() {
        take(0);
        const std::size_t added = kept_.mask.slices();
        if (added != shape_.slices) {
            throw std::invalid_argument(std::to_string(added) + " of " + std::to_string(shape_.slices) +
                                        " slices were added; all of them wanted.");
        }
        finder_.find(kept_.mask, cleaning_.connectivity, cleaning_.min_lesion_voxels);
        if (measurements_.temperature) {
            finder_.measure_confidence(kept_.sums);
        }
        if (measurements_.pixel_mm) {
            finder_.measure_diameters(kept_.mask, cleaning_.connectivity, *measurements_.pixel_mm);
        }
        stage_ = Stage::finished;
    }

    /// Segments a whole scan that is given on its own grid: `begin`, `add` and `finish`.
    ///
    /// @param values of `classes` classes: (slices, classes, rows, columns)
    /// @return how many values are NaN; if any are, there is no result
    template <typename Kind>
    std::size_t segment(const Kind& kind, const typename Kind::Value* values, const VolumeShape& shape,
                        const Measurements& measurements = {}, std::size_t classes = 1) {
        const Size size{shape.rows, shape.columns};
        begin(shape.slices, {size, size, {0, 0}, size}, measurements);
        const std::size_t nan = add(kind, {values, shape.slices, classes, size});
        if (nan == 0) {
            finish();
        }
        return nan;
    }

    /// Of the scan that was begun last.
    const VolumeShape& shape() const noexcept { return shape_; }
    const Placement& placement() const noexcept { return placement_; }

    /// Slices that were added to it so far; none after an error.
    std::size_t added() const noexcept { return stage_ == Stage::none ? 0 : kept_.mask.slices(); }

    /// Sets the pixels of one of the slices that were added to 1, and leaves all others as they are. Small components
    /// of the scan are among them, for which are small only the whole scan tells.
    ///
    /// @param image (rows, columns)
    void paint_slice(std::size_t slice, std::uint8_t* image) const noexcept {
        const RunMask& mask = kept_.mask;
        for (std::size_t y = 0; y < mask.rows(); ++y) {
            const std::size_t row = slice * mask.rows() + y;
            for (std::size_t run = mask.first(row); run < mask.last(row); ++run) {
                std::fill(image + y * mask.columns() + mask.runs()[run].begin,
                          image + y * mask.columns() + mask.runs()[run].end, std::uint8_t{1});
            }
        }
    }

    /// Of the scan that was finished: largest first; of equal ones that whose first voxel comes first.
    const std::vector<Lesion>& lesions() const noexcept { return finder_.lesions(); }

    /// A copy of them as runs.
    ///
    /// @throws std::invalid_argument no scan is finished
    LesionRuns runs() const {
        if (stage_ != Stage::finished) {
            throw std::invalid_argument("no scan is finished.");
        }
        return {shape_, kept_.mask, finder_.labels(), cleaning_.connectivity != Connectivity::faces_3d};
    }

    /// Sets the voxels of the lesions of the scan that was finished to 1, and leaves all others as they are.
    ///
    /// @param mask (slices, rows, columns)
    void paint_mask(std::uint8_t* mask) const noexcept {
        paint(mask, [](std::uint32_t) { return std::uint8_t{1}; });
    }

    /// Sets them to the lesion's place in `lesions()`, from 1 on, and leaves all others as they are.
    ///
    /// @param labels (slices, rows, columns)
    void paint_labels(std::uint32_t* labels) const noexcept {
        paint(labels, [](std::uint32_t label) { return label; });
    }

  private:
    enum class Stage { none, begun, finished };

    /// Makes sure that the next slices are wanted. Until they are there, there is no scan.
    void take(std::size_t slices) {
        if (stage_ != Stage::begun) {
            throw std::invalid_argument("no scan is begun.");
        }
        const std::size_t left = shape_.slices - added();
        stage_ = Stage::none;
        if (slices > left) {
            throw std::invalid_argument(std::to_string(slices) + " slices given; at most " + std::to_string(left) +
                                        " of " + std::to_string(shape_.slices) + " are left to be added.");
        }
    }

    void check_grid(const Size& grid) const {
        if (!(grid == placement_.grid)) {
            throw std::invalid_argument("slices on a grid of " + detail::to_string(grid) + " given; " +
                                        detail::to_string(placement_.grid) + " wanted.");
        }
    }

    bool resamples() const noexcept { return !(placement_.scaled == placement_.scan); }

    /// What a thread needs for itself.
    struct Worker {
        SliceCleaner cleaner;
        WindowResampler resampler;
        CleanedSlices kept;  ///< of all threads but the first, whose are the scan's
        std::size_t nan;
    };

    template <typename Kind>
    void add_part(const Kind& kind, const Output<typename Kind::Value>& output, std::size_t begin, std::size_t end,
                  Worker& worker, CleanedSlices& kept) const {
        if (&kept == &worker.kept) {
            kept.reset({end - begin, shape_.rows, shape_.columns}, measurements_.temperature.has_value());
        }
        worker.nan = 0;
        for (std::size_t slice = begin; slice < end; ++slice) {
            worker.nan += resamples() ? add_resampled(kind, output, slice, worker, kept)
                                      : add_window(kind, output, slice, worker, kept);
        }
    }

    template <typename Kind>
    std::size_t add_window(const Kind& kind, const Output<typename Kind::Value>& output, std::size_t slice,
                           Worker& worker, CleanedSlices& kept) const {
        const auto row_of = [&](std::size_t y) { return window_row(output, placement_, slice, y); };
        return worker.cleaner.add_slice(kind, row_of, kept);
    }

    template <typename Kind>
    static std::size_t add_resampled(const Kind& kind, const Output<typename Kind::Value>& output, std::size_t slice,
                                     Worker& worker, CleanedSlices& kept) {
        if constexpr (std::is_same_v<Kind, ByteMask>) {
            throw std::invalid_argument(
                "a mask cannot be brought back to a grid of another size; export with --output logits.");
        } else {
            WindowResampler& resampler = worker.resampler;
            resampler.begin_slice(kind, output, slice);
            return worker.cleaner.add_slice(kind.of_floats(), [&](std::size_t y) { return resampler.row(y); }, kept);
        }
    }

    template <typename Value, typename ValueOf>
    void paint(Value* volume, ValueOf value_of) const noexcept {
        if (stage_ != Stage::finished) {
            return;
        }
        finder_.for_each_run(kept_.mask, [&](std::size_t index, std::size_t row) {
            const Run run = kept_.mask.runs()[index];
            Value* const voxels = volume + row * kept_.mask.columns();
            std::fill(voxels + run.begin, voxels + run.end, value_of(finder_.labels()[index]));
        });
    }

    Cleaning cleaning_;
    VolumeShape shape_{};
    Placement placement_{};
    Measurements measurements_;
    Stage stage_ = Stage::none;
    ThreadPool pool_;
    std::vector<Worker> workers_;  ///< one for each thread
    CleanedSlices kept_;
    LesionFinder finder_;
};

}  // namespace tumortrace
