#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <stdexcept>
#include <vector>

#include "allocations.hpp"
#include "tumortrace/postprocess.hpp"

namespace {

using tumortrace::Cleaning;
using tumortrace::Connectivity;
using tumortrace::FloatLogits;
using tumortrace::Lesion;
using tumortrace::Measurements;
using tumortrace::Placement;
using tumortrace::Postprocessor;

constexpr Cleaning cleaning{1, 2, true, 4, Connectivity::corners_3d};
constexpr std::size_t slices = 7;

/// Slices of 30 x 70 pixels: on their own grid, in a window, in one that is smaller or larger, and in either way only
/// along one axis.
const Placement placements[] = {{{30, 70}, {30, 70}, {0, 0}, {30, 70}},   {{30, 70}, {30, 70}, {2, 5}, {33, 80}},
                                {{30, 70}, {12, 28}, {0, 1}, {12, 30}},   {{30, 70}, {45, 105}, {3, 0}, {50, 105}},
                                {{30, 70}, {30, 100}, {0, 2}, {30, 104}}, {{30, 70}, {20, 70}, {1, 0}, {22, 70}}};

std::vector<float> noise(const Placement& placement) {
    std::mt19937 generator(3);
    std::normal_distribution<float> values(-0.5F, 1.0F);
    std::vector<float> logits(slices * placement.grid.rows * placement.grid.columns);
    std::generate(logits.begin(), logits.end(), [&] { return values(generator); });
    return logits;
}

/// Adds slices in batches of sizes that take turns.
void add(Postprocessor& postprocessor, const Placement& placement, const std::vector<float>& logits,
         std::vector<std::size_t> sizes) {
    const std::size_t plane = placement.grid.rows * placement.grid.columns;
    for (std::size_t start = 0, turn = 0; start < slices; ++turn) {
        const std::size_t count = std::min(sizes[turn % sizes.size()], slices - start);
        // What was added is not read again.
        const std::vector<float> batch(logits.data() + start * plane, logits.data() + (start + count) * plane);
        CHECK(postprocessor.add(FloatLogits(0.2F), {batch.data(), count, 1, placement.grid}) == 0);
        start += count;
    }
}

bool same(const std::vector<Lesion>& some, const std::vector<Lesion>& others) {
    return std::equal(some.begin(), some.end(), others.begin(), others.end(), [](const Lesion& a, const Lesion& b) {
        return a.voxels == b.voxels && a.centroid == b.centroid && a.low == b.low && a.high == b.high &&
               a.confidence->mean == b.confidence->mean && a.confidence->highest == b.confidence->highest &&
               a.diameters->longest == b.diameters->longest;
    });
}

}  // namespace

TEST_CASE("slices in batches give what they give at once") {
    const Measurements measurements{1.5F, {{1.0, 0.5}}};
    for (const Placement& placement : placements) {
        const auto logits = noise(placement);
        Postprocessor whole(cleaning), parts(cleaning);
        whole.begin(slices, placement, measurements);
        add(whole, placement, logits, {slices});
        whole.finish();
        REQUIRE_FALSE(whole.lesions().empty());
        for (const std::vector<std::size_t>& sizes : {std::vector<std::size_t>{1}, {3}, {2, 0, 1}}) {
            parts.begin(slices, placement, measurements);
            add(parts, placement, logits, sizes);
            parts.finish();
            CHECK(same(parts.lesions(), whole.lesions()));
        }
    }
}

TEST_CASE("results do not depend on the number of threads") {
    const Measurements measurements{1.5F, {{1.0, 0.5}}};
    for (const Placement& placement : placements) {
        const auto logits = noise(placement);
        Postprocessor alone(cleaning);
        alone.begin(slices, placement, measurements);
        add(alone, placement, logits, {slices});
        alone.finish();
        for (const std::size_t threads : {2U, 3U, 9U}) {
            Postprocessor postprocessor(cleaning, threads);
            for (const std::size_t size : {slices, std::size_t{2}}) {
                postprocessor.begin(slices, placement, measurements);
                add(postprocessor, placement, logits, {size});
                postprocessor.finish();
                CHECK(same(postprocessor.lesions(), alone.lesions()));
            }
        }
    }
}

TEST_CASE("every thread counts NaN, and tells the caller what it refuses") {
    const Placement& placement = placements[0];
    auto logits = noise(placement);
    for (const std::size_t pixel : {5U, 6U, 9000U, 14000U}) logits[pixel] = std::numeric_limits<float>::quiet_NaN();
    Postprocessor postprocessor(cleaning, 3);
    postprocessor.begin(slices, placement);
    CHECK(postprocessor.add(FloatLogits(0.2F), {logits.data(), slices, 1, placement.grid}) == 4);

    const std::vector<std::uint8_t> mask(3 * 2 * 2);
    postprocessor.begin(3, {{4, 4}, {2, 2}, {0, 0}, {2, 2}});
    CHECK_THROWS_AS(postprocessor.add(tumortrace::ByteMask(), {mask.data(), 3, 1, {2, 2}}), std::invalid_argument);
}

