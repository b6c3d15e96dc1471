#include "tumortrace/preprocess.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <type_traits>
#include <vector>

#include "allocations.hpp"
#include "voxel_type.hpp"

namespace {

using tumortrace::BatchRange;
using tumortrace::Fit;
using tumortrace::Foreground;
using tumortrace::Opening;
using tumortrace::PreprocessingSpec;
using tumortrace::Preprocessor;
using tumortrace::Problem;
using tumortrace::Quantisation;
using tumortrace::Size;
using tumortrace::Vectors;
using tumortrace::Voxels;
using tumortrace::VoxelType;

constexpr tumortrace::StatisticsRule above_border{Foreground::above_border, 0.1, 0.5, 99.5};

std::vector<Vectors> every_vectors() {
    std::vector<Vectors> found;
    for (const Vectors vectors : {Vectors::baseline, Vectors::avx2, Vectors::avx512}) {
        if (tumortrace::has(vectors)) found.push_back(vectors);
    }
    return found;
}

/// Voxels that are their own memory, channels last.
template <typename Stored>
struct Scan {
    std::array<std::size_t, 4> shape;
    std::vector<Stored> stored;

    explicit Scan(const std::array<std::size_t, 4>& extents, unsigned seed = 0)
        : shape(extents), stored(extents[0] * extents[1] * extents[2] * extents[3]) {
        std::mt19937 generator(seed);
        std::uniform_int_distribution<int> dark(2, 6), bright(40, 120);
        for (std::size_t i = 0; i < stored.size(); ++i) {
            const std::size_t y = i / (shape[3] * shape[2]) % shape[1], x = i / shape[3] % shape[2];
            const bool inside = y > shape[1] / 4 && y < shape[1] - 3 && x > shape[2] / 4 && x < shape[2] - 3;
            stored[i] = static_cast<Stored>(inside ? bright(generator) : dark(generator));
        }
    }

    Voxels view() const {
        const auto channels = static_cast<std::ptrdiff_t>(shape[3]), columns = static_cast<std::ptrdiff_t>(shape[2]);
        return {stored.data(),
                type_of<Stored>(),
                shape,
                {static_cast<std::ptrdiff_t>(shape[1]) * columns * channels, columns * channels, channels, 1}};
    }
};

std::vector<float> planes_of(Preprocessor& preprocessor, const PreprocessingSpec& spec) {
    const std::size_t slices = preprocessor.slices();
    std::vector<float> planes(slices * preprocessor.channels().size() * spec.grid.rows * spec.grid.columns);
    preprocessor.write_floats({0, slices, 0}, planes.data());
    return planes;
}

/// What a channel's planes are by the definition, for small integers that the grid holds pixel by pixel.
template <typename Stored>
std::vector<float> plane_slowly(const Scan<Stored>& scan, std::size_t channel, Size grid) {
    const auto [slices, rows, columns, channels] = scan.shape;
    const auto at = [&](std::size_t s, std::size_t y, std::size_t x) {
        return static_cast<int>(scan.stored[((s * rows + y) * columns + x) * channels + channel]);
    };
    std::vector<int> all, border;
    for (std::size_t s = 0; s < slices; ++s) {
        for (std::size_t y = 0; y < rows; ++y) {
            for (std::size_t x = 0; x < columns; ++x) {
                all.push_back(at(s, y, x));
                if (y < 4 || x < 4 || y + 4 >= rows || x + 4 >= columns) border.push_back(at(s, y, x));
            }
        }
    }
    const auto rank = [](std::vector<int>& values, double percentile) {
        std::sort(values.begin(), values.end());
        const auto count = std::max(1.0, std::ceil(percentile * static_cast<double>(values.size()) / 100));
        return values[static_cast<std::size_t>(count) - 1];
    };
    const int least = *std::min_element(all.begin(), all.end());
    const int background = rank(border, 50), bright = rank(all, 99.5);
    std::vector<int> tissue;
    for (const int value : all) {
        if (value - least > (background - least) + 0.1 * (bright - background)) tissue.push_back(value);
    }
    const int low = rank(tissue, 0.5), high = rank(tissue, 99.5);
    std::int64_t first = 0, second = 0;
    for (const int value : tissue) {
        const std::int64_t offset = std::clamp(value, low, high) - low;
        first += offset;
        second += offset * offset;
    }
    const auto count = static_cast<std::int64_t>(tissue.size());
    const double variance = static_cast<double>(count * second - first * first) / static_cast<double>(count * count);
    const auto mean =
        static_cast<float>(least + ((low - least) + static_cast<double>(first) / static_cast<double>(count)));
    const auto scale = static_cast<float>(1 / std::sqrt(variance));
    const auto standardised = [&](int value) {
        return (static_cast<float>(std::clamp(value, low, high)) - mean) * scale;
    };
    std::vector<float> planes(slices * grid.rows * grid.columns, standardised(background));
    const std::size_t top = (grid.rows - rows) / 2, left = (grid.columns - columns) / 2;
    for (std::size_t s = 0; s < slices; ++s) {
        for (std::size_t y = 0; y < rows; ++y) {
            for (std::size_t x = 0; x < columns; ++x) {
                planes[(s * grid.rows + top + y) * grid.columns + left + x] = standardised(at(s, y, x));
            }
        }
    }
    return planes;
}

}  // namespace

