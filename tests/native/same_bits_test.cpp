// The same bits on every architecture.
//
// The fingerprints were taken on x86-64, where Python's tests hold the same headers against golden arrays; a definition
// that is changed on purpose changes them.

#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "tumortrace/half.hpp"
#include "tumortrace/postprocess.hpp"
#include "tumortrace/preprocess.hpp"

namespace {

using tumortrace::Fit;
using tumortrace::Foreground;
using tumortrace::Lesion;
using tumortrace::PreprocessingSpec;
using tumortrace::Preprocessor;
using tumortrace::Vectors;
using tumortrace::VolumeShape;
using tumortrace::VoxelType;

/// A hash of the bytes of numbers: FNV-1a (Fowler, Noll and Vo 1991).
class Fingerprint {
  public:
    template <typename Number>
    void add(Number number) {
        std::array<std::uint8_t, sizeof number> bytes;
        std::memcpy(bytes.data(), &number, sizeof number);
        for (const std::uint8_t byte : bytes) hash_ = (hash_ ^ byte) * 1099511628211U;
    }

    template <typename Numbers>
    void add_all(const Numbers& numbers) {
        for (const auto number : numbers) add(number);
    }

    std::uint64_t hash() const { return hash_; }

  private:
    std::uint64_t hash_ = 14695981039346656037U;
};

/// The squared distance of a pixel from the centre of an image, whose edges are 1 away.
double distance(std::size_t y, std::size_t x, std::size_t rows, std::size_t columns) {
    const auto off = [](std::size_t i, std::size_t extent) {
        return (2 * static_cast<double>(i) + 1) / static_cast<double>(extent) - 1;
    };
    return off(y, rows) * off(y, rows) + off(x, columns) * off(x, columns);
}

constexpr std::size_t slices = 3, rows = 37, columns = 45, channels = 2;

/// A bright head in noise, channels last, from 3 to 94 times `unit`.
template <typename Stored>
std::vector<Stored> head(double unit) {
    std::vector<Stored> stored(slices * rows * columns * channels);
    std::mt19937 noise;
    for (std::size_t i = 0; i < stored.size(); ++i) {
        const bool inside = distance(i / (columns * channels) % rows, i / channels % columns, rows, columns) < 0.7;
        const double value = (inside ? 30 : 3) + static_cast<double>(noise() >> 20) / (inside ? 64 : 1024);
        stored[i] = static_cast<Stored>(value * unit);
    }
    return stored;
}

/// Adds a scan's batches in all three kinds of number.
void add_batches(Fingerprint& found, const tumortrace::Voxels& voxels, const PreprocessingSpec& spec, Vectors vectors) {
    Preprocessor preprocessor(spec, vectors);
    REQUIRE(preprocessor.open(voxels).problem == tumortrace::Problem::none);
    const tumortrace::BatchRange range{0, slices, 1};
    const std::size_t size = slices * range.neighbours() * channels * spec.grid.rows * spec.grid.columns;
    std::vector<float> floats(size);
    std::vector<std::uint16_t> halves(size);
    std::vector<std::int8_t> integers(size);
    preprocessor.write_floats(range, floats.data());
    preprocessor.write_halves(range, halves.data());
    preprocessor.pack(range, 2, {0.03F, -5}, integers.data());
    found.add_all(floats);
    found.add_all(halves);
    found.add_all(integers);
}

template <typename Stored>
std::uint64_t fingerprint_of_batches(VoxelType type, double unit, Vectors vectors) {
    const auto stored = head<Stored>(unit);
    const tumortrace::Voxels voxels{stored.data(),
                                    type,
                                    {slices, rows, columns, channels},
                                    {rows * columns * channels, columns * channels, channels, 1}};
    const tumortrace::StatisticsRule above{Foreground::above_border, 0.1, 0.5, 99.5},
        other{Foreground::not_border, 0.1, 1, 99};
    Fingerprint found;
    for (const PreprocessingSpec& spec : {PreprocessingSpec{{40, 48}, Fit::pad, above, {}},
                                          {{64, 96}, Fit::resize, above, {}},
                                          {{20, 30}, Fit::resize, other, 0}}) {
        add_batches(found, voxels, spec, vectors);
    }
    return found.hash();
}

void add_lesion(Fingerprint& found, const Lesion& lesion) {
    found.add(lesion.voxels);
    found.add_all(lesion.centroid);
    found.add_all(lesion.low);
    found.add_all(lesion.high);
    found.add(lesion.confidence->mean);
    found.add(lesion.confidence->highest);
    found.add(std::uint64_t{lesion.diameters->slice});
    found.add(lesion.diameters->longest);
    found.add(lesion.diameters->perpendicular);
    for (const auto& end : lesion.diameters->ends) found.add_all(end);
    for (const auto& end : lesion.diameters->perpendicular_ends) found.add_all(end);
}

constexpr VolumeShape scan{5, 41, 77};
constexpr std::size_t scan_voxels = scan.slices * scan.rows * scan.columns;

/// Spots with noisy outlines, and specks.
std::vector<float> spots() {
    std::vector<float> logits(scan_voxels);
    std::mt19937 noise;
    for (std::size_t i = 0; i < scan_voxels; ++i) {
        const std::size_t y = i / scan.columns % scan.rows, x = i % scan.columns;
        const double value = 1.5 - 5 * distance(y % 21, x % 26, 21, 26) + static_cast<double>(noise() >> 18) / 8192;
        logits[i] = static_cast<float>(value < -3 ? -3 : value);
    }
    return logits;
}

template <typename Kind>
std::uint64_t fingerprint_of_lesions(const Kind& kind, const std::vector<typename Kind::Value>& logits) {
    tumortrace::Postprocessor postprocessor({1, 2, true, 4, tumortrace::Connectivity::edges_3d});
    REQUIRE(postprocessor.segment(kind, logits.data(), scan, {1.7F, {{0.9, 0.7}}}) == 0);
    REQUIRE(postprocessor.lesions().size() > 5);
    std::vector<std::uint32_t> labels(scan_voxels);
    postprocessor.paint_labels(labels.data());
    Fingerprint found;
    found.add_all(labels);
    for (const Lesion& lesion : postprocessor.lesions()) add_lesion(found, lesion);
    return found.hash();
}

}  // namespace