TEST_CASE("slices that are skipped are background") {
    const Placement& placement = placements[1];
    auto logits = noise(placement);
    const auto plane = static_cast<std::ptrdiff_t>(placement.grid.rows * placement.grid.columns);
    std::fill(logits.begin() + 2 * plane, logits.begin() + 4 * plane, -1.0F);
    Postprocessor whole(cleaning), parts(cleaning);
    whole.begin(slices, placement);
    add(whole, placement, logits, {slices});
    whole.finish();

    parts.begin(slices, placement);
    CHECK(parts.add(FloatLogits(0.2F), {logits.data(), 2, 1, placement.grid}) == 0);
    parts.skip(2);
    CHECK(parts.added() == 4);
    CHECK(parts.add(FloatLogits(0.2F), {logits.data() + 4 * plane, 3, 1, placement.grid}) == 0);
    parts.finish();

    std::vector<std::uint8_t> wanted(slices * 30 * 70), found(wanted);
    whole.paint_mask(wanted.data());
    parts.paint_mask(found.data());
    CHECK(found == wanted);
}

TEST_CASE("a scan like one before is added without allocating") {
    for (const Placement& placement : placements) {
        const auto logits = noise(placement);
        const std::size_t plane = placement.grid.rows * placement.grid.columns;
        Postprocessor postprocessor(cleaning, 2);
        std::vector<std::uint8_t> image(30 * 70), mask(slices * 30 * 70);
        const auto segment = [&] {
            postprocessor.begin(slices, placement, {1.5F, {{1.0, 1.0}}});
            for (std::size_t start = 0, count = 1; start < slices; start += count, count = 3) {
                const tumortrace::Output<float> output{logits.data() + start * plane, count, 1, placement.grid};
                CHECK(postprocessor.add(FloatLogits(0.2F), output) == 0);
                postprocessor.paint_slice(start, image.data());
            }
            postprocessor.finish();
            postprocessor.paint_mask(mask.data());
        };
        segment();
        const std::size_t before = allocations();
        segment();
        CHECK(allocations() == before);
    }
}

TEST_CASE("what does not fit is refused, and ends the scan") {
    const Placement& placement = placements[1];
    const auto logits = noise(placement);
    const FloatLogits kind(0.2F);
    const tumortrace::Output<float> all{logits.data(), slices, 1, placement.grid}, one{all.values, 1, 1, all.grid};
    Postprocessor postprocessor(cleaning);
    std::vector<std::uint8_t> mask(slices * 30 * 70);

    CHECK_THROWS_AS(postprocessor.add(kind, one), std::invalid_argument);
    CHECK_THROWS_AS(postprocessor.skip(1), std::invalid_argument);
    CHECK_THROWS_AS(postprocessor.finish(), std::invalid_argument);

    postprocessor.begin(slices, placement);
    CHECK(postprocessor.add(kind, all) == 0);
    CHECK_THROWS_AS(postprocessor.add(kind, one), std::invalid_argument);
    CHECK(postprocessor.added() == 0);
    CHECK_THROWS_AS(postprocessor.finish(), std::invalid_argument);

    postprocessor.begin(slices, placement);
    CHECK_THROWS_AS(postprocessor.skip(std::numeric_limits<std::size_t>::max()), std::invalid_argument);

    postprocessor.begin(slices, placement);
    CHECK_THROWS_AS(postprocessor.add(kind, {logits.data(), 1, 1, {33, 79}}), std::invalid_argument);

    postprocessor.begin(slices, placement);
    CHECK(postprocessor.add(kind, one) == 0);
    postprocessor.paint_mask(mask.data());
    CHECK(std::count(mask.begin(), mask.end(), 0) == static_cast<std::ptrdiff_t>(mask.size()));
    CHECK_THROWS_AS(postprocessor.finish(), std::invalid_argument);

    const std::uint8_t byte = 1;
    postprocessor.begin(1, {{2, 2}, {1, 1}, {0, 0}, {1, 1}});
    CHECK_THROWS_AS(postprocessor.add(tumortrace::ByteMask(), {&byte, 1, 1, {1, 1}}), std::invalid_argument);
}

TEST_CASE("a placement that no window of a grid is, is refused") {
    Postprocessor postprocessor(cleaning);
    constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
    for (const Placement& placement : {Placement{{4, 4}, {0, 4}, {0, 0}, {4, 4}},
                                       {{4, 4}, {4, 5}, {0, 0}, {4, 4}},
                                       {{4, 4}, {4, 4}, {1, 0}, {4, 4}},
                                       {{4, 4}, {4, 4}, {0, most}, {4, 4}},
                                       {{4, 4}, {most, most}, {0, 0}, {most, most}},
                                       {{4, 0}, {4, 4}, {0, 0}, {4, 4}}}) {
        CHECK_THROWS_AS(postprocessor.begin(1, placement), std::invalid_argument);
    }
}
