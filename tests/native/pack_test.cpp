#include "tumortrace/pack.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

using tumortrace::BatchRange;
using tumortrace::PlanesShape;
using tumortrace::Quantisation;

template <typename Integer>
std::vector<Integer> pack(const std::vector<float>& planes, const PlanesShape& shape, const BatchRange& range,
                          std::size_t block, Quantisation by) {
    const std::size_t neighbours = 2 * range.context + 1;
    std::vector<Integer> batch((range.stop - range.start) * neighbours * shape.channels * shape.rows * shape.columns);
    tumortrace::pack_batch(planes.data(), shape, range, block, by, batch.data());
    return batch;
}

/// What integer a value becomes, in double arithmetic after the one division and the one sum.
template <typename Integer>
Integer quantise_slowly(float value, Quantisation by, std::size_t plane, std::size_t row, std::size_t column) {
    const std::uint64_t bits = plane * 2654435769U + row * 2447445414U + column * 3242174889U;
    const auto signed_bits = static_cast<std::int32_t>(static_cast<std::uint32_t>(bits));
    const float dither = static_cast<float>(signed_bits) / 4294967296.0F;
    const double rounded = std::nearbyint(static_cast<double>(value / by.scale + dither));
    return static_cast<Integer>(std::clamp(rounded + by.zero_point,
                                           static_cast<double>(std::numeric_limits<Integer>::min()),
                                           static_cast<double>(std::numeric_limits<Integer>::max())));
}

/// The definition, read from the batch's end: every element looks up its own voxel.
template <typename Integer>
std::vector<Integer> pack_slowly(const std::vector<float>& planes, const PlanesShape& shape, const BatchRange& range,
                                 std::size_t block, Quantisation by) {
    std::vector<Integer> batch;
    for (std::size_t slice = range.start; slice < range.stop; ++slice) {
        for (std::size_t y = 0; y < shape.rows / block; ++y) {
            for (std::size_t x = 0; x < shape.columns / block; ++x) {
                for (std::size_t out = 0; out < (2 * range.context + 1) * shape.channels * block * block; ++out) {
                    const std::size_t dx = out % block, dy = out / block % block, input = out / (block * block);
                    const auto neighbour = static_cast<std::ptrdiff_t>(slice + input / shape.channels) -
                                           static_cast<std::ptrdiff_t>(range.context);
                    const auto last = static_cast<std::ptrdiff_t>(shape.slices) - 1;
                    const auto seen = static_cast<std::size_t>(std::clamp<std::ptrdiff_t>(neighbour, 0, last));
                    const std::size_t plane = seen * shape.channels + input % shape.channels;
                    const std::size_t row = y * block + dy, column = x * block + dx;
                    const float value = planes[(plane * shape.rows + row) * shape.columns + column];
                    batch.push_back(quantise_slowly<Integer>(value, by, plane, row, column));
                }
            }
        }
    }
    return batch;
}

std::vector<float> noise(const PlanesShape& shape) {
    std::mt19937 generator(0);
    std::uniform_real_distribution<float> values(-4.0F, 4.0F);
    std::vector<float> planes(shape.slices * shape.channels * shape.rows * shape.columns);
    std::generate(planes.begin(), planes.end(), [&] { return values(generator); });
    return planes;
}

/// The integers of values, rounded without dither.
template <typename Integer>
std::vector<Integer> quantise(const std::vector<float>& values, Quantisation by) {
    std::vector<Integer> integers(values.size());
    tumortrace::detail::quantise<Integer>(values.data(), values.size(), by, {0, 0},
                                          reinterpret_cast<std::uint8_t*>(integers.data()));
    return integers;
}

}  // namespace

TEST_CASE_TEMPLATE("every batch is what the definition says", Integer, std::int8_t, std::uint8_t) {
    // Columns around a vector register and around the tile; batches in the middle and at the scan's ends.
    const int zero_point = std::numeric_limits<Integer>::min() == 0 ? 128 : 0;
    for (const std::size_t columns : {4U, 12U, 20U, 1020U, 1024U, 1028U, 2052U}) {
        const PlanesShape shape{5, 2, 8, columns};
        const auto planes = noise(shape);
        for (const std::size_t block : {1U, 2U, 4U}) {
            for (const BatchRange range :
                 {BatchRange{0, 5, 1}, {1, 4, 1}, {4, 5, 2}, {0, 1, 7}, {2, 4, 0}, {3, 3, 1}}) {
                CAPTURE(columns);
                CAPTURE(block);
                CAPTURE(range.start);
                CAPTURE(range.context);
                const Quantisation by{0.03F, zero_point};
                CHECK(pack<Integer>(planes, shape, range, block, by) ==
                      pack_slowly<Integer>(planes, shape, range, block, by));
            }
        }
    }
}

