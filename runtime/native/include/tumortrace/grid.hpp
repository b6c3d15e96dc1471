// The network's grid: where a slice lies on it, and how it is resampled.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <vector>

namespace tumortrace {

/// Rows and columns, in pixels.
struct Size {
    std::size_t rows;
    std::size_t columns;

    bool operator==(const Size& other) const noexcept { return rows == other.rows && columns == other.columns; }
};

/// How a slice comes onto the grid.
enum class Fit {
    pad,     ///< pixel by pixel
    resize,  ///< scaled, its aspect ratio kept, until it just fits
};

/// Where a scan's slices lie on the grid.
struct Placement {
    Size scan;    ///< size of the scan's slices
    Size scaled;  ///< their size on the grid
    Size offset;  ///< top left corner on the grid
    Size grid;    ///< size of the grid
};

namespace detail {

/// side x numerator / denominator, halves rounded up, and at least 1.
inline std::size_t scaled(std::size_t side, std::size_t numerator, std::size_t denominator) noexcept {
    return std::max<std::size_t>(1, (2 * side * numerator + denominator) / (2 * denominator));
}

}  // namespace detail

/// Where slices lie on the grid: centred, the odd pixel below and to the right. Nothing where they are larger than the
/// grid and `fit` pads.
///
/// @param scan no side is 0 or above 2^32
/// @param grid no side is 0 or above 2^16
inline std::optional<Placement> place(Size scan, Size grid, Fit fit) noexcept {
    Size scaled = scan;
    if (fit == Fit::resize) {
        const bool rows_decide = grid.rows * scan.columns <= grid.columns * scan.rows;
        const std::size_t numerator = rows_decide ? grid.rows : grid.columns;
        const std::size_t denominator = rows_decide ? scan.rows : scan.columns;
        scaled = {detail::scaled(scan.rows, numerator, denominator),
                  detail::scaled(scan.columns, numerator, denominator)};
    } else if (scan.rows > grid.rows || scan.columns > grid.columns) {
        return std::nullopt;
    }
    return Placement{scan, scaled, {(grid.rows - scaled.rows) / 2, (grid.columns - scaled.columns) / 2}, grid};
}

/// Which samples of a line make each sample of the line resampled, and with what weights: a triangle with half-pixel
/// centres, as wide as two samples of the coarser line.
class Taps {
  public:
    /// From `source` samples to `target`; neither is 0.
    void set(std::size_t source, std::size_t target) {
        if (source == source_ && target == target_) return;
        source_ = source;
        target_ = target;
        const auto before = static_cast<std::int64_t>(source), after = static_cast<std::int64_t>(target);
        const std::int64_t pixel = 2 * after, reach = 2 * std::max(before, after);
        count_ = static_cast<std::size_t>((2 * reach + pixel - 1) / pixel);
        indices_.resize(count_ * target);
        weights_.resize(count_ * target);
        std::vector<std::int64_t> heights(count_);
        for (std::size_t i = 0; i < target; ++i) {
            const std::int64_t centre = (2 * static_cast<std::int64_t>(i) + 1) * before - after;
            const std::int64_t first = floor_quotient(centre - reach, pixel) + 1;
            std::int64_t sum = 0;
            for (std::size_t tap = 0; tap < count_; ++tap) {
                const std::int64_t index = first + static_cast<std::int64_t>(tap);
                const bool exists = 0 <= index && index < before;
                heights[tap] = exists ? std::max<std::int64_t>(0, reach - std::abs(index * pixel - centre)) : 0;
                indices_[tap * target + i] = static_cast<std::size_t>(std::clamp<std::int64_t>(index, 0, before - 1));
                sum += heights[tap];
            }
            for (std::size_t tap = 0; tap < count_; ++tap) {
                const double weight = static_cast<double>(heights[tap]) / static_cast<double>(sum);
                weights_[tap * target + i] = static_cast<float>(weight);
            }
        }
    }

    std::size_t count() const noexcept { return count_; }  ///< taps of every sample, some of them with weight 0
    std::size_t target() const noexcept { return target_; }
    const std::size_t* indices(std::size_t tap) const noexcept { return indices_.data() + tap * target_; }
    const float* weights(std::size_t tap) const noexcept { return weights_.data() + tap * target_; }

  private:
    static std::int64_t floor_quotient(std::int64_t numerator, std::int64_t denominator) noexcept {
        const std::int64_t quotient = numerator / denominator;
        return quotient - (numerator % denominator < 0 ? 1 : 0);
    }

    std::size_t source_ = 0, target_ = 0, count_ = 0;
    std::vector<std::size_t> indices_;
    std::vector<float> weights_;
};

/// A line resampled; products are rounded to float32 and added in the order of the taps.
inline void resample_line(const float* __restrict line, const Taps& taps, float* __restrict result) noexcept {
    for (std::size_t tap = 0; tap < taps.count(); ++tap) {
        const std::size_t* indices = taps.indices(tap);
        const float* weights = taps.weights(tap);
        for (std::size_t i = 0; i < taps.target(); ++i) {
            const float product = line[indices[i]] * weights[i];
            result[i] = tap == 0 ? product : result[i] + product;
        }
    }
}

/// Row `target` of an image that is resampled down its columns, as `resample_line` does it.
///
/// @param image  its first row, and the others `stride` apart
/// @param count  columns to write
inline void resample_row(const float* __restrict image, std::size_t count, std::size_t stride, const Taps& taps,
                         std::size_t target, float* __restrict result) noexcept {
    for (std::size_t tap = 0; tap < taps.count(); ++tap) {
        const float* row = image + taps.indices(tap)[target] * stride;
        const float weight = taps.weights(tap)[target];
        for (std::size_t i = 0; i < count; ++i) {
            const float product = row[i] * weight;
            result[i] = tap == 0 ? product : result[i] + product;
        }
    }
}

}  // namespace tumortrace
