// 16-bit levels: how often each occurs, and what each becomes.

#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace tumortrace {

constexpr std::size_t level_count = 65536;

namespace detail {

constexpr std::size_t levels_at_once = 16;

/// Whether `levels_at_once` levels are all the same, as most of them are in what surrounds a head.
inline bool uniform(const std::uint16_t* levels) noexcept {
    std::array<std::uint64_t, levels_at_once / 4> four;
    std::memcpy(four.data(), levels, sizeof four);
    const std::uint64_t rotated = four[0] << 16 | four[0] >> 48;
    return ((rotated ^ four[0]) | (four[1] ^ four[0]) | (four[2] ^ four[0]) | (four[3] ^ four[0])) == 0;
}

}  // namespace detail

/// A histogram that is emptied and filled again; nothing is allocated after its construction. At most 2^32 - 1 levels
/// can be counted.
class Histogram {
  public:
    Histogram() : even_(level_count), odd_(level_count) {}

    /// Counts nothing any more, and then levels from 0 to `size` - 1, at most 65535.
    void clear(std::size_t size) noexcept {
        size_ = size;
        std::fill_n(even_.begin(), size, 0U);
        std::fill_n(odd_.begin(), size, 0U);
    }

    /// Counts every level of a row.
    void add(const std::uint16_t* levels, std::size_t count) noexcept {
        // Two tables, because a counter cannot be raised again before its new value is stored.
        std::uint32_t* __restrict even = even_.data();
        std::uint32_t* __restrict odd = odd_.data();
        std::size_t i = 0;
        for (; i + detail::levels_at_once <= count; i += detail::levels_at_once) {
            if (detail::uniform(levels + i)) {
                even[levels[i]] += detail::levels_at_once;
                continue;
            }
            for (std::size_t k = i; k < i + detail::levels_at_once; k += 2) {
                ++even[levels[k]];
                ++odd[levels[k + 1]];
            }
        }
        for (; i < count; ++i) {
            ++even[levels[i]];
        }
    }

    /// How often each level was counted.
    std::uint32_t* counts() noexcept {
        for (std::size_t level = 0; level < size_; ++level) {
            even_[level] += odd_[level];
            odd_[level] = 0;
        }
        return even_.data();
    }

  private:
    std::size_t size_ = level_count;
    std::vector<std::uint32_t> even_;
    std::vector<std::uint32_t> odd_;
};

}  // namespace tumortrace