TEST_CASE("batches are the same bits") {
    for (const Vectors vectors : {Vectors::baseline, Vectors::avx2, Vectors::avx512}) {
        if (!tumortrace::has(vectors)) continue;
        CAPTURE(static_cast<int>(vectors));
        CHECK(fingerprint_of_batches<std::uint8_t>(VoxelType::uint8, 1, vectors) == 0x57088629F616388E);
        CHECK(fingerprint_of_batches<std::int16_t>(VoxelType::int16, 300, vectors) == 0xF1B269C607F4F64);
        CHECK(fingerprint_of_batches<float>(VoxelType::float32, 0.37, vectors) == 0x759416F7DF43A531);
        CHECK(fingerprint_of_batches<double>(VoxelType::float64, 1e-3, vectors) == 0x10FAE84344FE9D2F);
    }
}

TEST_CASE("lesions and what is measured of them are the same bits") {
    const auto logits = spots();
    std::vector<tumortrace::Half> halves(scan_voxels);
    std::vector<std::int8_t> integers(scan_voxels);
    for (std::size_t i = 0; i < scan_voxels; ++i) {
        halves[i] = {tumortrace::to_half(logits[i])};
        integers[i] = static_cast<std::int8_t>(logits[i] * 30.0F);
    }
    CHECK(fingerprint_of_lesions(tumortrace::FloatLogits(-0.1F), logits) == 0x239DAAB89AC6BB98);
    CHECK(fingerprint_of_lesions(tumortrace::HalfLogits(-0.1F), halves) == 0x11B9CEFCF19ACF2D);
    CHECK(fingerprint_of_lesions(tumortrace::QuantisedLogits<std::int8_t>(0.03F, 2, -0.1F), integers) ==
          0x124931C5E6BB2323);
}
