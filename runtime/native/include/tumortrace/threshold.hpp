// Logits to a binary mask.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace tumortrace {

/// What `threshold_logits` met.
struct ThresholdCounts {
    std::size_t foreground;  ///< values above the threshold
    std::size_t nan;         ///< values that are not a number; they are background in the mask
};

/// Writes 1 to `mask` where a logit is greater than `threshold`, and 0 elsewhere.
///
/// The threshold is a logit too: a probability p is log(p / (1 - p)), so that no sigmoid is computed.
///
/// @param logits    `count` values; NaN is counted, infinities compare as usual
/// @param count     number of values, 0 included
/// @param threshold logit that a foreground value exceeds
/// @param mask      `count` bytes to write; must not overlap `logits`
inline ThresholdCounts threshold_logits(const float* __restrict logits, std::size_t count, float threshold,
                                        std::uint8_t* __restrict mask) noexcept {
    // 32-bit counters inside a block keep the loop in vector registers as wide as the floats.
    constexpr std::size_t block = std::size_t{1} << 16;
    ThresholdCounts total{0, 0};
    for (std::size_t start = 0; start < count; start += block) {
        const std::size_t stop = std::min(count, start + block);
        std::uint32_t foreground = 0;
        std::uint32_t nan = 0;
        for (std::size_t i = start; i < stop; ++i) {
            const float logit = logits[i];
            const std::uint32_t above = logit > threshold ? 1U : 0U;
            foreground += above;
            nan += logit != logit ? 1U : 0U;
            mask[i] = static_cast<std::uint8_t>(above);
        }
        total.foreground += foreground;
        total.nan += nan;
    }
    return total;
}

}  // namespace tumortrace