TEST_CASE_TEMPLATE("planes are what the definition says, however voxels are stored", Stored, std::uint8_t, std::int8_t,
                   std::uint16_t, std::int16_t, std::uint32_t, std::int32_t, std::uint64_t, std::int64_t) {
    for (const std::size_t columns : {5U, 16U, 33U, 67U}) {
        Scan<Stored> scan({2, 21, columns, 1});
        if constexpr (std::is_signed_v<Stored>) {
            for (Stored& value : scan.stored) value = static_cast<Stored>(value - 64);
        }
        const PreprocessingSpec spec{{24, 70}, Fit::pad, above_border, {}};
        for (const Vectors vectors : every_vectors()) {
            CAPTURE(columns);
            CAPTURE(static_cast<int>(vectors));
            Preprocessor preprocessor(spec, vectors);
            REQUIRE(preprocessor.open(scan.view()).problem == Problem::none);
            CHECK(planes_of(preprocessor, spec) == plane_slowly(scan, 0, spec.grid));
        }
    }
}

TEST_CASE_TEMPLATE("memory order does not matter", Stored, std::uint8_t, std::int16_t, float, double) {
    const Scan<Stored> scan({3, 19, 23, 3});
    const PreprocessingSpec spec{{24, 24}, Fit::pad, above_border, 1};
    Preprocessor preprocessor(spec);
    REQUIRE(preprocessor.open(scan.view()).problem == Problem::none);
    const auto wanted = planes_of(preprocessor, spec);

    std::vector<Stored> backwards(scan.stored.rbegin(), scan.stored.rend());
    Voxels reversed = scan.view();
    reversed.data = backwards.data() + backwards.size() - 1;
    for (auto& stride : reversed.strides) stride = -stride;
    REQUIRE(preprocessor.open(reversed).problem == Problem::none);
    CHECK(planes_of(preprocessor, spec) == wanted);

    std::vector<Stored> planar;
    for (std::size_t channel = 0; channel < 3; ++channel) {
        for (std::size_t i = channel; i < scan.stored.size(); i += 3) planar.push_back(scan.stored[i]);
    }
    REQUIRE(preprocessor.open({planar.data(), type_of<Stored>(), scan.shape, {19 * 23, 23, 1, 3 * 19 * 23}}).problem ==
            Problem::none);
    CHECK(planes_of(preprocessor, spec) == wanted);
}

TEST_CASE_TEMPLATE("a batch of integers is what `pack_batch` makes of the planes", Stored, std::uint8_t, std::int16_t,
                   float) {
    const Scan<Stored> scan({4, 18, 29, 2});
    for (const Fit fit : {Fit::pad, Fit::resize}) {
        const PreprocessingSpec spec{{20, 32}, fit, above_border, {}};
        for (const Vectors vectors : every_vectors()) {
            Preprocessor preprocessor(spec, vectors);
            REQUIRE(preprocessor.open(scan.view()).problem == Problem::none);
            const auto planes = planes_of(preprocessor, spec);
            for (const std::size_t block : {1U, 2U, 4U}) {
                for (const BatchRange range : {BatchRange{0, 4, 1}, {1, 3, 2}, {2, 2, 1}}) {
                    const std::size_t size = range.size() * range.neighbours() * 2 * 20 * 32;
                    std::vector<std::uint8_t> wanted(size + 1, 99), found(size + 1, 99);
                    const Quantisation by{0.02F, 120};
                    tumortrace::pack_batch(planes.data(), {4, 2, 20, 32}, range, block, by, wanted.data());
                    preprocessor.pack(range, block, by, found.data());
                    CHECK(found == wanted);
                }
            }
        }
    }
}

TEST_CASE("a grid wider than a tile is packed tile by tile") {
    const Scan<std::int16_t> scan({1, 12, 1500, 1});
    const PreprocessingSpec spec{{12, 2056}, Fit::pad, above_border, {}};
    Preprocessor preprocessor(spec);
    REQUIRE(preprocessor.open(scan.view()).problem == Problem::none);
    const auto planes = planes_of(preprocessor, spec);
    std::vector<std::int8_t> wanted(12 * 2056), found(12 * 2056);
    tumortrace::pack_batch(planes.data(), {1, 1, 12, 2056}, {0, 1, 0}, 4, {0.02F, 0}, wanted.data());
    preprocessor.pack({0, 1, 0}, 4, {0.02F, 0}, found.data());
    CHECK(found == wanted);
}

