// From a scan's stored voxels to a network's batches, without an image in between.
//
// runtime/tumortrace_runtime/preprocess/README.md defines every step to the bit.

#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "tumortrace/batch.hpp"
#include "tumortrace/coverage.hpp"
#include "tumortrace/dispatch.hpp"
#include "tumortrace/grid.hpp"
#include "tumortrace/half.hpp"
#include "tumortrace/heads.hpp"
#include "tumortrace/kept_planes.hpp"
#include "tumortrace/pack.hpp"
#include "tumortrace/quantise_voxels.hpp"
#include "tumortrace/statistics.hpp"
#include "tumortrace/thread_pool.hpp"
#include "tumortrace/voxels.hpp"

namespace tumortrace {

/// Everything that decides what a network sees of a scan, but for the neighbours of a slice.
struct PreprocessingSpec {
    Size grid;
    Fit fit;
    StatisticsRule rule;
    std::optional<std::size_t> reference;  ///< the channel whose copies stand for a missing sequence
};

/// What is wrong with a scan.
enum class Problem { none, empty, too_large, not_finite, larger_than_grid, no_foreground, one_value };

/// What `Preprocessor::open` met.
struct Opening {
    Problem problem = Problem::none;
    std::size_t channel = 0;     ///< with `no_foreground` and `one_value`
    std::size_t not_finite = 0;  ///< with `not_finite`: voxels, of all channels
    double only_value = 0;       ///< with `one_value`
};

/// A channel as it is normalised.
struct ChannelPlan {
    bool replaced;  ///< a copy of the reference, or known to be one; its plane is 0
    ChannelStatistics statistics;
    float fill;  ///< what the grid holds around the slice
};

/// Prepares one scan after the other; buffers grow to the largest and are used again.
///
/// Voxels are not copied: they must stay where they are from `open` to the last batch. One thread at a time.
class Preprocessor {
  public:
    /// @param threads that share the slices when statistics are taken; results do not depend on it
    /// @throws std::invalid_argument as `ThreadPool`
    explicit Preprocessor(const PreprocessingSpec& spec, Vectors vectors = widest_vectors(), std::size_t threads = 1)
        : spec_(spec),
          vectors_(vectors),
          pool_(threads),
          statistics_(vectors, pool_),
          quantiser_(vectors),
          kept_(vectors) {}

    /// Takes the statistics of a scan's channels.
    ///
    /// @param known one per channel, true where it is known to be replaced; empty where nothing is known
    /// @return what is wrong; unless that is nothing, there is no scan to write batches of
    Opening open(const Voxels& voxels, const std::vector<bool>& known = {}) {
        channels_.clear();
        kept_.forget();
        voxels_ = voxels;
        if (std::find(voxels.shape.begin(), voxels.shape.end(), 0U) != voxels.shape.end()) return {Problem::empty};
        if (!countable(voxels)) return {Problem::too_large};
        const std::vector<Extremes>& extremes = find_extremes();
        std::size_t not_finite = 0;
        for (const Extremes& each : extremes) not_finite += each.not_finite;
        if (not_finite != 0) return {Problem::not_finite, 0, not_finite};
        const auto placement = place({voxels.rows(), voxels.columns()}, spec_.grid, spec_.fit);
        if (!placement) return {Problem::larger_than_grid};
        placement_ = *placement;
        set_taps();
        const Opening opening = plan_channels(known, extremes);
        if (opening.problem != Problem::none) channels_.clear();
        return opening;
    }

    /// Of the scan that was opened; empty where none is.
    const std::vector<ChannelPlan>& channels() const noexcept { return channels_; }
    const Placement& placement() const noexcept { return placement_; }
    const Coverage& coverage() const noexcept { return coverage_; }
    std::size_t slices() const noexcept { return voxels_.slices(); }

    /// Writes slices and their neighbours: (range.size(), neighbours x channels, grid rows, grid columns).
    void write_floats(const BatchRange& range, float* batch) {
        write_rows<float>(range, batch,
                          [&](std::size_t row, float* out) { write_values(row, 0, spec_.grid.columns, out); });
    }

    /// The same as float16, ties to even.
    void write_halves(const BatchRange& range, std::uint16_t* batch) {
        row_.resize(std::max(row_.size(), spec_.grid.columns));
        write_rows<std::uint16_t>(range, batch, [&](std::size_t row, std::uint16_t* out) {
            write_values(row, 0, spec_.grid.columns, row_.data());
            to_halves(vectors_, row_.data(), spec_.grid.columns, out);
        });
    }

