// Intensity statistics of one channel of a scan, and the normalisation that follows from them, exact to the bit.
//
// runtime/tumortrace_runtime/preprocess/README.md defines them; every sum is one of integers.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "tumortrace/coverage.hpp"
#include "tumortrace/dispatch.hpp"
#include "tumortrace/level_counter.hpp"
#include "tumortrace/levels.hpp"
#include "tumortrace/thread_pool.hpp"
#include "tumortrace/voxels.hpp"

namespace tumortrace {

/// Which voxels statistics are taken over.
enum class Foreground {
    above_border,  ///< brighter than the border's median by a fraction of the way to percentile 99.5
    not_border,    ///< other than the border's median
};

/// How statistics are taken.
struct StatisticsRule {
    Foreground foreground;
    double foreground_fraction;  ///< between 0 and 1; ignored by `not_border`
    double low_percentile;       ///< 0 to 100
    double high_percentile;      ///< above `low_percentile`, to 100
};

/// What normalises one channel, in the units of the stored voxels.
struct ChannelStatistics {
    float background;
    float low, high;
    float mean;
    float scale;
};

/// Voxels from `least` to `greatest`.
struct VoxelRange {
    float least;
    float greatest;
};

/// The voxels that are normalised to what the background is.
inline VoxelRange air_of(const ChannelStatistics& statistics) noexcept {
    const auto [background, low, high, mean, scale] = statistics;
    if (background <= low) return {std::numeric_limits<float>::lowest(), low};
    if (background >= high) return {high, std::numeric_limits<float>::max()};
    return {background, background};
}

/// Why a channel cannot be normalised.
enum class Refusal { none, no_foreground, one_value };

/// What `StatisticsPass` finds out about a channel.
struct ChannelFindings {
    Refusal refusal;
    double only_value;  ///< with `Refusal::one_value`
    ChannelStatistics statistics;
    Levels levels;
    Background background;

    /// Whether every voxel of a level is normalised to what the background is.
    bool is_air(std::uint16_t level) const noexcept {
        const VoxelRange air = air_of(statistics);
        const double value = levels.origin + levels.step * level, margin = levels.exact ? 0 : levels.step;
        return value - margin >= air.least && value + margin <= air.greatest;
    }
};

/// (min(max(x, low), high) - mean) x scale, each step rounded to float32.
inline float normalised(float value, const ChannelStatistics& by) noexcept {
    const float raised = value > by.low ? value : by.low;
    return ((raised < by.high ? raised : by.high) - by.mean) * by.scale;
}

/// `normalised` of every value, in place.
inline void standardise(float* values, std::size_t count, const ChannelStatistics& by) noexcept {
    const ChannelStatistics constant = by;
    for (std::size_t i = 0; i < count; ++i) {
        values[i] = normalised(values[i], constant);
    }
}

namespace detail {

constexpr double bright_percentile = 99.5;

__extension__ using uint128 = unsigned __int128;

inline int bit_length(uint128 value) noexcept {
    int length = 0;
    for (; value != 0; value >>= 1) ++length;
    return length;
}

/// numerator / denominator, which are below 2^127 and 2^72, rounded once.
inline double quotient(uint128 numerator, uint128 denominator) noexcept {
    // 55 or 56 bits are computed, the last of them telling that others follow: enough to round as if all were there.
    const int shift = 55 - bit_length(numerator) + bit_length(denominator);
    if (shift > 0) {
        numerator <<= shift;
    } else {
        denominator <<= -shift;
    }
    auto bits = static_cast<std::uint64_t>(numerator / denominator);
    bits |= numerator % denominator != 0 ? 1U : 0U;
    return std::ldexp(static_cast<double>(bits), -shift);
}

/// Counts of levels from 0 to `size` - 1.
struct Counts {
    std::uint32_t* of;
    std::size_t size;

