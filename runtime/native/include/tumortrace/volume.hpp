// A volume on the grid of another.

#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>

#include "tumortrace/thread_pool.hpp"

namespace tumortrace {

/// Slices, rows and columns.
using VolumeShape = std::array<std::size_t, 3>;

/// From indices (slice, row, column) on one grid to positions on another: row i gives the position along axis i as the
/// sum of its products with (slice, row, column, 1).
using IndexMap = std::array<std::array<double, 4>, 3>;

namespace detail {

/// The samples on both sides of a position, and how much of the second there is in it.
struct Between {
    std::size_t low;
    std::size_t high;
    float share;
};

/// Whether a line of `count` samples reaches a position: half a sample beyond the outermost, which then stand for it.
inline bool find_between(double position, std::size_t count, Between& result) noexcept {
    const auto last = static_cast<double>(count - 1);
    if (!(position >= -0.5 && position <= last + 0.5)) return false;
    const double inside = std::clamp(position, 0.0, last);
    result.low = static_cast<std::size_t>(inside);
    result.high = std::min(result.low + 1, count - 1);
    result.share = static_cast<float>(inside - static_cast<double>(result.low));
    return true;
}

inline float mix(float first, float second, float share) noexcept { return first + (second - first) * share; }

/// What a volume holds between eight voxels.
inline float trilinear(const float* volume, const VolumeShape& shape, const std::array<Between, 3>& at) noexcept {
    const auto along_columns = [&](std::size_t slice, std::size_t row) {
        const float* line = volume + (slice * shape[1] + row) * shape[2];
        return mix(line[at[2].low], line[at[2].high], at[2].share);
    };
    const auto along_rows = [&](std::size_t slice) {
        return mix(along_columns(slice, at[1].low), along_columns(slice, at[1].high), at[1].share);
    };
    return mix(along_rows(at[0].low), along_rows(at[0].high), at[0].share);
}

}  // namespace detail

/// Reads a volume by trilinear interpolation at the voxel centres of another grid; 0 where it has no voxel.
///
/// @param source  finite; no extent is 0
/// @param map     from indices of the result to positions in the source
/// @param result  slices x rows x columns
/// @return        how many voxels of the result lie in one of the source
inline std::size_t resample_volume(const float* source, const VolumeShape& source_shape, const IndexMap& map,
                                   float* result, const VolumeShape& result_shape, ThreadPool& pool) {
    std::atomic<std::size_t> covered{0};
    const auto [slices, rows, columns] = result_shape;
    pool.share(slices * rows, [&, rows = rows, columns = columns](std::size_t, std::size_t begin, std::size_t end) {
        std::size_t inside = 0;
        for (std::size_t line = begin; line < end; ++line) {
            const auto slice = static_cast<double>(line / rows), row = static_cast<double>(line % rows);
            std::array<double, 3> start;
            for (std::size_t axis = 0; axis < 3; ++axis) {
                start[axis] = map[axis][0] * slice + map[axis][1] * row + map[axis][3];
            }
            for (std::size_t column = 0; column < columns; ++column) {
                std::array<detail::Between, 3> at;
                bool found = true;
                for (std::size_t axis = 0; axis < 3; ++axis) {
                    const double position = start[axis] + map[axis][2] * static_cast<double>(column);
                    found = found && detail::find_between(position, source_shape[axis], at[axis]);
                }
                result[line * columns + column] = found ? detail::trilinear(source, source_shape, at) : 0.0F;
                inside += found ? 1 : 0;
            }
        }
        covered += inside;
    });
    return covered;
}

}  // namespace tumortrace