    /// Writes slices and their neighbours as `pack_batch` does. Planes are kept, so that batches that follow one
    /// another quantise none twice.
    ///
    /// @param block 1, 2 or 4; divides the grid's rows and columns
    template <typename Integer>
    void pack(const BatchRange& range, std::size_t block, Quantisation by, Integer* batch) {
        Integers<Integer> source{*this, by, false, {}};
        const PlanesShape shape{voxels_.slices(), channels_.size(), spec_.grid.rows, spec_.grid.columns};
        kept_.pack(source, shape, range, block, by, std::numeric_limits<Integer>::is_signed,
                   reinterpret_cast<std::uint8_t*>(batch));
    }

  private:
    /// The part of a row on the grid that the slice covers, but for air, which is what is around the slice.
    struct Covered {
        std::size_t before;  ///< pixels on its left
        std::size_t column;  ///< of the slice, scaled
        std::size_t count;
    };

    static bool countable(const Voxels& voxels) noexcept {
        std::size_t left = std::numeric_limits<std::uint32_t>::max();
        for (std::size_t axis = 0; axis < 3; ++axis) left /= voxels.shape[axis];
        return left > 0;
    }

    const std::vector<Extremes>& find_extremes() {
        extremes_.assign(voxels_.channels(), {});
        if (!counts_whole_type(voxels_.type)) {
            for (std::size_t channel = 0; channel < voxels_.channels(); ++channel) {
                extremes_[channel] = statistics_.extremes(voxels_, channel);
            }
        }
        return extremes_;
    }

    Opening plan_channels(const std::vector<bool>& known, const std::vector<Extremes>& extremes) {
        coverage_.reset(voxels_);
        heads_.reset(voxels_);
        for (std::size_t channel = 0; channel < voxels_.channels(); ++channel) {
            if ((channel < known.size() && known[channel]) || copies_reference(channel)) {
                channels_.push_back({true, {}, 0});
                continue;
            }
            const ChannelFindings found = statistics_(voxels_, channel, extremes[channel], spec_.rule);
            if (found.refusal == Refusal::no_foreground) return {Problem::no_foreground, channel};
            if (found.refusal == Refusal::one_value) return {Problem::one_value, channel, 0, found.only_value};
            coverage_.add(statistics_.spans(), found.background, voxels_, [&](std::size_t slice, std::size_t row) {
                return statistics_.row(voxels_, channel, slice, row, found.levels);
            });
            heads_.set(channel, statistics_.spans().bands(), [&](std::uint16_t level) { return found.is_air(level); });
            const float fill = normalised(found.statistics.background, found.statistics);
            channels_.push_back({false, found.statistics, fill});
        }
        return {};
    }

    bool copies_reference(std::size_t channel) const {
        if (!spec_.reference || *spec_.reference == channel) return false;
        const Reader& read = reader(voxels_.type);
        for (std::size_t slice = 0; slice < voxels_.slices(); ++slice) {
            for (std::size_t row = 0; row < voxels_.rows(); ++row) {
                if (!read.same(stored(channel, slice, row, 0, voxels_.columns()),
                               stored(*spec_.reference, slice, row, 0, voxels_.columns()))) {
                    return false;
                }
            }
        }
        return true;
    }

    Row stored(std::size_t channel, std::size_t slice, std::size_t row, std::size_t column,
               std::size_t count) const noexcept {
        return row_of(voxels_, channel, slice, row, column, count);
    }

    void set_taps() {
        if (!(placement_.scan == placement_.scaled)) {
            column_taps_.set(placement_.scan.columns, placement_.scaled.columns);
            row_taps_.set(placement_.scan.rows, placement_.scaled.rows);
            row_.resize(std::max(row_.size(), placement_.scan.columns));
            narrowed_.resize(std::max(narrowed_.size(), placement_.scan.rows * placement_.scaled.columns));
        }
    }

    /// Takes up a plane; where it is resampled, its rows are, first.
    void begin_plane(std::size_t slice, std::size_t channel) {
        slice_ = slice;
        channel_ = channel;
        const bool resampled = !(placement_.scan == placement_.scaled);
        if (!resampled || channels_[channel].replaced) return;
        const auto [rows, columns] = placement_.scan;
        for (std::size_t row = 0; row < rows; ++row) {
            float* out = narrowed_.data() + row * placement_.scaled.columns;
            const bool same = columns == placement_.scaled.columns;
            normalise(stored(channel, slice, row, 0, columns), same ? out : row_.data());
            if (!same) vectorised(vectors_, [&] { resample_line(row_.data(), column_taps_, out); });
        }
    }

    /// Voxels as float32, clipped and standardised.
    void normalise(const Row& row, float* values) const {
        reader(voxels_.type).write_values(vectors_, row, values);
        const ChannelStatistics by = channels_[channel_].statistics;
        vectorised(vectors_, [&] { standardise(values, row.count, by); });
    }

