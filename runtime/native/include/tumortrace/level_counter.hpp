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
            levels_.resize(band_rows * columns);
            row_values_.resize(columns);
        }
        for (std::size_t slice = 0; slice < voxels.slices(); ++slice) {
            std::size_t y = 0;
            for (; y + band_rows <= voxels.rows(); y += band_rows) {
                count_rows<band_rows>({voxels, channel, slice}, y, levels, vectors);
            }
            for (; y < voxels.rows(); ++y) {
                count_rows<1>({voxels, channel, slice}, y, levels, vectors);
            }
        }
    }

    /// The levels of a row of a scan that was counted.
    LevelSpan row(const Voxels& voxels, std::size_t channel, std::size_t slice, std::size_t y, const Levels& levels,
                  Vectors vectors) {
        read_levels(voxels.type, row_of(voxels, channel, slice, y, 0, voxels.columns()), levels, vectors,
                    levels_.data());
        LevelSpan span;
        for (std::size_t x = 0; x < voxels.columns(); ++x) span.add({levels_[x], levels_[x]});
        return span;
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
    /// A slice of one channel.
    struct Slice {
        const Voxels& voxels;
        std::size_t channel;
        std::size_t number;

        Row row(std::size_t y) const noexcept { return row_of(voxels, channel, number, y, 0, voxels.columns()); }
    };

    /// Counts rows from row `y` on.
    template <std::size_t rows>
    void count_rows(const Slice& slice, std::size_t y, const Levels& levels, Vectors vectors) {
        const Voxels& voxels = slice.voxels;
        const Reader& read = reader(voxels.type);
        Band<rows> band{levels_.data(), static_cast<std::ptrdiff_t>(voxels.columns()), voxels.columns(), 0};
        if (levels.exact && read.size_bytes == 2 && voxels.strides[2] == 1) {
            // Where all of a type is counted, levels differ from what is stored by the sign's bit at most.
            const auto* const stored = static_cast<const std::uint16_t*>(slice.row(y).data);
            band = {stored, voxels.strides[1], voxels.columns(), static_cast<std::uint16_t>(levels.least)};
        } else {
            for (std::size_t row = 0; row < rows; ++row) {
                read_levels(voxels.type, slice.row(y + row), levels, vectors, levels_.data() + row * voxels.columns());
            }
        }
        vectorised(vectors, [&] { count_band(band, slice, y); });
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

    /// Counts rows from row `y` on, and asks for those after them.
    template <std::size_t rows>
    void count_band(const Band<rows>& band, const Slice& slice, std::size_t y) {
        constexpr std::size_t frame = detail::border_px;
        const std::size_t height = slice.voxels.rows(), size_bytes = reader(slice.voxels.type).size_bytes;
        const std::ptrdiff_t stride_bytes = slice.voxels.strides[1] * static_cast<std::ptrdiff_t>(size_bytes);
        const std::size_t ahead = y + 2 * rows <= height ? rows : 0;
        Row next = slice.row(y + ahead);
        const Extent head = find_head(band);
        const std::uint16_t air = band.level(0, 0);
        everything_.add(air, rows * (band.columns - head.size()));
        for (std::size_t row = 0; row < rows; ++row) {
            // Rows are read side by side, which the processor does not foresee; one by one, requests are soon met.
            if (row < ahead) prefetch(next, size_bytes);
            next.data = static_cast<const char*>(next.data) + stride_bytes;
            const std::uint16_t* const stored = band.row(row);
            everything_.add(stored + head.begin, head.size(), band.flip);
            if (y + row < frame || y + row + frame >= height || band.columns <= 2 * frame) {
                border_.add(stored, band.columns, band.flip);
            } else if (frame <= head.begin && head.end + frame <= band.columns) {
                border_.add(air, 2 * frame);
            } else {
                border_.add(stored, frame, band.flip);
                border_.add(stored + band.columns - frame, frame, band.flip);
            }
        }
        spans_.add(band, head);
    }

    Histogram everything_;
    Histogram border_;
    LevelSpans spans_;
    std::size_t columns_ = 0;
    std::vector<std::uint16_t> levels_;  ///< of a band
    std::vector<float> row_values_;
};

}  // namespace tumortrace