    std::uint64_t total() const noexcept {
        std::uint64_t sum = 0;
        for (std::size_t level = 0; level < size; ++level) sum += of[level];
        return sum;
    }
};

/// The smallest level with at least ceil(percentile / 100 x total) values at or below it.
inline std::size_t nearest_rank(const Counts& counts, std::uint64_t total, double percentile) noexcept {
    const double wanted = std::ceil(percentile * static_cast<double>(total) / 100);
    const std::uint64_t rank = std::max<std::uint64_t>(1, static_cast<std::uint64_t>(wanted));
    std::uint64_t below = 0;
    std::size_t level = 0;
    while ((below += counts.of[level]) < rank) ++level;
    return level;
}

inline Background find_background(Counts counts, std::size_t border, const StatisticsRule& rule) noexcept {
    if (rule.foreground == Foreground::not_border) return {border, border + 1};
    const auto dark = static_cast<double>(border);
    const auto bright = static_cast<double>(nearest_rank(counts, counts.total(), bright_percentile));
    const double threshold = dark + rule.foreground_fraction * (bright - dark);
    return {0, std::min(counts.size, static_cast<std::size_t>(threshold) + 1)};
}

struct Moments {
    double mean;
    double deviation;
};

/// Mean and population standard deviation, in levels, of `total` values clipped to [low, high].
inline Moments moments(const Counts& counts, std::uint64_t total, std::size_t low, std::size_t high) noexcept {
    std::uint64_t first = 0, second = 0;
    for (std::size_t level = 0; level < counts.size; ++level) {
        const std::uint64_t offset = std::clamp(level, low, high) - low;
        first += counts.of[level] * offset;
        second += counts.of[level] * offset * offset;
    }
    const uint128 variance = uint128{total} * second - uint128{first} * first;
    return {static_cast<double>(low) + static_cast<double>(first) / static_cast<double>(total),
            variance == 0 ? 0.0 : std::sqrt(quotient(variance, uint128{total} * total))};
}

/// Statistics from the counts of a channel and of its border, the former of which are changed.
inline ChannelFindings evaluate(Counts counts, const Counts& border, const Levels& levels, const StatisticsRule& rule) {
    const std::size_t median = nearest_rank(border, border.total(), 50);
    const Background background = find_background(counts, median, rule);
    std::fill(counts.of + background.begin, counts.of + background.end, 0U);
    const std::uint64_t total = counts.total();
    if (total == 0) {
        return {Refusal::no_foreground, 0, {}, levels, background};
    }
    const std::size_t low = nearest_rank(counts, total, rule.low_percentile);
    const std::size_t high = nearest_rank(counts, total, rule.high_percentile);
    const auto [mean, deviation] = moments(counts, total, low, high);
    const auto value = [&](double level) { return levels.origin + levels.step * level; };
    if (levels.step * deviation * static_cast<double>(std::numeric_limits<float>::max()) < 1) {
        return {Refusal::one_value, value(static_cast<double>(low)), {}, levels, background};
    }
    const ChannelStatistics statistics{
        static_cast<float>(value(static_cast<double>(median))), static_cast<float>(value(static_cast<double>(low))),
        static_cast<float>(value(static_cast<double>(high))), static_cast<float>(value(mean)),
        static_cast<float>(1.0 / (levels.step * deviation))};
    return {Refusal::none, 0, statistics, levels, background};
}

}  // namespace detail

/// Whether every value of a type has a level of its own, so that statistics need no extremes.
inline bool counts_whole_type(VoxelType type) noexcept { return reader(type).integral && reader(type).size_bytes <= 2; }

/// Least and greatest voxel of a channel, and how many are not finite as float32.
inline Extremes channel_extremes(const Voxels& voxels, std::size_t channel, Vectors vectors) {
    const Reader& read = reader(voxels.type);
    Extremes extremes;
    for_each_row(voxels, channel, [&](const Row& row) { read.add_extremes(vectors, row, extremes); });
    return extremes;
}

/// Statistics of channels, one after the other, in buffers that are allocated once. Threads share the slices; what they
/// count adds up to the same whatever their number.
class StatisticsPass {
  public:
    /// @param pool for as long as this
    StatisticsPass(Vectors vectors, ThreadPool& pool)
        : vectors_(vectors), pool_(pool), counters_(pool.threads()), extremes_(pool.threads()) {}

