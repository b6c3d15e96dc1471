#include "tumortrace/postprocess.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <stdexcept>
#include <vector>

#include "allocations.hpp"

namespace {

using tumortrace::Cleaning;
using tumortrace::Connectivity;
using tumortrace::FloatLogits;
using tumortrace::Postprocessor;
using tumortrace::VolumeShape;

std::vector<float> noise(const VolumeShape& shape, unsigned seed) {
    std::mt19937 generator(seed);
    std::normal_distribution<float> values(-0.5F, 1.0F);
    std::vector<float> logits(shape.slices * shape.rows * shape.columns);
    for (float& logit : logits) {
        logit = values(generator);
    }
    return logits;
}

/// What is above 0, as runs.
void keep(const std::vector<float>& logits, const VolumeShape& shape, tumortrace::CleanedSlices& kept) {
    tumortrace::SliceCleaner cleaner;
    cleaner.prepare(shape.rows, shape.columns, {}, {});
    kept.reset(shape, false);
    for (std::size_t slice = 0; slice < shape.slices; ++slice) {
        const auto row_of = [&](std::size_t y) {
            return tumortrace::ClassRow<float>{logits.data() + (slice * shape.rows + y) * shape.columns, shape.columns};
        };
        CHECK(cleaner.add_slice(FloatLogits(0.0F), row_of, kept) == 0);
    }
}

/// Labels by spreading from voxel to voxel, numbered in the order of first voxels.
std::vector<std::uint32_t> label_slowly(const std::vector<float>& logits, const VolumeShape& shape, int most) {
    std::vector<std::uint32_t> labels(logits.size());
    std::uint32_t count = 0;
    const auto index = [&](long z, long y, long x) {
        return (static_cast<std::size_t>(z) * shape.rows + static_cast<std::size_t>(y)) * shape.columns +
               static_cast<std::size_t>(x);
    };
    const long extents[] = {static_cast<long>(shape.slices), static_cast<long>(shape.rows),
                            static_cast<long>(shape.columns)};
    for (std::size_t start = 0; start < logits.size(); ++start) {
        if (!(logits[start] > 0) || labels[start] != 0) {
            continue;
        }
        labels[start] = ++count;
        for (std::vector<std::size_t> open{start}; !open.empty();) {
            const std::size_t voxel = open.back();
            open.pop_back();
            const long z = static_cast<long>(voxel / shape.columns / shape.rows);
            const long y = static_cast<long>(voxel / shape.columns % shape.rows);
            const long x = static_cast<long>(voxel % shape.columns);
            for (long step = 0; step < 27; ++step) {
                const long dz = step / 9 - 1, dy = step / 3 % 3 - 1, dx = step % 3 - 1;
                const long to[] = {z + dz, y + dy, x + dx};
                const bool inside = to[0] >= 0 && to[0] < extents[0] && to[1] >= 0 && to[1] < extents[1] &&
                                    to[2] >= 0 && to[2] < extents[2];
                if (!inside || std::abs(dz) + std::abs(dy) + std::abs(dx) > most) {
                    continue;
                }
                const std::size_t other = index(to[0], to[1], to[2]);
                if (logits[other] > 0 && labels[other] == 0) {
                    labels[other] = count;
                    open.push_back(other);
                }
            }
        }
    }
    return labels;
}

}  // namespace

TEST_CASE("components are those that spreading finds, in the order of their first voxels") {
    tumortrace::CleanedSlices kept;
    tumortrace::ComponentFinder finder;
    for (const std::size_t columns : {1U, 9U, 64U, 70U}) {
        const VolumeShape shape{4, 6, columns};
        const auto logits = noise(shape, static_cast<unsigned>(columns));
        keep(logits, shape, kept);
        const tumortrace::RunMask& mask = kept.mask;
        const std::pair<Connectivity, int> kinds[] = {
            {Connectivity::faces_3d, 1}, {Connectivity::edges_3d, 2}, {Connectivity::corners_3d, 3}};
        for (const auto& [connectivity, most] : kinds) {
            const auto wanted = label_slowly(logits, shape, most);
            finder.find(mask, connectivity);
            std::vector<std::uint32_t> labels(logits.size());
            mask.for_each_filled_row([&](std::size_t row) {
                for (std::size_t run = mask.first(row); run < mask.last(row); ++run) {
                    for (std::size_t x = mask.runs()[run].begin; x < mask.runs()[run].end; ++x) {
                        labels[row * columns + x] = finder.components()[run] + 1;
                    }
                }
            });
            CHECK(labels == wanted);
        }
    }
}