TEST_CASE("another quantisation and another scan are not mixed up with those before") {
    const PreprocessingSpec spec{{20, 20}, Fit::pad, above_border, {}};
    Preprocessor preprocessor(spec);
    for (const unsigned seed : {1U, 2U}) {
        const Scan<std::uint8_t> scan({1, 20, 20, 1}, seed);
        REQUIRE(preprocessor.open(scan.view()).problem == Problem::none);
        const auto planes = planes_of(preprocessor, spec);
        for (const float scale : {0.1F, 0.02F}) {
            std::vector<std::int8_t> wanted(400), found(400);
            tumortrace::pack_batch(planes.data(), {1, 1, 20, 20}, {0, 1, 0}, 2, {scale, 0}, wanted.data());
            preprocessor.pack({0, 1, 0}, 2, {scale, 0}, found.data());
            CHECK(found == wanted);
        }
    }
}

TEST_CASE_TEMPLATE("slices packed one by one, in any order, are those of one batch", Integer, std::int8_t,
                   std::uint8_t) {
    const Scan<std::uint8_t> scan({6, 16, 16, 2});
    Preprocessor preprocessor({{16, 16}, Fit::pad, above_border, {}});
    REQUIRE(preprocessor.open(scan.view()).problem == Problem::none);
    constexpr std::size_t image = 5 * 2 * 256;
    const Quantisation by{0.02F, 0};
    std::vector<Integer> wanted(6 * image), found(6 * image);
    preprocessor.pack({0, 6, 2}, 2, by, wanted.data());
    std::vector<std::uint8_t> other(image);
    for (const std::size_t slice : {0U, 1U, 2U, 3U, 4U, 5U, 5U, 0U, 3U, 2U, 1U}) {
        std::fill_n(found.begin() + static_cast<std::ptrdiff_t>(slice * image), image, Integer{99});
        preprocessor.pack({slice, slice + 1, 2}, 2, by, found.data() + slice * image);
        if (slice == 3) preprocessor.pack({slice, slice + 1, 2}, 2, by, other.data());
    }
    CHECK(found == wanted);
}

TEST_CASE("neighbours beyond the ends are the end slices") {
    const Scan<std::uint16_t> scan({2, 16, 16, 1});
    const PreprocessingSpec spec{{16, 16}, Fit::pad, above_border, {}};
    Preprocessor preprocessor(spec);
    REQUIRE(preprocessor.open(scan.view()).problem == Problem::none);
    const auto planes = planes_of(preprocessor, spec);
    std::vector<float> batch(2 * 5 * 256);
    preprocessor.write_floats({0, 2, 2}, batch.data());
    const std::array<std::size_t, 10> slices{0, 0, 0, 1, 1, 0, 0, 1, 1, 1};
    for (std::size_t view = 0; view < slices.size(); ++view) {
        CHECK(std::equal(batch.begin() + static_cast<std::ptrdiff_t>(view * 256),
                         batch.begin() + static_cast<std::ptrdiff_t>(view * 256 + 256),
                         planes.begin() + static_cast<std::ptrdiff_t>(slices[view] * 256)));
    }
}

TEST_CASE("copies of the reference, and what is known to be one, become zeros") {
    Scan<std::uint8_t> scan({2, 16, 16, 3});
    for (std::size_t i = 0; i < scan.stored.size(); i += 3) scan.stored[i] = scan.stored[i + 1];
    const PreprocessingSpec spec{{16, 16}, Fit::pad, above_border, 1};
    Preprocessor preprocessor(spec);
    REQUIRE(preprocessor.open(scan.view(), {false, false, true}).problem == Problem::none);
    CHECK(preprocessor.channels()[0].replaced);
    CHECK_FALSE(preprocessor.channels()[1].replaced);
    CHECK(preprocessor.channels()[2].replaced);
    const auto planes = planes_of(preprocessor, spec);
    CHECK(std::count(planes.begin(), planes.begin() + 256, 0.0F) == 256);
    CHECK(std::count(planes.begin() + 512, planes.begin() + 768, 0.0F) == 256);
}

