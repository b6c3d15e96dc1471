// Stored voxels to integers in one loop, where each is a pixel of the network's grid.

#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <type_traits>
#include <vector>

#include "tumortrace/dispatch.hpp"
#include "tumortrace/dither.hpp"
#include "tumortrace/grid.hpp"
#include "tumortrace/heads.hpp"
#include "tumortrace/quantise.hpp"
#include "tumortrace/statistics.hpp"
#include "tumortrace/voxels.hpp"

namespace tumortrace {

namespace detail {

/// Pixels that are written together.
constexpr std::size_t chunk_px = 64;

/// What a channel's voxels become.
struct VoxelQuantisation {
    ChannelStatistics statistics;
    float scale;
    Rounding rounding;
    Steps fill;      ///< what surrounds the slice
    VoxelRange air;  ///< voxels that become that, too
};

/// Nothing where what surrounds the slice, `fill`, has no `Steps`.
template <typename Integer>
inline std::optional<VoxelQuantisation> voxel_quantisation(const ChannelStatistics& statistics, float fill,
                                                           Quantisation by) noexcept {
    const Rounding rounding = rounding_to<Integer>(by.zero_point);
    const auto steps = steps_of(fill / by.scale, rounding);
    if (!steps) return std::nullopt;
    return VoxelQuantisation{statistics, by.scale, rounding, *steps, air_of(statistics)};
}

/// Where some pixels begin: in which of the scan's planes, and where on the grid.
struct PixelPlace {
    std::size_t plane;
    std::size_t row;
    std::size_t column;

    Dither dither(std::size_t down, std::size_t right) const noexcept {
        return dither_of(plane, row + down, column + right);
    }
};

/// Neighbouring rows of voxels, each of them contiguous.
template <typename Stored, std::size_t rows>
struct VoxelRows {
    const Stored* first;
    std::ptrdiff_t stride;  ///< from one row to the next, in voxels
    std::size_t columns;

