// A scan's stored voxels, of any real type in any memory layout, read row by row.

#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <type_traits>

#include "tumortrace/dispatch.hpp"

namespace tumortrace {

/// How a voxel is stored, in the machine's byte order.
enum class VoxelType { uint8, int8, uint16, int16, uint32, int32, uint64, int64, float32, float64 };

/// Voxels (slices, rows, columns, channels) that somebody else owns.
struct Voxels {
    const void* data;                  ///< the voxel at (0, 0, 0, 0)
    VoxelType type;                    ///< of every voxel
    std::array<std::size_t, 4> shape;  ///< slices, rows, columns, channels
    std::array<std::ptrdiff_t, 4>
        strides;  ///< from one to the next along each axis, in voxels; of any sign, 0 included

    std::size_t slices() const noexcept { return shape[0]; }
    std::size_t rows() const noexcept { return shape[1]; }
    std::size_t columns() const noexcept { return shape[2]; }
    std::size_t channels() const noexcept { return shape[3]; }
};

/// Least and greatest of what was seen, as keys, which are integers in the order of the values; they mean nothing where
/// a value was not finite.
struct Extremes {
    std::int64_t least = std::numeric_limits<std::int64_t>::max();
    std::int64_t greatest = std::numeric_limits<std::int64_t>::min();
    std::size_t not_finite = 0;  ///< values that are NaN, infinite or beyond float32

