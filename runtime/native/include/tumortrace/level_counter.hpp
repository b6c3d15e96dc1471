// How often each level occurs in a channel, and where.

#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

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
        if (row_levels_.size() < voxels.columns()) {
            row_levels_.resize(voxels.columns());
            row_values_.resize(voxels.columns());
        }
        const std::size_t rows = voxels.rows(), columns = voxels.columns();
        const bool narrow = columns <= 2 * detail::border_px;
        std::size_t y = 0;
        for_each_row(voxels, channel, [&](Row row) {
            read_levels(voxels.type, row, levels, vectors);
            const bool outside = narrow || y < detail::border_px || y + detail::border_px >= rows;
            everything_.add(row_levels_.data(), columns);
            vectorised(vectors, [&] { spans_.add_row(row_levels_.data(), y); });
            border_.add(row_levels_.data(), outside ? columns : detail::border_px);
            if (!outside) border_.add(row_levels_.data() + columns - detail::border_px, detail::border_px);
            y = y + 1 == rows ? 0 : y + 1;
        });
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
    void read_levels(VoxelType type, Row row, const Levels& levels, Vectors vectors) {
        if (levels.exact) {
            return reader(type).write_levels(vectors, row, levels.least, row_levels_.data());
        }
        const float* values = static_cast<const float*>(row.data);
        if (type != VoxelType::float32 || row.stride != 1) {
            reader(type).write_values(vectors, row, row_values_.data());
            values = row_values_.data();
        }
        vectorised(vectors,
                   [&] { detail::count_in_steps(values, row.count, levels.origin, levels.step, row_levels_.data()); });
    }

    Histogram everything_;
    Histogram border_;
    LevelSpans spans_;
    std::vector<std::uint16_t> row_levels_;
    std::vector<float> row_values_;
};

}  // namespace tumortrace
