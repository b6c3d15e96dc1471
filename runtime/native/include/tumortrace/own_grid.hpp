// Back from the network's grid to the scan's own: a window of its output, or logits resampled.
//
// runtime/tumortrace_runtime/preprocess/README.md defines it to the bit.

#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "tumortrace/binarise.hpp"
#include "tumortrace/dispatch.hpp"
#include "tumortrace/grid.hpp"

namespace tumortrace {

/// What a network gives of some slices: (slices, classes, grid rows, grid columns), contiguous.
template <typename Value>
struct Output {
    const Value* values;
    std::size_t slices;
    std::size_t classes;
    Size grid;
};

/// A row of the window of a slice that the scan covers.
template <typename Value>
inline ClassRow<Value> window_row(const Output<Value>& output, const Placement& placement, std::size_t slice,
                                  std::size_t row) noexcept {
    const auto [top, left] = placement.offset;
    const std::size_t columns = output.grid.columns, plane = output.grid.rows * columns;
    const Value* const first = output.values + slice * output.classes * plane;
    return {first + (top + row) * columns + left, placement.scaled.columns, output.classes, plane};
}

/// Resamples the window of one slice after the other to the scan's own size: columns first, as `Taps` says. Logits that
/// are no floats become floats first.
///
/// Keeps its buffers: allocates only for a larger slice than ever before, or another placement.
class WindowResampler {
  public:
    void set(const Placement& placement) {
        placement_ = placement;
        column_taps_.set(placement.scaled.columns, placement.scan.columns);
        row_taps_.set(placement.scaled.rows, placement.scan.rows);
    }

    /// Takes up a slice.
    ///
    /// @param kind says what the float is that a value stands for
    template <typename Kind>
    void begin_slice(const Kind& kind, const Output<typename Kind::Value>& output, std::size_t slice) {
        const std::size_t columns = placement_.scan.columns;
        classes_ = output.classes;
        grow(line_, placement_.scaled.columns);
        grow(narrowed_, classes_ * placement_.scaled.rows * columns);
        grow(rows_, classes_ * columns);
        for (std::size_t row = 0; row < placement_.scaled.rows; ++row) {
            const auto stored = window_row(output, placement_, slice, row);
            for (std::size_t one = 0; one < classes_; ++one) {
                take_line(kind, stored.values + one * stored.class_stride,
                          narrowed_.data() + (one * placement_.scaled.rows + row) * columns);
            }
        }
    }

    /// A row of the slice as the scan has it; there until the next one is asked for.
    ClassRow<float> row(std::size_t y) noexcept {
        const std::size_t columns = placement_.scan.columns, plane = placement_.scaled.rows * columns;
        if (placement_.scaled.rows == placement_.scan.rows) {
            return {narrowed_.data() + y * columns, columns, classes_, plane};
        }
        for (std::size_t one = 0; one < classes_; ++one) {
            vectorised(vectors_, [&] {
                resample_row(narrowed_.data() + one * plane, columns, columns, row_taps_, y,
                             rows_.data() + one * columns);
            });
        }
        return {rows_.data(), columns, classes_, columns};
    }

  private:
    static void grow(std::vector<float>& buffer, std::size_t size) { buffer.resize(std::max(buffer.size(), size)); }

    template <typename Kind>
    void take_line(const Kind& kind, const typename Kind::Value* stored, float* out) noexcept {
        const std::size_t columns = placement_.scaled.columns;
        const bool same = columns == placement_.scan.columns;
        float* const line = same ? out : line_.data();
        for (std::size_t x = 0; x < columns; ++x) {
            line[x] = kind.logit(stored[x]);
        }
        if (!same) {
            vectorised(vectors_, [&] { resample_line(line, column_taps_, out); });
        }
    }

    Vectors vectors_ = widest_vectors();
    Placement placement_{};
    std::size_t classes_ = 1;
    Taps column_taps_, row_taps_;
    std::vector<float> line_;
    std::vector<float> narrowed_;  ///< (classes, rows on the grid, columns of the scan)
    std::vector<float> rows_;      ///< (classes, columns of the scan)
};

}  // namespace tumortrace
