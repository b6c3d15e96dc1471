#include "readme.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace {

constexpr std::size_t slices = 6, rows = 30, columns = 40, grid = 64;

/// A head of noise with a bright box in it.
std::vector<std::uint16_t> head_with_box() {
    std::vector<std::uint16_t> voxels(slices * rows * columns);
    for (std::size_t i = 0; i < voxels.size(); ++i) {
        const std::size_t slice = i / (rows * columns), row = i / columns % rows, column = i % columns;
        const bool head = 5 <= row && row < 25 && 6 <= column && column < 34;
        const bool box = 2 <= slice && slice < 4 && 10 <= row && row < 15 && 20 <= column && column < 27;
        voxels[i] = static_cast<std::uint16_t>(box ? 900 : head ? 300 + i * 7919 % 100 : 0);
    }
    return voxels;
}

}  // namespace

TEST_CASE("the example finds the lesion that a network sees") {
    const std::vector<std::uint16_t> voxels = head_with_box();
    const tumortrace::Voxels scan{
        voxels.data(), tumortrace::VoxelType::uint16, {slices, rows, columns, 1}, {rows * columns, columns, 1, 1}};
    const tumortrace::StatisticsRule rule{tumortrace::Foreground::above_border, 0.1, 0.5, 99.5};
    tumortrace::Preprocessor before({{grid, grid}, tumortrace::Fit::pad, rule, {}});
    tumortrace::Postprocessor after({});
    const auto brighter = [](const std::vector<float>& batch, std::vector<float>& logits) {
        const float* const middle = batch.data() + grid * grid;
        std::transform(middle, middle + grid * grid, logits.begin(), [](float value) { return value - 2; });
    };

    const auto lesions = segment(scan, {grid, grid}, before, after, 0.0F, brighter);

    REQUIRE(lesions.size() == 1);
    CHECK(lesions[0].voxels == 2 * 5 * 7);
    CHECK(lesions[0].low == std::array<std::uint32_t, 3>{2, 10, 20});
    CHECK(lesions[0].diameters->longest == doctest::Approx(std::hypot(7.0, 4.0)));
    CHECK_THROWS(segment({voxels.data(), scan.type, {0, rows, columns, 1}, scan.strides}, {grid, grid}, before, after,
                         0.0F, brighter));
    const auto broken = [](const std::vector<float>&, std::vector<float>& logits) {
        std::fill(logits.begin(), logits.end(), std::numeric_limits<float>::quiet_NaN());
    };
    CHECK_THROWS_WITH(segment(scan, {grid, grid}, before, after, 0.0F, broken), "the network gives NaN");
}
