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
    Histogram() : counters_(2 * level_count) {}

    /// Counts nothing any more, and then levels from 0 to `size` - 1, at most 65535.
    void clear(std::size_t size) noexcept {
        size_ = size;
        tables_ = size <= counters_.size() / many_tables ? many_tables : 2;
        std::fill_n(counters_.begin(), tables_ * size, 0U);
    }

    /// Counts every level of a row.
    void add(const std::uint16_t* levels, std::size_t count) noexcept {
        tables_ == 2 ? add_to<2>(levels, count) : add_to<many_tables>(levels, count);
    }

    /// Counts what another one counted, of as many levels.
    void add(Histogram& other) noexcept {
        const std::uint32_t* const counts = other.counts();
        for (std::size_t level = 0; level < size_; ++level) {
            counters_[level] += counts[level];
        }
    }

    /// How often each level was counted.
    std::uint32_t* counts() noexcept {
        for (std::size_t table = 1; table < tables_; ++table) {
            std::uint32_t* other = counters_.data() + table * size_;
            for (std::size_t level = 0; level < size_; ++level) {
                counters_[level] += other[level];
                other[level] = 0;
            }
        }
        return counters_.data();
    }

  private:
    static constexpr std::size_t many_tables = 8;

    /// Neighbouring levels go to tables of their own, because a counter cannot be raised again before its new value is
    /// stored, and neighbours are often alike.
    template <std::size_t tables>
    void add_to(const std::uint16_t* levels, std::size_t count) noexcept {
        std::uint32_t* const counters = counters_.data();
        const std::size_t size = size_;
        std::size_t i = 0;
        for (; i + detail::levels_at_once <= count; i += detail::levels_at_once) {
            if (detail::uniform(levels + i)) {
                counters[levels[i]] += detail::levels_at_once;
                continue;
            }
            for (std::size_t k = 0; k < detail::levels_at_once; ++k) {
                ++counters[k % tables * size + levels[i + k]];
            }
        }
        for (; i < count; ++i) {
            ++counters[levels[i]];
        }
    }

    std::size_t size_ = 0;
    std::size_t tables_ = 2;
    std::vector<std::uint32_t> counters_;
};

}  // namespace tumortrace
