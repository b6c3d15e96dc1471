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

/// Four levels in one integer, which takes a quarter of the loads.
inline std::uint64_t four_levels(const std::uint16_t* levels) noexcept {
    std::uint64_t four = 0;
    std::memcpy(&four, levels, sizeof four);
    return four;
}

/// Whether `levels_at_once` levels are all the same, as most of them are in what surrounds a head.
inline bool uniform(const std::uint16_t* levels) noexcept {
    const std::uint64_t first = four_levels(levels), rotated = first << 16 | first >> 48;
    return ((rotated ^ first) | (four_levels(levels + 4) ^ first) | (four_levels(levels + 8) ^ first) |
            (four_levels(levels + 12) ^ first)) == 0;
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

    /// Counts the levels of a row: what is stored, with the bits of `flip` turned round.
    void add(const std::uint16_t* stored, std::size_t count, std::uint16_t flip) noexcept {
        tables_ == 2 ? add_to<2>(stored, count, flip) : add_to<many_tables>(stored, count, flip);
    }

    /// Counts one level several times.
    void add(std::uint16_t level, std::size_t times) noexcept { counters_[level] += static_cast<std::uint32_t>(times); }

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
    static constexpr std::size_t many_tables = 4;

    /// Neighbouring levels go to tables of their own, because a counter cannot be raised again before its new value is
    /// stored, and neighbours are often alike.
    template <std::size_t tables>
    void add_to(const std::uint16_t* stored, std::size_t count, std::uint16_t flip) noexcept {
        std::uint32_t* const counters = counters_.data();
        const std::size_t size = size_;
        const std::uint64_t four_flips = flip * std::uint64_t{0x0001000100010001};
        std::size_t i = 0;
        for (; i + detail::levels_at_once <= count; i += detail::levels_at_once) {
            if (detail::uniform(stored + i)) {
                counters[stored[i] ^ flip] += detail::levels_at_once;
                continue;
            }
            for (std::size_t k = i; k < i + detail::levels_at_once; k += 4) {
                const std::uint64_t four = detail::four_levels(stored + k) ^ four_flips;
                ++counters[0 % tables * size + (four & 0xFFFF)];
                ++counters[1 % tables * size + (four >> 16 & 0xFFFF)];
                ++counters[2 % tables * size + (four >> 32 & 0xFFFF)];
                ++counters[3 % tables * size + (four >> 48)];
            }
        }
        for (; i < count; ++i) {
            ++counters[stored[i] ^ flip];
        }
    }

    std::size_t size_ = 0;
    std::size_t tables_ = 2;
    std::vector<std::uint32_t> counters_;
};

}  // namespace tumortrace
