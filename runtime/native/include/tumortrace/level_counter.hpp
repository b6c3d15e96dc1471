// How often each level occurs in a channel, and where.

#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "tumortrace/band.hpp"
#include "tumortrace/coverage.hpp"
#include "tumortrace/dispatch.hpp"
#include "tumortrace/levels.hpp"
#include "tumortrace/voxels.hpp"

namespace tumortrace {

/// How a channel's voxels are counted: the value of a level is origin + step x level.
struct Levels {
    bool exact;  ///< integers that are their own levels; else voxels are rounded to float32 and counted in steps
    std::int64_t least;   ///< where `exact`, the key of level 0
    std::uint32_t count;  ///< one more than the greatest level
    double origin;
    double step;
};

namespace detail {

constexpr std::size_t border_px = 4;

/// Rows that are counted together.
constexpr std::size_t band_rows = 8;

/// Levels of float32 values: floor((value - origin) / step + 0.5).
inline void count_in_steps(const float* __restrict values, std::size_t count, double origin, double step,
                           std::uint16_t* __restrict levels) noexcept {
    // By way of integers of 32 bits, into which vector instructions turn floats of 64.
    constexpr std::size_t at_once = 64;
    std::array<std::int32_t, at_once> wide;
    for (std::size_t start = 0; start < count; start += at_once) {
        const std::size_t some = std::min(at_once, count - start);
        for (std::size_t i = 0; i < some; ++i) {
            wide[i] = static_cast<std::int32_t>((values[start + i] - origin) / step + 0.5);
        }
        for (std::size_t i = 0; i < some; ++i) {
            levels[start + i] = static_cast<std::uint16_t>(wide[i]);
        }
    }
}

}  // namespace detail

/// Counts the levels of some slices of a channel, in buffers that are allocated once.
class LevelCounter {
  public:
    void count(const Voxels& voxels, std::size_t channel, const Levels& levels, Vectors vectors) {
        everything_.clear(levels.count);
        border_.clear(levels.count);
        spans_.reset(voxels);
        const std::size_t columns = voxels.columns();
        if (columns_ < columns) {
            columns_ = columns;
            levels_.resize(detail::band_rows * columns);
            row_values_.resize(columns);
        }
        for (std::size_t slice = 0; slice < voxels.slices(); ++slice) {
            const auto row_at = [&](std::size_t y) { return row_of(voxels, channel, slice, y, 0, columns); };
            std::size_t y = 0;
            for (; y + detail::band_rows <= voxels.rows(); y += detail::band_rows) {
                count_rows<detail::band_rows>(voxels, row_at, y, levels, vectors);
            }
            for (; y < voxels.rows(); ++y) {
                count_rows<1>(voxels, row_at, y, levels, vectors);
            }
        }
    }

    /// Adds the slices that follow, which another one counted, of the same levels.
    void add(LevelCounter& other) {
        everything_.add(other.everything_);
        border_.add(other.border_);
        spans_.add(other.spans_);
    }

    Histogram& everything() noexcept { return everything_; }
    Histogram& border() noexcept { return border_; }
    LevelSpans& spans() noexcept { return spans_; }

  private:
    /// Reads rows of a slice from row `y` on, and counts them.
    template <std::size_t rows, typename RowAt>
    void count_rows(const Voxels& voxels, const RowAt& row_at, std::size_t y, const Levels& levels, Vectors vectors) {
        for (std::size_t row = y; row < y + rows; ++row) {
            // Counting takes so long that the processor does not foresee the next band by itself.
            if (row + 2 * rows < voxels.rows()) prefetch(row_at(row + 2 * rows), reader(voxels.type).size_bytes);
            read_levels(voxels.type, row_at(row), levels, vectors, levels_.data() + (row - y) * voxels.columns());
        }
        vectorised(vectors, [&] { count_band(find_band<rows>(levels_.data(), voxels.columns()), y, voxels.rows()); });
    }

    void read_levels(VoxelType type, const Row& row, const Levels& levels, Vectors vectors, std::uint16_t* out) {
        if (levels.exact) {
            return reader(type).write_levels(vectors, row, levels.least, out);
        }
        const float* values = static_cast<const float*>(row.data);
        if (type != VoxelType::float32 || row.stride != 1) {
            reader(type).write_values(vectors, row, row_values_.data());
            values = row_values_.data();
        }
        vectorised(vectors, [&] { detail::count_in_steps(values, row.count, levels.origin, levels.step, out); });
    }

    /// Counts rows of a slice of `height`, from row `y` on.
    template <std::size_t rows>
    void count_band(const Band<rows>& band, std::size_t y, std::size_t height) {
        constexpr std::size_t frame = detail::border_px;
        const std::size_t head = band.end - band.begin;
        everything_.add(band.air, rows * (band.columns - head));
        for (std::size_t row = 0; row < rows; ++row) {
            everything_.add(band.row(row) + band.begin, head);
            if (y + row < frame || y + row + frame >= height || band.columns <= 2 * frame) {
                border_.add(band.row(row), band.columns);
            } else if (frame <= band.begin && band.end + frame <= band.columns) {
                border_.add(band.air, 2 * frame);
            } else {
                border_.add(band.row(row), frame);
                border_.add(band.row(row) + band.columns - frame, frame);
            }
        }
        spans_.add(band, y);
    }

    Histogram everything_;
    Histogram border_;
    LevelSpans spans_;
    std::size_t columns_ = 0;
    std::vector<std::uint16_t> levels_;  ///< of a band
    std::vector<float> row_values_;
};

}  // namespace tumortrace
