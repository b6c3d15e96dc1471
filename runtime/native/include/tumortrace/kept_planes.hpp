// Batches of integers one after the other: a slice that several of them show is quantised once.

#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "tumortrace/batch.hpp"
#include "tumortrace/dispatch.hpp"
#include "tumortrace/pack.hpp"
#include "tumortrace/quantise.hpp"

namespace tumortrace {

namespace detail {

/// Writes pixel after pixel the cells that `count` planes have there.
template <std::size_t block>
inline void gather(const std::uint8_t* const* planes, std::size_t count, std::size_t pixels,
                   std::uint8_t* __restrict batch) noexcept {
    constexpr std::size_t cell = block * block;
    for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
        for (std::size_t plane = 0; plane < count; ++plane, batch += cell) {
            std::memcpy(batch, planes[plane] + pixel * cell, cell);
        }
    }
}

}  // namespace detail

/// Packs batches, and keeps the planes of the last of them.
///
/// Keeps its buffers: allocates only for larger planes than ever before, or more of them.
class KeptPlanes {
  public:
    explicit KeptPlanes(Vectors vectors)
        : vectors_(vectors == Vectors::avx512 ? Vectors::avx2 : vectors) {}  // wider ones shuffle more slowly

    /// Says that the planes that come are another scan's.
    void forget() noexcept { std::fill(held_.begin(), held_.end(), nothing); }

    /// Packs the slices of a batch and their neighbours, as `pack_batch` does.
    ///
    /// @param source as `CellMaker` takes it
    /// @param block  1, 2 or 4; divides rows and columns
    template <typename Source>
    void pack(Source& source, const PlanesShape& shape, const BatchRange& range, std::size_t block, Quantisation by,
              bool is_signed, std::uint8_t* batch) {
        prepare({range.neighbours(), shape.channels, shape.rows, shape.columns, block}, by, is_signed);
        detail::with_block(block, [&](auto constant) {
            detail::CellMaker<constant, Source> maker(source, shape);
            pack_slices(maker, shape, range, batch);
        });
    }

  private:
    static constexpr std::size_t nothing = std::numeric_limits<std::size_t>::max();

    /// Makes room; forgets all where another network's planes were kept.
    ///
    /// @param sizes neighbours, channels, rows, columns and block
    void prepare(const std::array<std::size_t, 5>& sizes, Quantisation by, bool is_signed) {
        const bool same = by.scale == by_.scale && by.zero_point == by_.zero_point && is_signed == is_signed_;
        if (same && sizes == sizes_) return;
        sizes_ = sizes;
        by_ = by;
        is_signed_ = is_signed;
        const std::size_t planes = sizes[0] * sizes[1];
        plane_bytes_ = sizes[2] * sizes[3];
        bytes_.resize(planes * plane_bytes_);
        held_.assign(planes, nothing);
        seen_.resize(planes);
    }

    template <std::size_t block, typename Source>
    void pack_slices(detail::CellMaker<block, Source>& maker, const PlanesShape& shape, const BatchRange& range,
                     std::uint8_t* batch) {
        for (std::size_t slice = range.start; slice < range.stop; ++slice, batch += seen_.size() * plane_bytes_) {
            if (seen_.size() == 1) {
                maker.make(slice, 0, batch);
                continue;
            }
            for (std::size_t view = 0; view < seen_.size(); ++view) {
                const std::size_t place = slice + view / shape.channels;
                const std::size_t neighbour =
                    std::clamp(place, range.context, range.context + shape.slices - 1) - range.context;
                seen_[view] = plane(maker, neighbour, view % shape.channels);
            }
            gather<block>(batch);
        }
    }

    /// The cells of a plane, which are made unless they are there.
    template <std::size_t block, typename Source>
    const std::uint8_t* plane(detail::CellMaker<block, Source>& maker, std::size_t slice, std::size_t channel) {
        const std::size_t place = slice % sizes_[0] * sizes_[1] + channel;
        std::uint8_t* const cells = bytes_.data() + place * plane_bytes_;
        if (held_[place] != slice) {
            held_[place] = slice;
            maker.make(slice, channel, cells);
        }
        return cells;
    }

    /// Puts together what a slice of the batch sees; faster where the number of planes is a constant.
    template <std::size_t block>
    void gather(std::uint8_t* batch) const {
        const std::uint8_t* const* const planes = seen_.data();
        const std::size_t count = seen_.size(), pixels = plane_bytes_ / (block * block);
        vectorised(vectors_, [&] {
            switch (count) {
                case 3:
                    return detail::gather<block>(planes, 3, pixels, batch);
                case 9:
                    return detail::gather<block>(planes, 9, pixels, batch);
                default:
                    return detail::gather<block>(planes, count, pixels, batch);
            }
        });
    }

    Vectors vectors_;
    std::array<std::size_t, 5> sizes_{};
    Quantisation by_{};
    bool is_signed_ = false;
    std::size_t plane_bytes_ = 0;
    std::vector<std::uint8_t> bytes_;
    std::vector<std::size_t> held_;          ///< the slice whose plane is at each place
    std::vector<const std::uint8_t*> seen_;  ///< what one slice of the batch sees
};

}  // namespace tumortrace
