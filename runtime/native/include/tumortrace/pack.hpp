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
#include "tumortrace/quantise.hpp"

namespace tumortrace {

/// Extent of prepared planes, the last axis contiguous.
struct PlanesShape {
    std::size_t slices;
    std::size_t channels;
    std::size_t rows;
    std::size_t columns;
};

namespace detail {

/// Columns that are quantised at a time; a multiple of every block.
constexpr std::size_t tile_px = 1024;

/// Rows that are quantised at a time; a multiple of every block.
constexpr std::size_t tile_rows = 8;

/// Rows of quantised pixels, `tile_px` apart, to cells: the block x block bytes that become one pixel's channels.
template <std::size_t block>
inline void interleave(const std::uint8_t* __restrict rows, std::size_t count,
                       std::uint8_t* __restrict cells) noexcept {
    for (std::size_t x = 0; x < count; ++x) {
        for (std::size_t dy = 0; dy < block; ++dy) {
            std::memcpy(cells + (x * block + dy) * block, rows + dy * tile_px + x * block, block);
        }
    }
}

/// Writes cells `stride` bytes apart.
template <std::size_t block>
inline void scatter(const std::uint8_t* __restrict cells, std::size_t count, std::size_t stride,
                    std::uint8_t* __restrict bytes) noexcept {
    for (std::size_t x = 0; x < count; ++x) {
        std::memcpy(bytes + x * stride, cells + x * block * block, block * block);
    }
}

/// Quantised pixels of float planes.
template <typename Integer>
class QuantisedPlanes {
  public:
    QuantisedPlanes(const float* planes, const PlanesShape& shape, Quantisation by)
        : planes_(planes), shape_(shape), by_(by) {}

    void begin_plane(std::size_t slice, std::size_t channel) noexcept { number_ = slice * shape_.channels + channel; }

    void write(std::size_t row, std::size_t rows, std::size_t column, std::size_t count, std::uint8_t* bytes) noexcept {
        for (std::size_t y = row; y < row + rows; ++y, bytes += tile_px) {
            const float* values = planes_ + (number_ * shape_.rows + y) * shape_.columns + column;
            quantise<Integer>(values, count, by_, dither_of(number_, y, column), bytes);
        }
    }

  private:
    const float* planes_;
    PlanesShape shape_;
    Quantisation by_;
    std::size_t number_ = 0;
};

/// Makes the cells of planes, whose pixels are given row by row.
///
/// @tparam Source has `begin_plane(slice, channel)`, and then `write(row, rows, column, count, bytes)` of that plane,
/// of
///                at most `tile_rows` rows and `tile_px` pixels of each; their bytes lie `tile_px` apart
template <std::size_t block, typename Source>
class CellMaker {
  public:
    CellMaker(Source& source, const PlanesShape& shape) : source_(source), shape_(shape) {}

    /// Calls each(y, x, rows, count) for runs of a plane's cells: `count` cells from (y, x) on, to be
    /// made of `rows` by `interleave`.
    template <typename Each>
    void for_each_run(std::size_t slice, std::size_t channel, const Each& each) {
        source_.begin_plane(slice, channel);
        for (std::size_t row = 0; row < shape_.rows; row += tile_rows) {
            const std::size_t rows = std::min(tile_rows, shape_.rows - row);
            for (std::size_t column = 0; column < shape_.columns; column += tile_px) {
                const std::size_t count = std::min(tile_px, shape_.columns - column);
                source_.write(row, rows, column, count, tile_.data());
                for (std::size_t y = 0; y < rows; y += block) {
                    each((row + y) / block, column / block, tile_.data() + y * tile_px, count / block);
                }
            }
        }
    }

    /// Writes a plane's cells: (rows / block, columns / block, block x block).
    void make(std::size_t slice, std::size_t channel, std::uint8_t* bytes) {
        for_each_run(slice, channel, [&](std::size_t y, std::size_t x, const std::uint8_t* rows, std::size_t count) {
            const std::size_t cell = y * (shape_.columns / block) + x;
            interleave<block>(rows, count, bytes + cell * block * block);
        });
    }

  private:
    Source& source_;
    PlanesShape shape_;
    std::array<std::uint8_t, tile_rows * tile_px> tile_;
};

/// Puts together a batch.
template <std::size_t block, typename Source>
class Packer {
  public:
    Packer(Source& source, const PlanesShape& shape, const BatchRange& range, std::uint8_t* batch)
        : maker_(source, shape), shape_(shape), range_(range), batch_(batch) {}

    /// Reads plane by plane from front to back, which the processor foresees; that pays more than to write in order.
    void pack() {
        for_each_slice(range_, shape_.slices, [&](std::size_t slice, Places places) {
            for (std::size_t channel = 0; channel < shape_.channels; ++channel) {
                pack_plane(slice, channel, places);
            }
        });
    }

  private:
    void pack_plane(std::size_t slice, std::size_t channel, Places places) {
        maker_.for_each_run(slice, channel,
                            [&](std::size_t y, std::size_t x, const std::uint8_t* rows, std::size_t count) {
                                interleave<block>(rows, count, cells_.data());
                                for_each_view(range_, places, [&](std::size_t n, std::size_t neighbour) {
                                    write_cells(n, neighbour * shape_.channels + channel, y, x, count);
                                });
                            });
    }

    void write_cells(std::size_t n, std::size_t cell, std::size_t y, std::size_t x, std::size_t count) noexcept {
        const std::size_t stride = range_.neighbours() * shape_.channels * block * block;
        const std::size_t pixel = (n * (shape_.rows / block) + y) * (shape_.columns / block) + x;
        scatter<block>(cells_.data(), count, stride, batch_ + pixel * stride + cell * block * block);
    }

    CellMaker<block, Source> maker_;
    PlanesShape shape_;
    BatchRange range_;
    std::uint8_t* batch_;
    std::array<std::uint8_t, block * tile_px> cells_;
};

/// Calls pack(block) with a block of 1, 2 or 4 as a constant.
template <typename Pack>
void with_block(std::size_t block, const Pack& pack) {
    switch (block) {
        case 1:
            return pack(std::integral_constant<std::size_t, 1>());
        case 2:
            return pack(std::integral_constant<std::size_t, 2>());
        default:
            return pack(std::integral_constant<std::size_t, 4>());
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
    auto* const bytes = reinterpret_cast<std::uint8_t*>(batch);
    detail::with_block(block, [&](auto constant) {
        detail::Packer<constant, detail::QuantisedPlanes<Integer>>(source, shape, range, bytes).pack();
    });
}

}  // namespace tumortrace
