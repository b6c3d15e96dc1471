// Float planes to the batch of an integer network: quantised, space to depth, channels last.

#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "tumortrace/batch.hpp"
#include "tumortrace/dither.hpp"

namespace tumortrace {

/// Extent of prepared planes, the last axis contiguous.
struct PlanesShape {
    std::size_t slices;
    std::size_t channels;
    std::size_t rows;
    std::size_t columns;
};

/// Real value = scale x (integer - zero_point), as in ONNX QuantizeLinear.
struct Quantisation {
    float scale;     ///< positive and finite
    int zero_point;  ///< a value of the integer type
};

namespace detail {

/// Columns that are quantised at a time; a multiple of every block.
constexpr std::size_t tile_px = 1024;

/// Writes the bytes of clamp(round(value / scale + dither) + zero_point), ties to even; NaN gives the lowest integer.
template <typename Integer>
inline void quantise(const float* __restrict values, std::size_t count, Quantisation by, Dither dither,
                     std::uint8_t* __restrict bytes) noexcept {
    // Floats around 1.5 x 2^23 are 1 apart: the sum rounds as wanted, and its lowest byte is the integer's.
    constexpr float magic = 12582912.0F;
    const auto low = static_cast<float>(std::numeric_limits<Integer>::min() - by.zero_point);
    const auto high = static_cast<float>(std::numeric_limits<Integer>::max() - by.zero_point);
    const auto zero_point = static_cast<std::uint32_t>(by.zero_point);
    for (std::size_t i = 0; i < count; ++i) {
        const float quotient = values[i] / by.scale + dither.at(i);
        const float raised = quotient > low ? quotient : low;
        const float shifted = (raised < high ? raised : high) + magic;
        std::uint32_t bits = 0;
        std::memcpy(&bits, &shifted, sizeof bits);
        bytes[i] = static_cast<std::uint8_t>(bits + zero_point);
    }
}

/// An unsigned integer as wide as `block` pixels, which one load or store moves.
template <std::size_t block>
using Run = std::conditional_t<block == 1, std::uint8_t, std::conditional_t<block == 2, std::uint16_t, std::uint32_t>>;

/// The pixels of one channel that become one pixel's channels: block x block bytes, row after row.
template <std::size_t block>
using Cell = std::array<Run<block>, block>;

/// Rows of quantised pixels, `tile_px` apart, to cells.
template <std::size_t block>
inline void interleave(const std::uint8_t* __restrict rows, std::size_t count, Cell<block>* __restrict cells) noexcept {
    for (std::size_t x = 0; x < count; ++x) {
        for (std::size_t dy = 0; dy < block; ++dy) {
            std::memcpy(&cells[x][dy], rows + dy * tile_px + x * block, block);
        }
    }
}

/// Writes cells `stride` bytes apart.
template <std::size_t block>
inline void scatter(const Cell<block>* __restrict cells, std::size_t count, std::size_t stride,
                    std::uint8_t* __restrict bytes) noexcept {
    for (std::size_t x = 0; x < count; ++x) {
        std::memcpy(bytes + x * stride, &cells[x], sizeof cells[x]);
    }
}

/// Quantised pixels of float planes.
template <typename Integer>
class QuantisedPlanes {
  public:
    QuantisedPlanes(const float* planes, const PlanesShape& shape, Quantisation by)
        : planes_(planes), shape_(shape), by_(by) {}

    void begin_plane(std::size_t slice, std::size_t channel) noexcept { number_ = slice * shape_.channels + channel; }

    void write(std::size_t row, std::size_t column, std::size_t count, std::uint8_t* bytes) noexcept {
        const float* values = planes_ + (number_ * shape_.rows + row) * shape_.columns + column;
        quantise<Integer>(values, count, by_, dither_of(number_, row, column), bytes);
    }

  private:
    const float* planes_;
    PlanesShape shape_;
    Quantisation by_;
    std::size_t number_ = 0;
};

/// The cells of the planes that were packed last: a slice that several batches show is quantised once.
class KeptPlanes {
  public:
    /// A plane's memory, and whether its cells are there already.
    struct Plane {
        std::uint8_t* bytes;
        bool known;
    };

    void forget() noexcept { std::fill(held_.begin(), held_.end(), nothing); }

    /// Makes room for so many slices; forgets all where another network's planes were kept.
    void prepare(std::size_t slices, const PlanesShape& shape, std::size_t block, Quantisation by, bool is_signed) {
        const std::array<std::size_t, 5> sizes{slices, shape.channels, shape.rows, shape.columns, block};
        const bool same = by.scale == by_.scale && by.zero_point == by_.zero_point && is_signed == is_signed_;
        if (same && sizes == sizes_) return;
        sizes_ = sizes;
        by_ = by;
        is_signed_ = is_signed;
        plane_bytes_ = shape.rows * shape.columns;
        bytes_.resize(slices * shape.channels * plane_bytes_);
        held_.assign(slices * shape.channels, nothing);
    }

    /// A plane, whose cells the caller writes where they are not known.
    Plane plane(std::size_t slice, std::size_t channel) noexcept {
        const std::size_t place = slice % sizes_[0] * sizes_[1] + channel;
        const bool known = held_[place] == slice;
        held_[place] = slice;
        return {bytes_.data() + place * plane_bytes_, known};
    }