TEST_CASE("a scan of one slice is its own neighbour") {
    const PlanesShape shape{1, 3, 4, 4};
    const auto planes = noise(shape);
    CHECK(pack<std::int8_t>(planes, shape, {0, 1, 2}, 2, {0.03F, 0}) ==
          pack_slowly<std::int8_t>(planes, shape, {0, 1, 2}, 2, {0.03F, 0}));
}

TEST_CASE("ties go to the even integer before the zero point is added") {
    const std::vector<float> ties{-2.5F, -1.5F, -0.5F, -0.0F, 0.5F, 1.5F, 2.5F, std::nextafter(0.5F, 1.0F)};
    CHECK(quantise<std::int8_t>(ties, {1.0F, 0}) == std::vector<std::int8_t>{-2, -2, 0, 0, 0, 2, 2, 1});
    CHECK(quantise<std::uint8_t>(ties, {1.0F, 3}) == std::vector<std::uint8_t>{1, 1, 3, 3, 3, 5, 5, 4});
}

TEST_CASE("what the type cannot hold becomes its outermost integer") {
    const std::vector<float> values{127.5F, -128.5F, 3e38F, -3e38F, infinity, -infinity};
    CHECK(quantise<std::int8_t>(values, {1.0F, 0}) == std::vector<std::int8_t>{127, -128, 127, -128, 127, -128});
    CHECK(quantise<std::uint8_t>(values, {1.0F, 128}) == std::vector<std::uint8_t>{255, 0, 255, 0, 255, 0});
    CHECK(quantise<std::uint8_t>(values, {1e-3F, 0}) == std::vector<std::uint8_t>{255, 0, 255, 0, 255, 0});
}

TEST_CASE("NaN becomes the lowest integer") {
    const std::vector<float> values(17, not_a_number);
    CHECK(quantise<std::int8_t>(values, {1.0F, 0}) == std::vector<std::int8_t>(17, -128));
    CHECK(quantise<std::uint8_t>(values, {1.0F, 128}) == std::vector<std::uint8_t>(17, 0));
}

TEST_CASE("denormals are divided as they are") {
    const float least = std::numeric_limits<float>::denorm_min();
    const float scale = std::numeric_limits<float>::min();
    const std::vector<float> values{least, scale / 2, 3 * (scale / 2), -3 * (scale / 2), 5 * scale};
    CHECK(quantise<std::int8_t>(values, {scale, 0}) == std::vector<std::int8_t>{0, 0, 2, -2, 5});
}

TEST_CASE("the dither of a neighbourhood is even, and is no more than half a step") {
    // In 8 x 8 pixels each sixteenth of a step is met about four times; of random numbers some would be met not at all.
    for (std::size_t plane = 0; plane < 5; ++plane) {
        std::array<int, 16> met{};
        for (std::size_t row = 100; row < 108; ++row) {
            const tumortrace::Dither dither = tumortrace::dither_of(plane, row, 37);
            for (std::size_t pixel = 0; pixel < 8; ++pixel) {
                const float offset = dither.at(pixel);
                REQUIRE(std::abs(offset) <= 0.5F);
                CHECK(offset == tumortrace::dither_of(plane, row, 37 + pixel).at(0));
                ++met.at(static_cast<std::size_t>(std::min((offset + 0.5F) * 16, 15.0F)));
            }
        }
        CHECK(*std::min_element(met.begin(), met.end()) >= 2);
        CHECK(*std::max_element(met.begin(), met.end()) <= 7);
    }
}

TEST_CASE("the mean of a flat region is kept, whatever its level") {
    for (const float level : {0.0F, 0.1F, 0.25F, 0.5F, 0.9F}) {
        const PlanesShape shape{1, 1, 16, 16};
        const auto batch = pack<std::int8_t>(std::vector<float>(256, 3 + level), shape, {0, 1, 0}, 1, {1.0F, 0});
        double sum = 0;
        for (const std::int8_t value : batch) sum += value;
        CHECK(std::abs(sum / 256 - (3 + level)) < 0.02);
    }
}

TEST_CASE("a plane of zeros stays zero") {
    const auto batch = pack<std::int8_t>(std::vector<float>(3 * 64 * 64), {1, 3, 64, 64}, {0, 1, 0}, 1, {0.03F, 5});
    CHECK(batch == std::vector<std::int8_t>(batch.size(), 5));
}

TEST_CASE("the byte after the batch is untouched") {
    for (const std::size_t block : {1U, 2U, 4U}) {
        const PlanesShape shape{2, 1, 4, 20};
        const auto planes = noise(shape);
        std::vector<std::int8_t> batch(2 * 3 * 4 * 20 + 1, 99);
        tumortrace::pack_batch(planes.data(), shape, {0, 2, 1}, block, {0.001F, 0}, batch.data());
        CHECK(batch.back() == 99);
    }
}
