// Several threads, each with objects of its own, as a program would that serves several scans at once.

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <random>
#include <thread>
#include <vector>

#include "tumortrace/postprocess.hpp"
#include "tumortrace/preprocess.hpp"

namespace {

using tumortrace::Cleaning;
using tumortrace::Connectivity;
using tumortrace::FloatLogits;
using tumortrace::VolumeShape;

constexpr VolumeShape shape{4, 40, 70};
constexpr std::size_t voxels = shape.slices * shape.rows * shape.columns;
constexpr Cleaning cleaning{1, 1, true, 3, Connectivity::corners_3d};

std::vector<std::int16_t> stored_scan() {
    std::vector<std::int16_t> stored(voxels);
    std::mt19937 noise;
    for (std::size_t i = 0; i < voxels; ++i) {
        const bool inside = i / shape.columns % shape.rows > 8 && i % shape.columns > 12;
        stored[i] = static_cast<std::int16_t>((inside ? 200 : 10) + (noise() >> 25));
    }
    return stored;
}

/// What becomes of a scan: the network's input, and the lesions of a network that gives its input back.
struct Outcome {
    std::vector<float> batch;
    std::vector<std::uint32_t> labels;
};

Outcome segment(const std::vector<std::int16_t>& stored) {
    Outcome outcome{std::vector<float>(voxels), std::vector<std::uint32_t>(voxels)};
    tumortrace::Preprocessor preprocessor({{shape.rows, shape.columns},
                                           tumortrace::Fit::pad,
                                           {tumortrace::Foreground::above_border, 0.1, 0.5, 99.5},
                                           {}});
    constexpr std::ptrdiff_t row = shape.columns, slice = row * shape.rows;
    const tumortrace::Voxels scan{
        stored.data(), tumortrace::VoxelType::int16, {shape.slices, shape.rows, shape.columns, 1}, {slice, row, 1, 1}};
    if (preprocessor.open(scan).problem == tumortrace::Problem::none) {
        preprocessor.write_floats({0, shape.slices, 0}, outcome.batch.data());
        tumortrace::Postprocessor postprocessor(cleaning);
        postprocessor.segment(FloatLogits(0.5F), outcome.batch.data(), shape, {1.5F, {{1.0, 1.0}}});
        postprocessor.paint_labels(outcome.labels.data());
    }
    return outcome;
}

/// Calls work(i) for every i below `count`, all at once.
template <typename Work>
void run_at_once(std::size_t count, const Work& work) {
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < count; ++i) threads.emplace_back([&work, i] { work(i); });
    for (std::thread& thread : threads) thread.join();
}

}  // namespace

TEST_CASE("threads with objects of their own segment the same scan to the same result") {
    const auto stored = stored_scan();
    std::vector<Outcome> outcomes(4);
    run_at_once(outcomes.size(), [&](std::size_t i) { outcomes[i] = segment(stored); });
    const Outcome alone = segment(stored);
    CHECK(alone.labels != std::vector<std::uint32_t>(voxels));
    for (const Outcome& outcome : outcomes) {
        CHECK(outcome.batch == alone.batch);
        CHECK(outcome.labels == alone.labels);
    }
}

TEST_CASE("threads share the slices of a scan, with a cleaner each") {
    const Outcome alone = segment(stored_scan());
    const auto add_slice = [&](std::size_t slice, tumortrace::SliceCleaner& cleaner, tumortrace::CleanedSlices& kept) {
        const float* const logits = alone.batch.data() + slice * shape.rows * shape.columns;
        const auto row_of = [&](std::size_t y) {
            return tumortrace::ClassRow<float>{logits + y * shape.columns, shape.columns};
        };
        cleaner.add_slice(FloatLogits(0.5F), row_of, kept);
    };
    std::vector<tumortrace::CleanedSlices> kept(shape.slices);
    run_at_once(shape.slices, [&](std::size_t slice) {
        tumortrace::SliceCleaner cleaner;
        cleaner.prepare(shape.rows, shape.columns, cleaning, {});
        kept[slice].reset(shape, false);
        add_slice(slice, cleaner, kept[slice]);
    });

    tumortrace::CleanedSlices whole;
    whole.reset(shape, false);
    tumortrace::SliceCleaner cleaner;
    cleaner.prepare(shape.rows, shape.columns, cleaning, {});
    std::size_t runs = 0;
    for (std::size_t slice = 0; slice < shape.slices; ++slice) {
        add_slice(slice, cleaner, whole);
        for (const tumortrace::Run run : kept[slice].mask.runs()) {
            CHECK(run.begin == whole.mask.runs()[runs].begin);
            CHECK(run.end == whole.mask.runs()[runs].end);
            ++runs;
        }
    }
    CHECK(runs == whole.mask.runs().size());
}
