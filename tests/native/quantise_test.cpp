#include "tumortrace/quantise.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <type_traits>
#include <vector>

#include "tumortrace/pack.hpp"
#include "tumortrace/preprocess.hpp"
#include "voxel_type.hpp"

namespace {

using tumortrace::BatchRange;
using tumortrace::Dither;
using tumortrace::Foreground;
using tumortrace::PreprocessingSpec;
using tumortrace::Preprocessor;
using tumortrace::Problem;
using tumortrace::Quantisation;
using tumortrace::Size;
using tumortrace::Vectors;
using tumortrace::Voxels;
using tumortrace::VoxelType;

/// Slices of one channel, a head of noise in air; the air of each slice has so many levels.
template <typename Stored>
std::vector<Stored> head_in_air(std::size_t slices, Size size, int air_levels) {
    std::mt19937 generator(1);
    std::uniform_int_distribution<int> tissue(40, 200), air(10, 9 + air_levels);
    std::vector<Stored> voxels;
    for (std::size_t slice = 0; slice < slices; ++slice) {
        for (std::size_t y = 0; y < size.rows; ++y) {
            for (std::size_t x = 0; x < size.columns; ++x) {
                const bool inside = y > 5 + slice && y + 7 < size.rows && x > 4 && x + 5 + 9 * slice < size.columns;
                voxels.push_back(static_cast<Stored>(inside ? tissue(generator) : air(generator)));
            }
        }
    }
    return voxels;
}

/// What planes are by the channel's statistics: each voxel normalised by itself.
template <typename Stored>
std::vector<float> planes_by_voxel(const std::vector<Stored>& voxels, Size size, Size grid,
                                   const tumortrace::ChannelPlan& plan) {
    const std::size_t slices = voxels.size() / (size.rows * size.columns);
    const std::size_t top = (grid.rows - size.rows) / 2, left = (grid.columns - size.columns) / 2;
    std::vector<float> planes(slices * grid.rows * grid.columns, plan.fill);
    for (std::size_t row = 0; row < slices * size.rows; ++row) {
        const std::size_t y = row / size.rows * grid.rows + top + row % size.rows;
        for (std::size_t x = 0; x < size.columns; ++x) {
            planes[y * grid.columns + left + x] =
                tumortrace::normalised(static_cast<float>(voxels[row * size.columns + x]), plan.statistics);
        }
    }
    return planes;
}

/// Whether planes of floats are what each voxel gives, and batches of integers what the planes give, on every kind of
/// vector registers.
template <typename Integer, typename Stored>
bool right_everywhere(const std::vector<Stored>& voxels, Size size, const PreprocessingSpec& spec, Quantisation by) {
    const std::size_t slices = voxels.size() / (size.rows * size.columns), pixels = spec.grid.rows * spec.grid.columns;
    const auto rows = static_cast<std::ptrdiff_t>(size.rows), columns = static_cast<std::ptrdiff_t>(size.columns);
    const Voxels view{
        voxels.data(), type_of<Stored>(), {slices, size.rows, size.columns, 1}, {rows * columns, columns, 1, 1}};
    bool same = true;
    for (const Vectors vectors : {Vectors::baseline, Vectors::avx2, Vectors::avx512}) {
        if (!tumortrace::has(vectors)) continue;
        Preprocessor preprocessor(spec, vectors);
        REQUIRE(preprocessor.open(view).problem == Problem::none);
        std::vector<float> planes(slices * pixels);
        preprocessor.write_floats({0, slices, 0}, planes.data());
        same = same && planes == planes_by_voxel(voxels, size, spec.grid, preprocessor.channels()[0]);
        for (const BatchRange range : {BatchRange{0, slices, 0}, {0, slices, 1}}) {
            std::vector<Integer> wanted(slices * range.neighbours() * pixels), found(wanted.size());
            tumortrace::pack_batch(planes.data(), {slices, 1, spec.grid.rows, spec.grid.columns}, range, 2, by,
                                   wanted.data());
            preprocessor.pack(range, 2, by, found.data());
            same = same && found == wanted;
        }
    }
    return same;
}

}  // namespace

TEST_CASE("the steps of a quotient are what rounding gives at every dither") {
    const auto rounding = tumortrace::detail::rounding_to<std::int8_t>(3);
    std::mt19937 generator(0);
    std::uniform_real_distribution<float> quotients(-140, 140);
    std::uniform_int_distribution<std::int32_t> dithers(std::numeric_limits<std::int32_t>::min());
    for (int i = 0; i < 2000; ++i) {
        // Halves and quarters among them, whose threshold is a round number.
        const float quotient = i % 2 == 0 ? quotients(generator) : std::round(4 * quotients(generator)) / 4;
        const auto steps = tumortrace::detail::steps_of(quotient, rounding);
        const auto at = [&](std::int32_t bits) { return rounding.byte(quotient + Dither::value(bits)); };
        const auto step = [](std::uint8_t low, std::uint8_t high) { return static_cast<std::uint8_t>(high - low); };
        constexpr auto first = std::numeric_limits<std::int32_t>::min(),
                       last = std::numeric_limits<std::int32_t>::max();
        CHECK(steps.has_value() == (step(at(first), at(last)) <= 1));
        if (!steps) continue;
        bool same = true;
        for (const std::int32_t bits : {first, last, steps->threshold, dithers(generator), dithers(generator)}) {
            same = same && steps->byte(bits) == at(bits);
        }
        if (steps->threshold != last) same = same && steps->byte(steps->threshold + 1) == at(steps->threshold + 1);
        CHECK(same);
    }
}

