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
#include "tumortrace/quantise.hpp"
#include "tumortrace/statistics.hpp"
#include "tumortrace/voxels.hpp"

namespace tumortrace {

namespace detail {

/// Pixels that are written together.
constexpr std::size_t chunk_px = 64;

/// Columns that are looked at together, and rows.
constexpr std::size_t group_columns = 16;
constexpr std::size_t group_rows = 8;

/// What a channel's voxels become.
struct VoxelQuantisation {
    ChannelStatistics statistics;
    float scale;
    Rounding rounding;
    Steps fill;             ///< what surrounds the slice
    float least, greatest;  ///< voxels from one to the other become that, too
};

/// Nothing where what surrounds the slice, `fill`, has no `Steps`.
template <typename Integer>
inline std::optional<VoxelQuantisation> voxel_quantisation(const ChannelStatistics& statistics, float fill,
                                                           Quantisation by) noexcept {
    const Rounding rounding = rounding_to<Integer>(by.zero_point);
    const auto steps = steps_of(fill / by.scale, rounding);
    if (!steps) return std::nullopt;
    VoxelQuantisation result{statistics, by.scale, rounding, *steps, statistics.background, statistics.background};
    if (statistics.background <= statistics.low) {
        result.least = std::numeric_limits<float>::lowest();
        result.greatest = statistics.low;
    } else if (statistics.background >= statistics.high) {
        result.least = statistics.high;
        result.greatest = std::numeric_limits<float>::max();
    }
    return result;
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
    for (std::size_t x = 0; x < group_columns; ++x) {
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

/// Writes the integers of voxels; but where whole columns at either end become what surrounds the slice, they are left
/// as they are.
///
/// @param bytes rows of them `bytes_stride` apart
template <typename Stored, std::size_t rows>
inline void quantise_head(const VoxelRows<Stored, rows>& voxels, const VoxelQuantisation& by, const PixelPlace& place,
                          std::uint8_t* bytes, std::size_t bytes_stride) noexcept {
    const auto least = stored_limit<Stored>(by.least), greatest = stored_limit<Stored>(by.greatest);
    std::size_t begin = 0, end = voxels.columns;
    while (begin + group_columns <= end && all_between(voxels, begin, least, greatest)) begin += group_columns;
    while (begin + group_columns <= end && all_between(voxels, end - group_columns, least, greatest)) {
        end -= group_columns;
    }
    if (begin == end) return;
    begin = std::min(begin, std::max(voxels.columns, chunk_px) - chunk_px);
    end = std::min(voxels.columns, std::max(end, begin + chunk_px));
    for (std::size_t row = 0; row < rows; ++row, bytes += bytes_stride) {
        const Stored* const first = voxels.row(row);
        if (end - begin < chunk_px) {
            quantise_few(first + begin, end - begin, by, place.dither(row, begin), bytes + begin);
            continue;
        }
        for (std::size_t x = begin; x < end; x += chunk_px) {
            const std::size_t from = std::min(x, end - chunk_px);
            quantise_chunk(first + from, by, place.dither(row, from), bytes + from);
        }
    }
}

}  // namespace detail

/// Quantises planes of a scan whose slices come onto the grid pixel by pixel.
///
/// Keeps its buffer: allocates only for longer rows than ever before.
class VoxelQuantiser {
  public:
    explicit VoxelQuantiser(Vectors vectors) : vectors_(vectors) {}

    /// Takes up a plane.
    ///
    /// @param statistics of its channel; ignored where `replaced`
    /// @param replaced   whether all of the plane is `fill`
    /// @param fill       normalised, what surrounds the slice: the background, or 0
    /// @return whether it can be written, which is so but for a few values of `fill`
    template <typename Integer>
    bool begin_plane(const Voxels& voxels, const Placement& placement, std::size_t slice, std::size_t channel,
                     const ChannelStatistics& statistics, bool replaced, float fill, Quantisation by) {
        voxels_ = voxels;
        placement_ = placement;
        slice_ = slice;
        channel_ = channel;
        replaced_ = replaced;
        by_ = detail::voxel_quantisation<Integer>(statistics, fill, by);
        return by_.has_value();
    }

    /// Writes the bytes of a part of the plane's rows. More bytes may be written of each row, up to a multiple of 64.
    ///
    /// @param bytes rows of them `bytes_stride` apart
    void write(std::size_t row, std::size_t rows, std::size_t column, std::size_t count, std::uint8_t* bytes,
               std::size_t bytes_stride) {
        write_fill(place(row, column), rows, count, bytes, bytes_stride);
        const auto [top, left] = placement_.offset;
        const std::size_t begin = std::max(column, left),
                          end = std::min(column + count, left + placement_.scan.columns);
        if (replaced_ || begin >= end) return;
        std::size_t y = std::max(row, top);
        const std::size_t last = std::min(row + rows, top + placement_.scan.rows);
        const Window window{begin, end - begin, bytes + begin - column, row, bytes_stride};
        for (; y + detail::group_rows <= last; y += detail::group_rows) write_rows<detail::group_rows>(window, y);
        for (; y < last; ++y) write_rows<1>(window, y);
    }

  private:
    /// The columns of the grid that are written, where the bytes of the first lie, in which row, and of how many bytes.
    struct Window {
        std::size_t column;
        std::size_t count;
        std::uint8_t* bytes;
        std::size_t row;
        std::size_t stride;
    };

    detail::PixelPlace place(std::size_t row, std::size_t column) const noexcept {
        return {slice_ * voxels_.channels() + channel_, row, column};
    }

    void write_fill(const detail::PixelPlace& place, std::size_t rows, std::size_t count, std::uint8_t* bytes,
                    std::size_t bytes_stride) const {
        vectorised(vectors_, [&] {
            for (std::size_t row = 0; row < rows; ++row) {
                for (std::size_t x = 0; x < count; x += detail::chunk_px) {
                    detail::write_steps(by_->fill, detail::chunk_px, place.dither(row, x),
                                        bytes + row * bytes_stride + x);
                }
            }
        });
    }

    /// Writes rows of the grid from row `y` on, all of them in the slice.
    template <std::size_t rows>
    void write_rows(const Window& window, std::size_t y) {
        const std::size_t size_bytes = reader(voxels_.type).size_bytes;
        for (std::size_t ahead = y + rows; ahead < std::min(y + 2 * rows, bottom()); ++ahead) {
            // Columns are looked at across the rows, which the processor does not foresee.
            prefetch(stored(window, ahead), size_bytes);
        }
        if (voxels_.strides[2] == 1) {
            switch (voxels_.type) {
                case VoxelType::uint8:
                    return write_stored<std::uint8_t, rows>(window, y);
                case VoxelType::uint16:
                    return write_stored<std::uint16_t, rows>(window, y);
                case VoxelType::int16:
                    return write_stored<std::int16_t, rows>(window, y);
                case VoxelType::float32:
                    return write_stored<float, rows>(window, y);
                default:
                    break;
            }
        }
        values_.resize(std::max(values_.size(), rows * window.count));
        for (std::size_t row = 0; row < rows; ++row) {
            reader(voxels_.type).write_values(vectors_, stored(window, y + row), values_.data() + row * window.count);
        }
        write_head<float, rows>({values_.data(), static_cast<std::ptrdiff_t>(window.count), window.count}, window, y);
    }

    template <typename Stored, std::size_t rows>
    void write_stored(const Window& window, std::size_t y) {
        const auto* const first = static_cast<const Stored*>(stored(window, y).data);
        write_head<Stored, rows>({first, voxels_.strides[1], window.count}, window, y);
    }

    template <typename Stored, std::size_t rows>
    void write_head(const detail::VoxelRows<Stored, rows>& voxels, const Window& window, std::size_t y) {
        std::uint8_t* const bytes = window.bytes + (y - window.row) * window.stride;
        vectorised(vectors_,
                   [&] { detail::quantise_head(voxels, *by_, place(y, window.column), bytes, window.stride); });
    }

    std::size_t bottom() const noexcept { return placement_.offset.rows + placement_.scan.rows; }

    Row stored(const Window& window, std::size_t y) const noexcept {
        return row_of(voxels_, channel_, slice_, y - placement_.offset.rows, window.column - placement_.offset.columns,
                      window.count);
    }

    Vectors vectors_;
    Voxels voxels_{};
    Placement placement_{};
    std::size_t slice_ = 0, channel_ = 0;
    bool replaced_ = false;
    std::optional<detail::VoxelQuantisation> by_;
    std::vector<float> values_;
};

}  // namespace tumortrace