  private:
    static constexpr std::size_t nothing = std::numeric_limits<std::size_t>::max();

    std::array<std::size_t, 5> sizes_{};
    Quantisation by_{};
    bool is_signed_ = false;
    std::size_t plane_bytes_ = 0;
    std::vector<std::uint8_t> bytes_;
    std::vector<std::size_t> held_;
};

/// Puts together a batch from pixels that are given row by row.
///
/// @tparam Source has `begin_plane(slice, channel)`, and then `write(row, column, count, bytes)` of that plane, of at
///                most `tile_px` pixels
template <std::size_t block, typename Source>
class Packer {
  public:
    /// @param kept prepared for planes like these; or null
    Packer(Source& source, const PlanesShape& shape, const BatchRange& range, KeptPlanes* kept, std::uint8_t* batch)
        : source_(source), shape_(shape), range_(range), kept_(kept), batch_(batch) {}

    /// Reads plane by plane from front to back, which the processor foresees; that pays more than to write in order.
    void pack() {
        for_each_slice(range_, shape_.slices, [&](std::size_t slice, Places places) {
            for (std::size_t channel = 0; channel < shape_.channels; ++channel) {
                const KeptPlanes::Plane plane =
                    kept_ == nullptr ? KeptPlanes::Plane{nullptr, false} : kept_->plane(slice, channel);
                if (!plane.known) source_.begin_plane(slice, channel);
                pack_plane(plane, channel, places);
            }
        });
    }

  private:
    void pack_plane(KeptPlanes::Plane plane, std::size_t channel, Places places) {
        auto* kept = reinterpret_cast<Cell<block>*>(plane.bytes);
        for (std::size_t row = 0; row < shape_.rows; row += block) {
            for (std::size_t column = 0; column < shape_.columns; column += tile_px) {
                const std::size_t count = std::min(tile_px, shape_.columns - column);
                Cell<block>* cells = kept == nullptr ? cells_.data() : kept;
                if (!plane.known) make_cells(row, column, count, cells);
                for_each_view(range_, places, [&](std::size_t n, std::size_t neighbour) {
                    write_cells(cells, n, neighbour * shape_.channels + channel, row / block, column / block,
                                count / block);
                });
                if (kept != nullptr) kept += count / block;
            }
        }
    }

    void make_cells(std::size_t row, std::size_t column, std::size_t count, Cell<block>* cells) {
        for (std::size_t dy = 0; dy < block; ++dy) {
            source_.write(row + dy, column, count, quantised_.data() + dy * tile_px);
        }
        interleave<block>(quantised_.data(), count / block, cells);
    }

    void write_cells(const Cell<block>* cells, std::size_t n, std::size_t cell, std::size_t y, std::size_t x,
                     std::size_t count) noexcept {
        const std::size_t stride = range_.neighbours() * shape_.channels * block * block;
        const std::size_t pixel = (n * (shape_.rows / block) + y) * (shape_.columns / block) + x;
        scatter<block>(cells, count, stride, batch_ + pixel * stride + cell * block * block);
    }

    Source& source_;
    PlanesShape shape_;
    BatchRange range_;
    KeptPlanes* kept_;
    std::uint8_t* batch_;
    std::array<std::uint8_t, block * tile_px> quantised_;
    std::array<Cell<block>, tile_px / block> cells_;
};

/// Packs what `source` gives, with a block of 1, 2 or 4.
template <typename Source>
void pack_from(Source& source, const PlanesShape& shape, const BatchRange& range, std::size_t block, KeptPlanes* kept,
               std::uint8_t* batch) {
    switch (block) {
        case 1:
            return Packer<1, Source>(source, shape, range, kept, batch).pack();
        case 2:
            return Packer<2, Source>(source, shape, range, kept, batch).pack();
        default:
            return Packer<4, Source>(source, shape, range, kept, batch).pack();
    }
}

}  // namespace detail

/// Quantises the slices of a batch and their neighbours and packs them, each plane once, as an integer network takes
/// them.
///
/// With q = clamp(round(plane / scale + dither) + zero_point), ties to even, clamped to the range of `Integer`,
/// quotient and sum in float32, and the dither of `dither_of`:
///
///     batch[n, y, x, (k * channels + c) * block * block + dy * block + dx]
///         = q[clip(start + n + k - context, 0, slices - 1), c, y * block + dy, x * block + dx]
///
/// NaN gives the lowest integer; infinities are clamped as usual. Nothing is allocated.
///
/// @tparam Integer std::int8_t or std::uint8_t
/// @param planes (slices, channels, rows, columns)
/// @param shape  of `planes`; no extent is 0
/// @param block  1, 2 or 4; divides rows and columns
/// @param batch  (stop - start, rows / block, columns / block, (2 x context + 1) x channels x block x block) to write;
///               must not overlap `planes`
template <typename Integer>
void pack_batch(const float* planes, const PlanesShape& shape, const BatchRange& range, std::size_t block,
                Quantisation by, Integer* batch) noexcept {
    static_assert(std::is_same_v<Integer, std::int8_t> || std::is_same_v<Integer, std::uint8_t>);
    detail::QuantisedPlanes<Integer> source(planes, shape, by);
    detail::pack_from(source, shape, range, block, nullptr, reinterpret_cast<std::uint8_t*>(batch));
}

}  // namespace tumortrace
