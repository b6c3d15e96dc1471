#include "tumortrace/threshold.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

struct Outcome {
    tumortrace::ThresholdCounts counts;
    std::vector<std::uint8_t> mask;
};

Outcome threshold(const std::vector<float>& logits, float level) {
    std::vector<std::uint8_t> mask(logits.size(), 7);
    const auto counts = tumortrace::threshold_logits(logits.data(), logits.size(), level, mask.data());
    return {counts, mask};
}

}  // namespace

TEST_CASE("a logit equal to the threshold is background") {
    const float level = 0.5F;
    const auto above = std::nextafter(level, infinity);
    const auto below = std::nextafter(level, -infinity);
    const auto outcome = threshold({below, level, above}, level);
    CHECK(outcome.mask == std::vector<std::uint8_t>{0, 0, 1});
    CHECK(outcome.counts.foreground == 1);
    CHECK(outcome.counts.nan == 0);
}

TEST_CASE("NaN is background and counted, infinities compare") {
    const auto outcome = threshold({not_a_number, infinity, -infinity, -not_a_number, 1.0F}, 0.0F);
    CHECK(outcome.mask == std::vector<std::uint8_t>{0, 1, 0, 0, 1});
    CHECK(outcome.counts.foreground == 2);
    CHECK(outcome.counts.nan == 2);
}

TEST_CASE("zeros of both signs are equal") {
    CHECK(threshold({0.0F, -0.0F}, 0.0F).counts.foreground == 0);
    CHECK(threshold({0.0F, -0.0F}, -0.0F).counts.foreground == 0);
}

TEST_CASE("nothing is read or written for no logits") {
    const auto counts = tumortrace::threshold_logits(nullptr, 0, 0.0F, nullptr);
    CHECK(counts.foreground == 0);
    CHECK(counts.nan == 0);
}

// Lengths around a vector register and around the block of the counters, where a remainder loop takes over.
TEST_CASE("every length gives every voxel") {
    for (const std::size_t count : {1U, 3U, 4U, 15U, 16U, 17U, 31U, 33U, 65535U, 65536U, 65537U, 131073U}) {
        CAPTURE(count);
        std::vector<float> logits(count);
        std::vector<std::uint8_t> expected(count);
        std::size_t foreground = 0, invalid = 0;
        for (std::size_t i = 0; i < count; ++i) {
            logits[i] = i % 7 == 0 ? not_a_number : static_cast<float>(i % 5) - 2.0F;
            expected[i] = i % 7 != 0 && i % 5 > 2 ? 1 : 0;
            foreground += expected[i];
            invalid += i % 7 == 0 ? 1 : 0;
        }
        const auto outcome = threshold(logits, 0.0F);
        CHECK(outcome.mask == expected);
        CHECK(outcome.counts.foreground == foreground);
        CHECK(outcome.counts.nan == invalid);
    }
}

TEST_CASE("the byte after the mask is untouched") {
    std::vector<float> logits(33, 1.0F);
    std::vector<std::uint8_t> mask(34, 7);
    tumortrace::threshold_logits(logits.data(), logits.size(), 0.0F, mask.data());
    CHECK(mask.back() == 7);
}
