// Post-processing of logits of any bits, in any window of a grid, added in batches of any size by any number of
// threads.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "fuzz_input.hpp"
#include "tumortrace/postprocess.hpp"

namespace {

using tumortrace::Cleaning;
using tumortrace::Connectivity;
using tumortrace::FloatLogits;
using tumortrace::Measurements;
using tumortrace::Placement;
using tumortrace::Postprocessor;
using tumortrace::Size;

constexpr std::array<float, 4> thresholds{0, -2.5F, 1e30F, -1e30F};

/// What is segmented, and how.
struct Job {
    std::size_t slices;
    Placement placement;
    Cleaning cleaning;
    float threshold;
    Measurements measurements;
    std::vector<float> logits;  ///< (slices, grid rows, grid columns)

    std::size_t grid_px() const { return placement.grid.rows * placement.grid.columns; }
    std::size_t voxels() const { return slices * placement.scan.rows * placement.scan.columns; }
    bool plain() const { return cleaning.opening_px == 0 && cleaning.closing_px == 0 && !cleaning.fill_holes; }
};

Placement take_placement(FuzzInput& input) {
    const Size grid{input.between<std::size_t>(1, 20), input.between<std::size_t>(1, 140)};
    const Size scaled{input.between<std::size_t>(1, grid.rows), input.between<std::size_t>(1, grid.columns)};
    const Size offset{input.below(grid.rows - scaled.rows + 1), input.below(grid.columns - scaled.columns + 1)};
    const Size scan{input.between<std::size_t>(1, 24), input.between<std::size_t>(1, 150)};
    return {input.flag() ? scan : scaled, scaled, offset, grid};
}

Job take_job(FuzzInput& input) {
    constexpr std::array<Connectivity, 3> kinds{Connectivity::faces_3d, Connectivity::edges_3d,
                                                Connectivity::corners_3d};
    const Placement placement = take_placement(input);
    Job job{input.between<std::size_t>(1, 6), placement, {}, thresholds[input.below(thresholds.size())], {}, {}};
    job.cleaning = {input.below(4), input.below(4), input.flag(), input.below(20), kinds[input.below(kinds.size())]};
    if (input.flag()) job.cleaning.opening_px = job.cleaning.closing_px = 0;
    if (input.flag()) job.measurements.temperature = 0.5F + static_cast<float>(input.below(100)) / 10;
    if (input.flag()) job.measurements.pixel_mm = {{0.1 + static_cast<double>(input.below(50)), 1.5}};
    job.logits.resize(job.slices * job.grid_px());
    fill(job.logits, input);
    return job;
}

/// What came of a job.
struct Outcome {
    std::size_t nan = 0;
    std::vector<std::uint8_t> mask;
    std::vector<std::uint32_t> labels;
    std::vector<tumortrace::Lesion> lesions;
};

Outcome run(const Job& job, std::size_t threads, const std::vector<std::size_t>& batches) {
    Postprocessor postprocessor(job.cleaning, threads);
    postprocessor.begin(job.slices, job.placement, job.measurements);
    Outcome outcome;
    std::size_t start = 0;
    for (const std::size_t count : batches) {
        const float* const values = job.logits.data() + start * job.grid_px();
        outcome.nan += postprocessor.add(FloatLogits(job.threshold), {values, count, 1, job.placement.grid});
        if (outcome.nan != 0) return outcome;
        start += count;
    }
    postprocessor.finish();
    outcome.mask.resize(job.voxels());
    outcome.labels.resize(job.voxels());
    postprocessor.paint_mask(outcome.mask.data());
    postprocessor.paint_labels(outcome.labels.data());
    outcome.lesions = postprocessor.lesions();
    return outcome;
}

bool same(const tumortrace::Lesion& one, const tumortrace::Lesion& other) {
    const bool same_place = one.voxels == other.voxels && one.centroid == other.centroid && one.low == other.low &&
                            one.high == other.high && one.confidence.has_value() == other.confidence.has_value() &&
                            one.diameters.has_value() == other.diameters.has_value();
    if (!same_place || !one.confidence) return same_place;
    return one.confidence->mean == other.confidence->mean && one.confidence->highest == other.confidence->highest;
}

/// Holds mask, labels and lesions against each other.
void check_agreement(const Job& job, const Outcome& outcome) {
    std::vector<std::uint64_t> counts(outcome.lesions.size() + 1);
    for (std::size_t voxel = 0; voxel < outcome.mask.size(); ++voxel) {
        check(outcome.labels[voxel] < counts.size(), "labels are those of lesions");
        check((outcome.mask[voxel] != 0) == (outcome.labels[voxel] != 0), "the mask is what has a label");
        ++counts[outcome.labels[voxel]];
    }
    for (std::size_t i = 0; i < outcome.lesions.size(); ++i) {
        const tumortrace::Lesion& lesion = outcome.lesions[i];
        check(lesion.voxels == counts[i + 1], "a lesion's voxels are those with its label");
        check(lesion.voxels >= job.cleaning.min_lesion_voxels, "small lesions are removed");
        check(i == 0 || outcome.lesions[i - 1].voxels >= lesion.voxels, "the largest lesion comes first");
        check(lesion.confidence.has_value() == job.measurements.temperature.has_value(), "confidence is as asked for");
        if (lesion.confidence) {
            check(0 <= lesion.confidence->mean && lesion.confidence->mean <= 1, "confidence is a probability");
            check(lesion.confidence->highest <= 1, "and so is the highest");
        }
    }
}

/// The voxels above the threshold without components that are too small, found by flooding.
std::vector<std::uint8_t> plain_mask(const Job& job) {
    const auto& [scan, scaled, offset, grid] = job.placement;
    std::vector<std::uint8_t> mask;
    for (std::size_t slice = 0; slice < job.slices; ++slice) {
        for (std::size_t row = 0; row < scan.rows; ++row) {
            const float* const logits =
                job.logits.data() + slice * job.grid_px() + (offset.rows + row) * grid.columns + offset.columns;
            for (std::size_t column = 0; column < scan.columns; ++column) {
                mask.push_back(logits[column] > job.threshold ? 1 : 0);
            }
        }
    }
    const auto neighbours = static_cast<int>(job.cleaning.connectivity);
    const int reach = neighbours == 6 ? 1 : neighbours == 18 ? 2 : 3;
    const std::array<int, 3> extents{static_cast<int>(job.slices), static_cast<int>(scan.rows),
                                     static_cast<int>(scan.columns)};
    std::vector<std::uint8_t> seen(mask.size());
    for (std::size_t seed = 0; seed < mask.size(); ++seed) {
        if (mask[seed] == 0 || seen[seed] != 0) continue;
        std::vector<std::size_t> component{seed};
        seen[seed] = 1;
        for (std::size_t next = 0; next < component.size(); ++next) {
            const auto at = static_cast<int>(component[next]);
            const std::array<int, 3> here{at / (extents[1] * extents[2]), at / extents[2] % extents[1],
                                          at % extents[2]};
            for (int step = 0; step < 27; ++step) {
                const std::array<int, 3> by{step / 9 - 1, step / 3 % 3 - 1, step % 3 - 1};
                if (std::abs(by[0]) + std::abs(by[1]) + std::abs(by[2]) > reach) continue;
                const std::array<int, 3> there{here[0] + by[0], here[1] + by[1], here[2] + by[2]};
                bool inside = true;
                for (std::size_t axis = 0; axis < 3; ++axis) {
                    inside = inside && 0 <= there[axis] && there[axis] < extents[axis];
                }
                if (!inside) continue;
                const auto voxel = static_cast<std::size_t>((there[0] * extents[1] + there[1]) * extents[2] + there[2]);
                if (mask[voxel] != 0 && seen[voxel] == 0) {
                    seen[voxel] = 1;
                    component.push_back(voxel);
                }
            }
        }
        if (component.size() < job.cleaning.min_lesion_voxels) {
            for (const std::size_t voxel : component) mask[voxel] = 0;
        }
    }
    return mask;
}

/// Slices in batches, some of them empty.
std::vector<std::size_t> take_batches(FuzzInput& input, std::size_t slices) {
    std::vector<std::size_t> batches;
    for (std::size_t left = slices; left > 0;) {
        batches.push_back(input.below(left + 1));
        left -= batches.back();
        if (batches.size() == 2 * slices) batches.push_back(left), left = 0;
    }
    return batches;
}

void check_misuse(const Job& job) {
    Postprocessor postprocessor(job.cleaning);
    bool refused = false;
    postprocessor.begin(job.slices, job.placement, job.measurements);
    try {
        postprocessor.skip(job.slices + 1);
    } catch (const std::invalid_argument&) {
        refused = true;
    }
    check(refused && postprocessor.added() == 0, "more slices than begun are refused");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    FuzzInput input(bytes, size);
    const Job job = take_job(input);
    const Outcome whole = run(job, 1, {job.slices});
    const Outcome parts = run(job, input.between<std::size_t>(1, 3), take_batches(input, job.slices));
    check((whole.nan == 0) == (parts.nan == 0), "NaN is found, however slices come");
    if (whole.nan == 0) {
        check(same_bits(whole.mask, parts.mask) && same_bits(whole.labels, parts.labels), "the same masks and labels");
        check(std::equal(whole.lesions.begin(), whole.lesions.end(), parts.lesions.begin(), parts.lesions.end(), same),
              "the same lesions");
        check_agreement(job, whole);
        if (job.plain() && job.placement.scan == job.placement.scaled) {
            check(same_bits(whole.mask, plain_mask(job)), "the mask is what is above the threshold");
        }
    } else if (job.placement.scan == job.placement.scaled) {
        check(std::any_of(job.logits.begin(), job.logits.end(), [](float logit) { return std::isnan(logit); }),
              "NaN is found only where there is one");
    }
    check_misuse(job);
    return 0;
}