TEST_CASE("what cannot be prepared is said") {
    const PreprocessingSpec spec{{16, 16}, Fit::pad, above_border, {}};
    Preprocessor preprocessor(spec);
    const auto open = [&](const auto& scan) { return preprocessor.open(scan.view()); };

    CHECK(open(Scan<std::uint8_t>({2, 0, 16, 1})).problem == Problem::empty);
    CHECK(open(Scan<std::uint8_t>({2, 17, 16, 1})).problem == Problem::larger_than_grid);

    Scan<float> scan({2, 16, 16, 2});
    scan.stored[5] = std::numeric_limits<float>::quiet_NaN();
    scan.stored[8] = -std::numeric_limits<float>::infinity();
    CHECK(open(scan).problem == Problem::not_finite);
    CHECK(open(scan).not_finite == 2);

    Scan<std::int16_t> constant({2, 16, 16, 2});
    for (std::size_t i = 1; i < constant.stored.size(); i += 2) constant.stored[i] = -7;
    CHECK(open(constant).problem == Problem::no_foreground);
    CHECK(open(constant).channel == 1);
    CHECK(preprocessor.channels().empty());

    Scan<std::uint8_t> flat({2, 16, 16, 1});
    for (auto& value : flat.stored) value = value > 20 ? 120 : 3;
    CHECK(open(flat).problem == Problem::one_value);
    CHECK(open(flat).only_value == 120);
}

TEST_CASE("a channel of 2^32 voxels is refused before one is read") {
    const std::uint8_t voxel = 0;
    Preprocessor preprocessor({{16, 16}, Fit::pad, above_border, {}});
    constexpr std::size_t huge = std::numeric_limits<std::size_t>::max() / 2;
    for (const std::array<std::size_t, 4> shape :
         {std::array<std::size_t, 4>{65536, 256, 256, 1}, {huge, huge, huge, 1}, {1, huge, 16, 1}}) {
        CHECK(preprocessor.open({&voxel, VoxelType::uint8, shape, {0, 0, 0, 0}}).problem == Problem::too_large);
    }
}

TEST_CASE("a scan that is opened again gives the same planes, and takes no more memory") {
    const Scan<float> scan({2, 30, 40, 2});
    const Scan<std::int16_t> integers({2, 24, 32, 2});
    const PreprocessingSpec spec{{24, 32}, Fit::resize, above_border, {}};
    Preprocessor preprocessor(spec);
    std::vector<float> batch(2 * 6 * 24 * 32), again(batch.size());
    std::vector<std::int8_t> packed(batch.size());
    const auto prepare = [&](const Voxels& voxels, std::vector<float>& out) {
        const bool opened = preprocessor.open(voxels).problem == Problem::none;
        preprocessor.write_floats({0, 2, 1}, out.data());
        preprocessor.pack({0, 2, 1}, 2, {0.02F, 0}, packed.data());
        return opened;
    };
    REQUIRE(prepare(integers.view(), batch));
    REQUIRE(prepare(scan.view(), batch));
    const std::size_t before = allocations();
    const bool opened = prepare(integers.view(), again) && prepare(scan.view(), again);
    const std::size_t after = allocations();
    CHECK(opened);
    CHECK(after == before);
    CHECK(again == batch);
}

TEST_CASE_TEMPLATE("statistics do not depend on the number of threads", Stored, std::uint8_t, std::int32_t, float) {
    const PreprocessingSpec spec{{24, 26}, Fit::pad, above_border, std::nullopt};
    const Scan<Stored> scan({5, 20, 22, 3}, 4);
    Preprocessor alone(spec);
    REQUIRE(alone.open(scan.view()).problem == Problem::none);
    for (const std::size_t threads : {2U, 3U, 8U}) {
        Preprocessor preprocessor(spec, tumortrace::widest_vectors(), threads);
        for (int turn = 0; turn < 2; ++turn) {
            REQUIRE(preprocessor.open(scan.view()).problem == Problem::none);
            CHECK(planes_of(preprocessor, spec) == planes_of(alone, spec));
            CHECK(preprocessor.coverage().slices == alone.coverage().slices);
            CHECK(preprocessor.coverage().rows.begin == alone.coverage().rows.begin);
            CHECK(preprocessor.coverage().rows.end == alone.coverage().rows.end);
            CHECK(preprocessor.coverage().columns.begin == alone.coverage().columns.begin);
            CHECK(preprocessor.coverage().columns.end == alone.coverage().columns.end);
        }
    }
}

TEST_CASE("voxels that are not finite are counted by every thread") {
    Scan<float> scan({5, 20, 22, 1});
    for (const std::size_t voxel : {3U, 900U, 2100U}) scan.stored[voxel] = std::numeric_limits<float>::quiet_NaN();
    Preprocessor preprocessor({{24, 26}, Fit::pad, above_border, std::nullopt}, tumortrace::widest_vectors(), 3);
    CHECK(preprocessor.open(scan.view()).not_finite == 3);
}