    const Stored* row(std::size_t index) const noexcept { return first + static_cast<std::ptrdiff_t>(index) * stride; }
};

/// A limit of voxels, as they are stored.
template <typename Stored>
inline Stored stored_limit(float limit) noexcept {
    using Type = std::numeric_limits<Stored>;
    return static_cast<Stored>(std::clamp(limit, static_cast<float>(Type::lowest()), static_cast<float>(Type::max())));
}

/// Whether all voxels of some columns are from `least` to `greatest`.
template <typename Stored, std::size_t rows>
inline bool all_between(const VoxelRows<Stored, rows>& voxels, std::size_t column, Stored least,
                        Stored greatest) noexcept {
    // As wide as a voxel, so that comparisons stay in vector registers.
    using Mask = std::conditional_t<sizeof(Stored) == 1, std::uint8_t,
                                    std::conditional_t<sizeof(Stored) == 2, std::uint16_t, std::uint32_t>>;
    constexpr Mask all = std::numeric_limits<Mask>::max();
    const Stored* const __restrict first = voxels.first + column;
    const std::ptrdiff_t stride = voxels.stride;
    Mask outside = 0;
    for (std::size_t x = 0; x < band_columns; ++x) {
        for (std::size_t row = 0; row < rows; ++row) {
            const Stored voxel = first[static_cast<std::ptrdiff_t>(row) * stride + static_cast<std::ptrdiff_t>(x)];
            outside = static_cast<Mask>(outside | (voxel < least ? all : Mask{0}) | (voxel > greatest ? all : Mask{0}));
        }
    }
    return outside == 0;
}

template <typename Stored>
inline void quantise_chunk(const Stored* __restrict voxels, const VoxelQuantisation& by, Dither dither,
                           std::uint8_t* __restrict bytes) noexcept {
    const ChannelStatistics statistics = by.statistics;
    const Rounding rounding = by.rounding;
    const float scale = by.scale;
    for (std::size_t i = 0; i < chunk_px; ++i) {
        const float value = normalised(static_cast<float>(voxels[i]), statistics);
        bytes[i] = rounding.byte(value / scale + dither.at(i));
    }
}

/// Less than a chunk.
template <typename Stored>
inline void quantise_few(const Stored* voxels, std::size_t count, const VoxelQuantisation& by, Dither dither,
                         std::uint8_t* bytes) noexcept {
    std::array<Stored, chunk_px> padded{};
    std::array<std::uint8_t, chunk_px> all;
    std::copy_n(voxels, count, padded.begin());
    quantise_chunk(padded.data(), by, dither, all.data());
    std::copy_n(all.begin(), count, bytes);
}

template <typename Stored>
inline void quantise_row(const Stored* voxels, std::size_t count, const VoxelQuantisation& by, const PixelPlace& place,
                         std::uint8_t* bytes) noexcept {
    if (count == 0) return;
    if (count < chunk_px) return quantise_few(voxels, count, by, place.dither(0, 0), bytes);
    for (std::size_t x = 0; x < count; x += chunk_px) {
        const std::size_t from = std::min(x, count - chunk_px);
        quantise_chunk(voxels + from, by, place.dither(0, from), bytes + from);
    }
}

/// From `begin` to `end` - 1, and where that is less than a chunk, so much of `all` around it.
inline Extent at_least_a_chunk(Extent part, Extent all) noexcept {
    if (part.size() == 0 || part.size() >= chunk_px) return part;
    const std::size_t latest = std::max(all.end, all.begin + chunk_px) - chunk_px;
    const std::size_t begin = std::min(part.begin, latest);
    return {begin, std::min(all.end, begin + chunk_px)};
}

/// The columns of some rows between which not all is air.
template <typename Stored, std::size_t rows>
inline Extent find_head(const VoxelRows<Stored, rows>& voxels, const VoxelRange& air) noexcept {
    const auto least = stored_limit<Stored>(air.least), greatest = stored_limit<Stored>(air.greatest);
    Extent head{0, voxels.columns};
    while (head.size() >= band_columns && all_between(voxels, head.begin, least, greatest)) {
        head.begin += band_columns;
    }
    while (head.size() >= band_columns && all_between(voxels, head.end - band_columns, least, greatest)) {
        head.end -= band_columns;
    }
    return at_least_a_chunk(head, {0, voxels.columns});
}

}  // namespace detail

/// A plane of a scan whose slices come onto the grid pixel by pixel.
struct VoxelPlane {
    const Voxels* voxels;
    const Heads* heads;
    Placement placement;
    std::size_t slice;
    std::size_t channel;
    bool replaced;  ///< whether all of it is `fill`
    ChannelStatistics statistics;
    float fill;  ///< normalised, what surrounds the slice: the background, or 0
};

/// Quantises planes from their voxels.
///
/// Keeps its buffer: allocates only for longer rows than ever before.
class VoxelQuantiser {
  public:
    explicit VoxelQuantiser(Vectors vectors) : vectors_(vectors) {}

    /// Takes up a plane.
    ///
    /// @return whether it can be written, which is so but for a few values of `fill`
    template <typename Integer>
    bool begin_plane(const VoxelPlane& plane, Quantisation by) {
        plane_ = plane;
        by_ = detail::voxel_quantisation<Integer>(plane.statistics, plane.fill, by);
        values_.resize(std::max(values_.size(), band_rows * plane.placement.scan.columns));
        return by_.has_value();
    }

    /// Writes the bytes of a part of the plane's rows. More bytes may be written of each row, up to a multiple of 64.
    ///
    /// @param bytes rows of them `stride` apart
    void write(std::size_t row, std::size_t rows, std::size_t column, std::size_t count, std::uint8_t* bytes,
               std::size_t stride) {
        const Target target{row, column, count, bytes, stride};
        const std::size_t top = plane_.placement.offset.rows;
        const std::size_t bottom = plane_.replaced ? top : top + plane_.placement.scan.rows;
        const std::size_t first = std::clamp(top, row, row + rows), last = std::clamp(bottom, row, row + rows);
        write_fill(target, row, first);
        std::size_t y = first;
        for (; y + band_rows <= last; y += band_rows) write_rows<band_rows>(target, y);
        for (; y < last; ++y) write_rows<1>(target, y);
        write_fill(target, last, row + rows);
    }

  private:
    /// The part of the plane to write, and where.
    struct Target {
        std::size_t row;
        std::size_t column;
        std::size_t count;
        std::uint8_t* bytes;
        std::size_t stride;

        std::uint8_t* at(std::size_t y, std::size_t x) const noexcept {
            return bytes + (y - row) * stride + (x - column);
        }
    };

    detail::PixelPlace place(std::size_t row, std::size_t column) const noexcept {
        return {plane_.slice * plane_.voxels->channels() + plane_.channel, row, column};
    }