    /// Least and greatest voxel of a channel, and how many are not finite as float32.
    Extremes extremes(const Voxels& voxels, std::size_t channel) {
        const std::size_t parts =
            pool_.share(voxels.slices(), [&](std::size_t part, std::size_t begin, std::size_t end) {
                extremes_[part] = channel_extremes(slices_of(voxels, begin, end), channel, vectors_);
            });
        for (std::size_t part = 1; part < parts; ++part) extremes_[0].add(extremes_[part]);
        return extremes_[0];
    }

    /// The statistics of a channel.
    ///
    /// @param voxels   not empty, at most 2^32 - 1 of them in a channel
    /// @param extremes of the channel, all of it finite; ignored where `counts_whole_type`
    ChannelFindings operator()(const Voxels& voxels, std::size_t channel, const Extremes& extremes,
                               const StatisticsRule& rule) {
        const Reader& read = reader(voxels.type);
        const bool narrow = counts_whole_type(voxels.type);
        const std::uint32_t possible = read.size_bytes == 1 ? 256 : level_count;
        Levels levels = narrow ? Levels{true, read.least_key, possible, 0, 1} : spread(read, extremes);
        if (levels.count == 1) {
            return {Refusal::no_foreground, 0, {}, levels, {0, 1}};
        }
        LevelCounter& all = count(voxels, channel, levels);
        detail::Counts counts{all.everything().counts(), levels.count}, border{all.border().counts(), levels.count};
        if (narrow) {
            const std::size_t unused = trim(counts);
            levels.least += static_cast<std::int64_t>(unused);
            levels.count = static_cast<std::uint32_t>(counts.size);
            levels.origin = read.key_double(levels.least);
            border = {border.of + unused, counts.size};
            all.spans().lower(static_cast<std::uint16_t>(unused));
        }
        return detail::evaluate(counts, border, levels, rule);
    }

    /// Where the levels of the channel that was looked at last are, as `ChannelFindings::levels` counts them.
    const LevelSpans& spans() noexcept { return counters_[0].spans(); }

    /// The levels of a row, counted in the same way.
    LevelSpan row(const Voxels& voxels, std::size_t channel, std::size_t slice, std::size_t y, const Levels& levels) {
        return counters_[0].row(voxels, channel, slice, y, levels, vectors_);
    }

  private:
    /// The levels of a channel whose extremes are known.
    static Levels spread(const Reader& read, const Extremes& extremes) noexcept {
        const auto range = static_cast<std::uint64_t>(extremes.greatest) - static_cast<std::uint64_t>(extremes.least);
        if (read.integral && range < level_count) {
            const auto count = static_cast<std::uint32_t>(range + 1);
            return {true, extremes.least, count, read.key_double(extremes.least), 1};
        }
        const double origin = read.key_value(extremes.least), top = read.key_value(extremes.greatest);
        if (origin == top) {
            return {false, 0, 1, origin, 1};
        }
        return {false, 0, level_count, origin, (top - origin) / (level_count - 1)};
    }

    /// Leaves out levels below the least and above the greatest that occurs, and gives the number of the former.
    static std::size_t trim(detail::Counts& counts) noexcept {
        std::size_t unused = 0;
        while (counts.of[unused] == 0) ++unused;
        while (counts.of[counts.size - 1] == 0) --counts.size;
        counts = {counts.of + unused, counts.size - unused};
        return unused;
    }

    /// The first counter, with what all of them counted.
    LevelCounter& count(const Voxels& voxels, std::size_t channel, const Levels& levels) {
        const std::size_t parts =
            pool_.share(voxels.slices(), [&](std::size_t part, std::size_t begin, std::size_t end) {
                counters_[part].count(slices_of(voxels, begin, end), channel, levels, vectors_);
            });
        for (std::size_t part = 1; part < parts; ++part) counters_[0].add(counters_[part]);
        return counters_[0];
    }

    Vectors vectors_;
    ThreadPool& pool_;
    std::vector<LevelCounter> counters_;  ///< one for each thread
    std::vector<Extremes> extremes_;      ///< of the part of each thread
};

}  // namespace tumortrace