TEST_CASE_TEMPLATE("voxels become the integers that their planes become", Stored, std::uint8_t, std::uint16_t,
                   std::int16_t, std::int32_t, float) {
    for (const Size size : {Size{21, 20}, {24, 64}, {30, 70}, {37, 131}}) {
        for (const int air_levels : {1, 3}) {
            for (const Foreground rule : {Foreground::above_border, Foreground::not_border}) {
                CAPTURE(size.columns);
                CAPTURE(air_levels);
                const auto voxels = head_in_air<Stored>(3, size, air_levels);
                const PreprocessingSpec spec{{40, 138}, tumortrace::Fit::pad, {rule, 0.1, 0.5, 99.5}, {}};
                CHECK(right_everywhere<std::int8_t>(voxels, size, spec, {0.02F, 5}));
                CHECK(right_everywhere<std::uint8_t>(voxels, size, spec, {0.005F, 128}));
            }
        }
    }
}

TEST_CASE_TEMPLATE("what is of one level beside a head need not be air", Stored, std::uint8_t, std::int16_t, float) {
    const Size size{30, 70};
    for (const Foreground rule : {Foreground::above_border, Foreground::not_border}) {
        auto voxels = head_in_air<Stored>(4, size, 1);
        // A slice with bright sides, and one that is bright throughout.
        for (std::size_t i = 2100; i < 6300; ++i) {
            if (voxels[i] == 10 || i >= 4200) voxels[i] = 90;
        }
        const PreprocessingSpec spec{{32, 80}, tumortrace::Fit::pad, {rule, 0.1, 0.5, 99.5}, {}};
        CHECK(right_everywhere<std::int8_t>(voxels, size, spec, {0.02F, 0}));
    }
}

TEST_CASE("floats of one level are not taken for one value") {
    const Size size{30, 70};
    const PreprocessingSpec spec{{32, 80}, tumortrace::Fit::pad, {Foreground::above_border, 0.1, 0.5, 99.5}, {}};
    for (const float dark : {32.375F, 33.625F, 34.875F, 37.875F}) {
        // Levels are 0.0029 wide; that of these sides is the lowest of the foreground, and clipped at in its middle.
        auto voxels = head_in_air<float>(3, size, 1);
        for (std::size_t i = 2100; i < 4200; ++i) {
            if (voxels[i] == 10) voxels[i] = dark + 0.0005F * static_cast<float>(i % 4);
        }
        CHECK(right_everywhere<std::int8_t>(voxels, size, spec, {0.02F, 0}));
    }
}

TEST_CASE("rows in the opposite order are read as they lie") {
    const Size size{30, 70};
    const auto voxels = head_in_air<std::int16_t>(2, size, 1);
    std::vector<std::int16_t> upside_down;
    for (std::size_t row = 60; row-- > 0;) {
        upside_down.insert(upside_down.end(), &voxels[row * 70], &voxels[row * 70] + 70);
    }
    const PreprocessingSpec spec{{32, 80}, tumortrace::Fit::pad, {Foreground::above_border, 0.1, 0.5, 99.5}, {}};
    std::vector<std::int8_t> wanted(2 * 32 * 80), found(wanted.size());
    Preprocessor preprocessor(spec);
    REQUIRE(preprocessor.open({voxels.data(), VoxelType::int16, {2, 30, 70, 1}, {2100, 70, 1, 1}}).problem ==
            Problem::none);
    preprocessor.pack({0, 2, 0}, 2, {0.02F, 0}, wanted.data());
    REQUIRE(preprocessor.open({&upside_down[59 * 70], VoxelType::int16, {2, 30, 70, 1}, {-2100, -70, 1, 1}}).problem ==
            Problem::none);
    preprocessor.pack({0, 2, 0}, 2, {0.02F, 0}, found.data());
    CHECK(found == wanted);
}

TEST_CASE("air brighter than the head is air") {
    const Size size{30, 70};
    auto voxels = head_in_air<std::int16_t>(2, size, 2);
    for (auto& voxel : voxels) voxel = static_cast<std::int16_t>(100 - voxel);
    const PreprocessingSpec spec{{32, 80}, tumortrace::Fit::pad, {Foreground::not_border, 0.1, 0.5, 99.5}, {}};
    CHECK(right_everywhere<std::int8_t>(voxels, size, spec, {0.02F, 0}));
}

TEST_CASE("air that rounds to three integers is rounded pixel by pixel") {
    const Size size{30, 70};
    const auto voxels = head_in_air<std::int16_t>(2, size, 1);
    const PreprocessingSpec spec{{32, 80}, tumortrace::Fit::pad, {Foreground::above_border, 0.1, 0.5, 99.5}, {}};
    Preprocessor preprocessor(spec);
    REQUIRE(preprocessor.open({voxels.data(), VoxelType::int16, {2, 30, 70, 1}, {2100, 70, 1, 1}}).problem ==
            Problem::none);
    const float scale = -preprocessor.channels()[0].fill;
    CHECK_FALSE(tumortrace::detail::steps_of(-1, tumortrace::detail::rounding_to<std::int8_t>(0)).has_value());
    CHECK(right_everywhere<std::int8_t>(voxels, size, spec, {scale, 0}));
}