    /// Writes rows from `begin` to `end` - 1 in which there is no voxel.
    void write_fill(const Target& target, std::size_t begin, std::size_t end) const {
        if (begin == end) return;
        vectorised(vectors_, [&] { fill_around({target.column, target.column}, target, begin, end); });
    }

    /// Writes rows but for columns from `head.begin` to `head.end` - 1, in whole chunks.
    void fill_around(Extent head, const Target& target, std::size_t begin, std::size_t end) const noexcept {
        const detail::Steps steps = by_->fill;
        for (std::size_t y = begin; y < end; ++y) {
            const detail::PixelPlace row = place(y, target.column);
            std::uint8_t* const bytes = target.at(y, target.column);
            for (std::size_t x = 0; x < target.count; x += detail::chunk_px) {
                const bool inside = head.begin <= target.column + x && target.column + x + detail::chunk_px <= head.end;
                if (!inside) detail::write_steps(steps, detail::chunk_px, row.dither(0, x), bytes + x);
            }
        }
    }

    /// Columns of the grid that the target shares with the heads in rows from row `y` on.
    Extent head_of(const Target& target, std::size_t y, std::size_t rows) const noexcept {
        const auto [top, left] = plane_.placement.offset;
        const Extent head = plane_.heads->columns(plane_.channel, plane_.slice, y - top, rows);
        const Extent all{std::max(target.column, left),
                         std::min(target.column + target.count, left + plane_.placement.scan.columns)};
        const std::size_t begin = std::max(all.begin, left + head.begin), end = std::min(all.end, left + head.end);
        return begin < end ? detail::at_least_a_chunk({begin, end}, all) : Extent{target.column, target.column};
    }

    Row stored(Extent head, std::size_t y) const noexcept {
        const auto [top, left] = plane_.placement.offset;
        return row_of(*plane_.voxels, plane_.channel, plane_.slice, y - top, head.begin - left, head.size());
    }

    /// Writes rows from row `y` on, all of them in the slice.
    template <std::size_t rows>
    void write_rows(const Target& target, std::size_t y) {
        const Extent head = head_of(target, y, rows);
        if (head.size() == 0) return write_fill(target, y, y + rows);
        const VoxelType type = plane_.voxels->type;
        if (plane_.voxels->strides[2] == 1) {
            switch (type) {
                case VoxelType::uint8:
                    return write_stored<std::uint8_t, rows>(target, y, head);
                case VoxelType::uint16:
                    return write_stored<std::uint16_t, rows>(target, y, head);
                case VoxelType::int16:
                    return write_stored<std::int16_t, rows>(target, y, head);
                case VoxelType::float32:
                    return write_stored<float, rows>(target, y, head);
                default:
                    break;
            }
        }
        const std::size_t columns = head.size();
        for (std::size_t row = 0; row < rows; ++row) {
            reader(type).write_values(vectors_, stored(head, y + row), values_.data() + row * columns);
        }
        write_voxels<float, rows>({values_.data(), static_cast<std::ptrdiff_t>(columns), columns}, target, y, head);
    }

    template <typename Stored, std::size_t rows>
    void write_stored(const Target& target, std::size_t y, Extent head) {
        const auto* const first = static_cast<const Stored*>(stored(head, y).data);
        write_voxels<Stored, rows>({first, plane_.voxels->strides[1], head.size()}, target, y, head);
    }

    /// Writes rows, of which `voxels` are in the columns of `head`.
    template <typename Stored, std::size_t rows>
    void write_voxels(const detail::VoxelRows<Stored, rows>& voxels, const Target& target, std::size_t y, Extent head) {
        vectorised(vectors_, [&] {
            const detail::VoxelQuantisation by = *by_;
            const Extent inner = detail::find_head(voxels, by.air);
            const Extent columns{head.begin + inner.begin, head.begin + inner.end};
            fill_around(columns, target, y, y + rows);
            for (std::size_t row = 0; row < rows; ++row) {
                detail::quantise_row(voxels.row(row) + inner.begin, inner.size(), by, place(y + row, columns.begin),
                                     target.at(y + row, columns.begin));
            }
        });
    }

    Vectors vectors_;
    VoxelPlane plane_{};
    std::optional<detail::VoxelQuantisation> by_;
    std::vector<float> values_;  ///< of a band whose voxels must be converted first
};

}  // namespace tumortrace