    void add(const Extremes& other) noexcept {
        least = std::min(least, other.least);
        greatest = std::max(greatest, other.greatest);
        not_finite += other.not_finite;
    }
};

/// Voxels of one row of one channel.
struct Row {
    const void* data;
    std::ptrdiff_t stride;  ///< in voxels
    std::size_t count;
};

namespace detail {

template <typename Stored>
inline Stored voxel(const Row& row, std::size_t i) noexcept {
    return static_cast<const Stored*>(row.data)[static_cast<std::ptrdiff_t>(i) * row.stride];
}

/// Calls each(i, voxel i). Planes, and images of three channels, take loops that become vector instructions.
template <typename Stored, typename Each>
inline void for_each_voxel(Vectors vectors, const Row& row, const Each& each) noexcept {
    const Stored* __restrict voxels = static_cast<const Stored*>(row.data);
    vectorised(vectors, [&] {
        if (row.stride == 1) {
            for (std::size_t i = 0; i < row.count; ++i) each(i, voxels[i]);
        } else if (row.stride == 3) {
            for (std::size_t i = 0; i < row.count; ++i) each(i, voxels[3 * i]);
        } else {
            for (std::size_t i = 0; i < row.count; ++i) each(i, voxel<Stored>(row, i));
        }
    });
}

constexpr std::int32_t magnitude_bits = 0x7FFFFFFF;
constexpr std::int32_t infinity_bits = 0x7F800000;

inline std::int32_t float_bits(float value) noexcept {
    std::int32_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

/// Keys of floats are their bits as float32, the negative ones turned round; of integers, their values.
inline float key_float(std::int64_t key) noexcept {
    auto bits = static_cast<std::int32_t>(key);
    bits ^= (bits >> 31) & magnitude_bits;
    float value = 0;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

constexpr std::uint64_t sign_bit = std::uint64_t{1} << 63;

template <typename Stored>
inline std::int64_t integer_key(Stored value) noexcept {
    if constexpr (std::is_same_v<Stored, std::uint64_t>) {
        return static_cast<std::int64_t>(value ^ sign_bit);
    } else {
        return static_cast<std::int64_t>(value);
    }
}

template <typename Stored>
inline Stored key_integer(std::int64_t key) noexcept {
    if constexpr (std::is_same_v<Stored, std::uint64_t>) {
        return static_cast<std::uint64_t>(key) ^ sign_bit;
    } else {
        return static_cast<Stored>(key);
    }
}

/// What `Extremes` holds, in the narrowest types, which keeps loops in vector registers.
template <typename Key>
struct RowExtremes {
    Key least;
    Key greatest;
    std::uint32_t not_finite;
};

template <typename Stored>
inline auto row_extremes(const Stored* __restrict voxels, std::ptrdiff_t stride, std::size_t count) noexcept {
    if constexpr (std::is_integral_v<Stored>) {
        Stored least = std::numeric_limits<Stored>::max(), greatest = std::numeric_limits<Stored>::min();
        for (std::size_t i = 0; i < count; ++i) {
            const Stored value = voxels[static_cast<std::ptrdiff_t>(i) * stride];
            least = value < least ? value : least;
            greatest = value > greatest ? value : greatest;
        }
        return RowExtremes<Stored>{least, greatest, 0};
    } else {
        std::int32_t least = std::numeric_limits<std::int32_t>::max();
        std::int32_t greatest = std::numeric_limits<std::int32_t>::min();
        std::uint32_t not_finite = 0;
        for (std::size_t i = 0; i < count; ++i) {
            const std::int32_t bits = float_bits(static_cast<float>(voxels[static_cast<std::ptrdiff_t>(i) * stride]));
            const std::int32_t key = bits ^ ((bits >> 31) & magnitude_bits);
            least = key < least ? key : least;
            greatest = key > greatest ? key : greatest;
            not_finite += (bits & magnitude_bits) >= infinity_bits ? 1U : 0U;
        }
        return RowExtremes<std::int32_t>{least, greatest, not_finite};
    }
}

template <typename Stored>
void add_extremes(Vectors vectors, const Row& row, Extremes& extremes) noexcept {
    const auto* voxels = static_cast<const Stored*>(row.data);
    vectorised(vectors, [&] {
        const auto found =
            row.stride == 1 ? row_extremes(voxels, 1, row.count) : row_extremes(voxels, row.stride, row.count);
        extremes.least = std::min(extremes.least, integer_key(found.least));
        extremes.greatest = std::max(extremes.greatest, integer_key(found.greatest));
        extremes.not_finite += found.not_finite;
    });
}

template <typename Stored>
void write_levels(Vectors vectors, const Row& row, std::int64_t origin, std::uint16_t* __restrict levels) noexcept {
    if constexpr (std::is_integral_v<Stored>) {
        const auto low = static_cast<std::uint16_t>(key_integer<Stored>(origin));
        for_each_voxel<Stored>(vectors, row, [&](std::size_t i, Stored value) {
            levels[i] = static_cast<std::uint16_t>(static_cast<std::uint16_t>(value) - low);
        });
    }
}

template <typename Stored>
void write_values(Vectors vectors, const Row& row, float* __restrict values) noexcept {
    for_each_voxel<Stored>(vectors, row, [&](std::size_t i, Stored value) { values[i] = static_cast<float>(value); });
}

template <typename Stored>
bool same_voxels(const Row& first, const Row& second) noexcept {
    for (std::size_t i = 0; i < first.count; ++i) {
        if (voxel<Stored>(first, i) != voxel<Stored>(second, i)) return false;
    }
    return true;
}

template <typename Stored>
float key_value(std::int64_t key) noexcept {
    if constexpr (std::is_integral_v<Stored>) {
        return static_cast<float>(key_integer<Stored>(key));
    } else {
        return key_float(key);
    }
}

template <typename Stored>
double key_double(std::int64_t key) noexcept {
    if constexpr (std::is_integral_v<Stored>) {
        return static_cast<double>(key_integer<Stored>(key));
    } else {
        return key_float(key);
    }
}

}  // namespace detail

/// What can be done with rows of one type.
struct Reader {
    std::size_t size_bytes;
    bool integral;
    std::int64_t least_key;  ///< of the type's lowest value, where it is an integer

    /// Widens `extremes` to what is in the row.
    void (*add_extremes)(Vectors vectors, const Row& row, Extremes& extremes) noexcept;
    /// Integers as their distance from the one with key `origin`, modulo 65536.
    void (*write_levels)(Vectors vectors, const Row& row, std::int64_t origin, std::uint16_t* levels) noexcept;
    /// As float32, rounded to nearest.
    void (*write_values)(Vectors vectors, const Row& row, float* values) noexcept;
    /// Whether two rows of one length hold equal voxels.
    bool (*same)(const Row& first, const Row& second) noexcept;
    /// The value of a key, as float32.
    float (*key_value)(std::int64_t key) noexcept;
    /// The value of a key, of an integer rounded but once.
    double (*key_double)(std::int64_t key) noexcept;
};

namespace detail {

template <typename Stored>
constexpr std::int64_t least_key() noexcept {
    if constexpr (!std::is_integral_v<Stored> || (std::is_unsigned_v<Stored> && sizeof(Stored) < 8)) {
        return 0;
    } else if constexpr (std::is_unsigned_v<Stored>) {
        return std::numeric_limits<std::int64_t>::min();
    } else {
        return std::numeric_limits<Stored>::min();
    }
}

template <typename Stored>
inline constexpr Reader reader_of{sizeof(Stored),       std::is_integral_v<Stored>, least_key<Stored>(),
                                  add_extremes<Stored>, write_levels<Stored>,       write_values<Stored>,
                                  same_voxels<Stored>,  key_value<Stored>,          key_double<Stored>};

}  // namespace detail

/// The functions for a type.
inline const Reader& reader(VoxelType type) noexcept {
    switch (type) {
        case VoxelType::uint8:
            return detail::reader_of<std::uint8_t>;
        case VoxelType::int8:
            return detail::reader_of<std::int8_t>;
        case VoxelType::uint16:
            return detail::reader_of<std::uint16_t>;
        case VoxelType::int16:
            return detail::reader_of<std::int16_t>;
        case VoxelType::uint32:
            return detail::reader_of<std::uint32_t>;
        case VoxelType::int32:
            return detail::reader_of<std::int32_t>;
        case VoxelType::uint64:
            return detail::reader_of<std::uint64_t>;
        case VoxelType::int64:
            return detail::reader_of<std::int64_t>;
        case VoxelType::float64:
            return detail::reader_of<double>;
        default:
            return detail::reader_of<float>;
    }
}

/// A row of one channel of one slice, from `column` on.
inline Row row_of(const Voxels& voxels, std::size_t channel, std::size_t slice, std::size_t row, std::size_t column,
                  std::size_t count) noexcept {
    const auto at = [&](std::size_t index, std::size_t axis) {
        return static_cast<std::ptrdiff_t>(index) * voxels.strides[axis];
    };
    const std::ptrdiff_t offset = at(slice, 0) + at(row, 1) + at(column, 2) + at(channel, 3);
    const auto size_bytes = static_cast<std::ptrdiff_t>(reader(voxels.type).size_bytes);
    return {static_cast<const char*>(voxels.data) + offset * size_bytes, voxels.strides[2], count};
}

/// Asks for a row's memory, so that it is there when it will be read.
inline void prefetch(const Row& row, std::size_t size_bytes) noexcept {
    constexpr std::size_t line_bytes = 64;
    const auto stride_bytes = row.stride * static_cast<std::ptrdiff_t>(size_bytes);
    const auto reach = static_cast<std::ptrdiff_t>(row.count) * stride_bytes;
    const char* const first = static_cast<const char*>(row.data) + std::min<std::ptrdiff_t>(reach, 0);
    for (std::size_t offset = 0; offset < static_cast<std::size_t>(std::abs(reach)); offset += line_bytes) {
        __builtin_prefetch(first + offset);
    }
}

/// The slices from `begin` to `end` - 1.
inline Voxels slices_of(const Voxels& voxels, std::size_t begin, std::size_t end) noexcept {
    Voxels some = voxels;
    some.data = row_of(voxels, 0, begin, 0, 0, 0).data;
    some.shape[0] = end - begin;
    return some;
}

/// Calls each(row) for every whole row of a channel.
template <typename Each>
inline void for_each_row(const Voxels& voxels, std::size_t channel, const Each& each) {
    for (std::size_t slice = 0; slice < voxels.slices(); ++slice) {
        for (std::size_t row = 0; row < voxels.rows(); ++row) {
            each(row_of(voxels, channel, slice, row, 0, voxels.columns()));
        }
    }
}

}  // namespace tumortrace
