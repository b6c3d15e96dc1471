#include "tumortrace/volume.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <limits>
#include <vector>

namespace {

using tumortrace::IndexMap;
using tumortrace::ThreadPool;
using tumortrace::VolumeShape;

constexpr IndexMap identity{{{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}}};

double plane(double slice, double row, double column) { return 2 * slice - 3 * row + 5 * column + 7; }

/// A linear function of the index.
std::vector<float> ramp(const VolumeShape& shape) {
    std::vector<float> values;
    for (std::size_t i = 0; i < shape[0] * shape[1] * shape[2]; ++i) {
        values.push_back(
            static_cast<float>(plane(static_cast<double>(i / (shape[1] * shape[2])),
                                     static_cast<double>(i / shape[2] % shape[1]), static_cast<double>(i % shape[2]))));
    }
    return values;
}

struct Resampled {
    std::vector<float> values;
    std::size_t covered;
};

Resampled resample(const std::vector<float>& source, const VolumeShape& from, const IndexMap& map,
                   const VolumeShape& to, std::size_t threads = 1) {
    ThreadPool pool(threads);
    Resampled result{std::vector<float>(to[0] * to[1] * to[2], -1.0F), 0};
    result.covered = tumortrace::resample_volume(source.data(), from, map, result.values.data(), to, pool);
    return result;
}

}  // namespace

TEST_CASE("a volume on its own grid is what it was") {
    const VolumeShape shape{3, 4, 5};
    const Resampled same = resample(ramp(shape), shape, identity, shape);
    CHECK(same.values == ramp(shape));
    CHECK(same.covered == 60);
}

TEST_CASE("a linear function is interpolated exactly, with any number of threads") {
    const VolumeShape from{9, 9, 9}, to{4, 5, 6};
    const IndexMap map{{{0.5, 0.25, -0.125, 1.5}, {0.125, 0.75, 0.25, 1}, {-0.25, 0.125, 0.875, 2}}};
    for (const std::size_t threads : {1, 2, 3, 40}) {
        const Resampled result = resample(ramp(from), from, map, to, threads);
        CHECK(result.covered == 120);
        for (std::size_t i = 0; i < 120; ++i) {
            std::array<double, 3> at;
            for (std::size_t axis = 0; axis < 3; ++axis) {
                at[axis] = map[axis][0] * static_cast<double>(i / 30) + map[axis][1] * static_cast<double>(i / 6 % 5) +
                           map[axis][2] * static_cast<double>(i % 6) + map[axis][3];
            }
            CHECK(result.values[i] == doctest::Approx(plane(at[0], at[1], at[2])));
        }
    }
}

TEST_CASE("the outermost voxels reach half a voxel further, and beyond there is 0") {
    const IndexMap finer{{{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 0.5, -1}}};
    const Resampled result = resample({3, 5}, {1, 1, 2}, finer, {1, 1, 7});
    CHECK(result.values == std::vector<float>{0, 3, 3, 4, 5, 5, 0});
    CHECK(result.covered == 5);
}

TEST_CASE("positions that are far away, infinite or NaN are outside") {
    for (const double offset :
         {-1e300, 1e300, std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
        const IndexMap map{{{1, 0, 0, offset}, {0, 1, 0, 0}, {0, 0, 1, 0}}};
        const Resampled result = resample({1, 2, 3, 4}, {1, 2, 2}, map, {2, 2, 2});
        CHECK(result.values == std::vector<float>(8, 0.0F));
        CHECK(result.covered == 0);
    }
}

TEST_CASE("an empty grid takes nothing") { CHECK(resample({1}, {1, 1, 1}, identity, {0, 4, 4}).covered == 0); }