    Covered covered(std::size_t row, std::size_t column, std::size_t count) const noexcept {
        const auto [top, left] = placement_.offset;
        if (channels_[channel_].replaced || row < top || row >= top + placement_.scaled.rows) return {count, 0, 0};
        Extent part{0, placement_.scaled.columns};
        if (placement_.scan == placement_.scaled) part = heads_.columns(channel_, slice_, row - top, 1);
        const std::size_t begin = std::max(column, left + part.begin), end = std::min(column + count, left + part.end);
        if (begin >= end) return {count, 0, 0};
        return {begin - column, begin - left, end - begin};
    }

    /// Writes a part of a row of the plane that was begun.
    void write_values(std::size_t row, std::size_t column, std::size_t count, float* out) const {
        const Covered inside = covered(row, column, count);
        const float fill = channels_[channel_].fill;
        std::fill_n(out, inside.before, fill);
        std::fill(out + inside.before + inside.count, out + count, fill);
        if (inside.count != 0) write_slice(row - placement_.offset.rows, inside, out + inside.before);
    }

    void write_slice(std::size_t row, Covered inside, float* out) const {
        if (placement_.scan == placement_.scaled) {
            return normalise(stored(channel_, slice_, row, inside.column, inside.count), out);
        }
        const std::size_t columns = placement_.scaled.columns;
        if (placement_.scan.rows == placement_.scaled.rows) {
            std::copy_n(narrowed_.data() + row * columns + inside.column, inside.count, out);
            return;
        }
        vectorised(vectors_,
                   [&] { resample_row(narrowed_.data() + inside.column, inside.count, columns, row_taps_, row, out); });
    }

    /// Writes every plane of a batch, first where it is seen first, and copies it to where it is seen besides.
    template <typename Value, typename Write>
    void write_rows(const BatchRange& range, Value* batch, const Write& write) {
        const std::size_t columns = spec_.grid.columns, plane = spec_.grid.rows * columns;
        for_each_slice(range, voxels_.slices(), [&](std::size_t slice, Places places) {
            for (std::size_t channel = 0; channel < channels_.size(); ++channel) {
                begin_plane(slice, channel);
                for (std::size_t row = 0; row < spec_.grid.rows; ++row) {
                    const Value* written = nullptr;
                    for_each_view(range, places, [&](std::size_t n, std::size_t neighbour) {
                        const std::size_t seen = (n * range.neighbours() + neighbour) * channels_.size() + channel;
                        Value* out = batch + seen * plane + row * columns;
                        if (written == nullptr) {
                            write(row, out);
                            written = out;
                        } else {
                            std::copy_n(written, columns, out);
                        }
                    });
                }
            }
        });
    }

    /// A plane's pixels as the bytes of integers, for `KeptPlanes`.
    template <typename Integer>
    struct Integers {
        Preprocessor& of;
        Quantisation by;
        bool direct;  ///< whether the plane comes from voxels in one loop
        std::array<float, detail::tile_px> values;

        void begin_plane(std::size_t slice, std::size_t channel) {
            of.begin_plane(slice, channel);
            const auto& [replaced, statistics, fill] = of.channels_[channel];
            const VoxelPlane plane{&of.voxels_, &of.heads_, of.placement_, slice, channel, replaced, statistics, fill};
            direct = of.placement_.scan == of.placement_.scaled && of.quantiser_.begin_plane<Integer>(plane, by);
        }

        void write(std::size_t row, std::size_t rows, std::size_t column, std::size_t count, std::uint8_t* bytes) {
            if (direct) return of.quantiser_.write(row, rows, column, count, bytes, detail::tile_px);
            const std::size_t plane = of.slice_ * of.channels_.size() + of.channel_;
            for (std::size_t y = row; y < row + rows; ++y, bytes += detail::tile_px) {
                of.write_values(y, column, count, values.data());
                const Dither dither = dither_of(plane, y, column);
                vectorised(of.vectors_, [&] { detail::quantise<Integer>(values.data(), count, by, dither, bytes); });
            }
        }
    };

    PreprocessingSpec spec_;
    Vectors vectors_;
    ThreadPool pool_;
    StatisticsPass statistics_;
    Voxels voxels_{};
    Placement placement_{};
    Coverage coverage_{};
    Heads heads_;
    std::vector<Extremes> extremes_;
    std::vector<ChannelPlan> channels_;
    Taps column_taps_, row_taps_;
    std::size_t slice_ = 0, channel_ = 0;
    VoxelQuantiser quantiser_;
    KeptPlanes kept_;
    std::vector<float> row_;
    std::vector<float> narrowed_;
};

}  // namespace tumortrace