TEST_CASE("in two dimensions slices have no neighbours") {
    const std::vector<float> logits{1, 0, 0, 1, 1, 0, 0, 0};
    tumortrace::CleanedSlices kept;
    keep(logits, {2, 2, 2}, kept);
    tumortrace::ComponentFinder finder;
    CHECK(finder.find(kept.mask, Connectivity::edges_2d) == 3);
    CHECK(finder.find(kept.mask, Connectivity::corners_2d) == 2);
    CHECK(finder.find(kept.mask, Connectivity::faces_3d) == 2);
    CHECK(finder.find(kept.mask, Connectivity::corners_3d) == 1);
}

TEST_CASE("a scan like one before is segmented without allocating") {
    const VolumeShape shape{6, 40, 70};
    const auto logits = noise(shape, 5);
    Postprocessor postprocessor(Cleaning{1, 2, true, 4, Connectivity::corners_3d});
    const auto segment = [&] {
        return postprocessor.segment(FloatLogits(0.2F), logits.data(), shape, {1.5F, {{1.0, 1.0}}});
    };
    segment();
    REQUIRE_FALSE(postprocessor.lesions().empty());
    std::vector<std::uint8_t> mask(logits.size());
    const std::size_t before = allocations();
    segment();
    postprocessor.paint_mask(mask.data());
    CHECK(allocations() == before);
}

TEST_CASE("a lesion is measured") {
    const VolumeShape shape{3, 5, 70};
    std::vector<float> logits(3 * 5 * 70, -1.0F);
    for (const std::size_t x : {62U, 63U, 64U, 65U}) {
        logits[(1 * 5 + 2) * 70 + x] = 2.0F;
        logits[(2 * 5 + 2) * 70 + x] = 1.0F;
    }
    logits[0] = 3.0F;
    Postprocessor postprocessor(Cleaning{});
    CHECK(postprocessor.segment(FloatLogits(0.0F), logits.data(), shape, {2.0F, {{0.5, 0.25}}}) == 0);
    REQUIRE(postprocessor.lesions().size() == 2);
    const auto& lesion = postprocessor.lesions()[0];
    CHECK(lesion.voxels == 8);
    CHECK(lesion.centroid == std::array<double, 3>{1.5, 2.0, 63.5});
    CHECK(lesion.low == std::array<std::uint32_t, 3>{1, 2, 62});
    CHECK(lesion.high == std::array<std::uint32_t, 3>{3, 3, 66});
    CHECK(lesion.confidence->mean == doctest::Approx((1 / (1 + std::exp(-1.0)) + 1 / (1 + std::exp(-0.5))) / 2));
    CHECK(lesion.confidence->highest == doctest::Approx(1 / (1 + std::exp(-1.0))));
    CHECK(lesion.diameters->slice == 1);
    CHECK(lesion.diameters->longest == doctest::Approx(1.0));
    CHECK(lesion.diameters->perpendicular == doctest::Approx(0.5));
    CHECK(postprocessor.lesions()[1].voxels == 1);

    std::vector<std::uint32_t> labels(logits.size());
    postprocessor.paint_labels(labels.data());
    CHECK(labels[0] == 2);
    CHECK(labels[(1 * 5 + 2) * 70 + 64] == 1);
}

TEST_CASE("NaN is counted") {
    std::vector<float> logits(2 * 3 * 4, 1.0F);
    logits[5] = logits[23] = std::numeric_limits<float>::quiet_NaN();
    Postprocessor postprocessor(Cleaning{});
    CHECK(postprocessor.segment(FloatLogits(0.0F), logits.data(), {2, 3, 4}) == 2);
}

TEST_CASE("extents that cannot be are refused before anything is read") {
    Postprocessor postprocessor(Cleaning{});
    constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
    for (const VolumeShape shape : {VolumeShape{0, 4, 4},
                                    {4, 0, 4},
                                    {4, 4, 0},
                                    {1, 1, 65536},
                                    {most, most, most},
                                    {1U << 11, 1U << 11, 1U << 11},
                                    {1U << 31, 1U << 31, 4}}) {
        CHECK_THROWS_AS(postprocessor.segment(FloatLogits(0.0F), nullptr, shape), std::invalid_argument);
    }
    const std::uint8_t mask = 1;
    CHECK_THROWS_AS(postprocessor.segment(tumortrace::ByteMask(), &mask, {1, 1, 1}, {1.0F, {}}), std::invalid_argument);
}

TEST_CASE("a disk of any radius reaches no further than the slice") {
    std::vector<float> logits(9 * 70, -1.0F);
    logits[4 * 70 + 35] = 1.0F;
    Postprocessor postprocessor(Cleaning{0, std::numeric_limits<std::size_t>::max(), false, 0});
    CHECK(postprocessor.segment(FloatLogits(0.0F), logits.data(), {1, 9, 70}) == 0);
    CHECK(postprocessor.lesions()[0].voxels == 630);
}
