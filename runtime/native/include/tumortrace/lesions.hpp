// The lesions of a mask: connected components that are large enough, ordered and measured.

#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "tumortrace/components.hpp"
#include "tumortrace/confidence.hpp"
#include "tumortrace/diameters.hpp"
#include "tumortrace/runs.hpp"

namespace tumortrace {

/// How sure the network is of a lesion.
struct LesionConfidence {
    double mean;    ///< probability of its voxels
    float highest;  ///< probability of one of them
};

/// One connected component. Indices are (slice, row, column).
struct Lesion {
    std::uint64_t voxels;
    std::array<double, 3> centroid;     ///< mean index
    std::array<std::uint32_t, 3> low;   ///< least index inside
    std::array<std::uint32_t, 3> high;  ///< greatest index inside, plus one
    std::optional<LesionConfidence> confidence;
    std::optional<Diameters> diameters;
};

/// Finds, selects and orders the lesions of a mask, the largest first; of equal ones that whose first voxel comes
/// first.
///
/// Keeps its buffers: allocates only for more runs, components or lesions than ever before.
class LesionFinder {
  public:
    /// Components of fewer than `min_voxels` voxels are no lesions.
    void find(const RunMask& mask, Connectivity connectivity, std::size_t min_voxels) {
        const std::uint32_t count = components_.find(mask, connectivity);
        const auto& runs = mask.runs();
        voxels_.assign(count, 0);
        for (std::size_t run = 0; run < runs.size(); ++run) {
            voxels_[components_.components()[run]] += std::uint64_t{runs[run].end} - runs[run].begin;
        }
        order_.clear();
        for (std::uint32_t component = 0; component < count; ++component) {
            if (voxels_[component] >= min_voxels) {
                order_.push_back(component);
            }
        }
        std::sort(order_.begin(), order_.end(), [this](std::uint32_t a, std::uint32_t b) {
            return voxels_[a] != voxels_[b] ? voxels_[a] > voxels_[b] : a < b;
        });
        label_runs(count);
        measure(mask);
    }

    /// Measures how sure the network is.
    ///
    /// @param sums of the probabilities of every run
    void measure_confidence(const std::vector<ProbabilitySum>& sums) {
        sums_.assign(lesions_.size(), ProbabilitySum{});
        for (std::size_t run = 0; run < labels_.size(); ++run) {
            if (labels_[run] != 0) {
                sums_[labels_[run] - 1].add(sums[run]);
            }
        }
        for (std::size_t i = 0; i < lesions_.size(); ++i) {
            lesions_[i].confidence = {sums_[i].sum / static_cast<double>(lesions_[i].voxels), sums_[i].highest};
        }
    }

    /// Measures diameters. Parts of a slice that touch as voxels of the slice do under `connectivity` are one.
    ///
    /// @param pixel height and width of a pixel
    void measure_diameters(const RunMask& mask, Connectivity connectivity, std::array<double, 2> pixel) {
        const bool corners = connectivity != Connectivity::faces_3d && connectivity != Connectivity::edges_2d;
        const std::uint32_t count =
            part_finder_.find(mask, corners ? Connectivity::corners_2d : Connectivity::edges_2d);
        sort_by_part(mask, count);
        diameters_.set_pixel(pixel);
        for (Lesion& lesion : lesions_) {
            lesion.diameters = Diameters{};
        }
        std::uint32_t start = 0;
        for (const Part& part : parts_) {
            if (part.label != 0) {
                diameters_.measure(placed_.data() + start, placed_.data() + part.end, part.slice,
                                   *lesions_[part.label - 1].diameters);
            }
            start = part.end;
        }
    }

    const std::vector<Lesion>& lesions() const noexcept { return lesions_; }

    /// The lesion of every run, from 1 on; 0 for what is none.
    const std::vector<std::uint32_t>& labels() const noexcept { return labels_; }

    /// Calls `visit(index, row)` for the runs of lesions in their order; rows count on through the slices.
    template <typename Visit>
    void for_each_run(const RunMask& mask, const Visit& visit) const {
        mask.for_each_filled_row([&](std::size_t row) {
            for (std::size_t run = mask.first(row); run < mask.last(row); ++run) {
                if (labels_[run] != 0) {
                    visit(run, row);
                }
            }
        });
    }

  private:
    /// A connected part of a lesion in one slice; parts without a label belong to no lesion.
    struct Part {
        std::uint32_t end;  ///< one past its last run, among those of all parts
        std::uint32_t label;
        std::uint32_t slice;
    };

    /// Sums of the indices of a lesion's voxels.
    using IndexSums = std::array<std::uint64_t, 3>;

    void label_runs(std::uint32_t components) {
        ranks_.assign(components, 0);
        for (std::uint32_t rank = 0; rank < order_.size(); ++rank) {
            ranks_[order_[rank]] = rank + 1;
        }
        labels_.resize(components_.components().size());
        std::transform(components_.components().begin(), components_.components().end(), labels_.begin(),
                       [this](std::uint32_t component) { return ranks_[component]; });
    }

    void measure(const RunMask& mask) {
        constexpr std::uint32_t most = UINT32_MAX;
        lesions_.assign(order_.size(), Lesion{0, {}, {most, most, most}, {}, {}, {}});
        index_sums_.assign(order_.size(), IndexSums{});
        for_each_run(mask, [&](std::size_t run, std::size_t row) {
            const std::uint32_t lesion = labels_[run] - 1;
            add_run(lesions_[lesion], index_sums_[lesion], row / mask.rows(), row % mask.rows(), mask.runs()[run]);
        });
        for (std::size_t i = 0; i < lesions_.size(); ++i) {
            for (std::size_t axis = 0; axis < 3; ++axis) {
                lesions_[i].centroid[axis] =
                    static_cast<double>(index_sums_[i][axis]) / static_cast<double>(lesions_[i].voxels);
            }
        }
    }

    static void add_run(Lesion& lesion, IndexSums& sums, std::uint64_t slice, std::uint64_t row, Run run) noexcept {
        const std::uint64_t length = std::uint64_t{run.end} - run.begin;
        lesion.voxels += length;
        sums[0] += slice * length;
        sums[1] += row * length;
        sums[2] += (std::uint64_t{run.begin} + run.end - 1) * length / 2;
        const std::uint64_t low[3] = {slice, row, run.begin}, high[3] = {slice + 1, row + 1, run.end};
        for (std::size_t axis = 0; axis < 3; ++axis) {
            lesion.low[axis] = std::min(lesion.low[axis], static_cast<std::uint32_t>(low[axis]));
            lesion.high[axis] = std::max(lesion.high[axis], static_cast<std::uint32_t>(high[axis]));
        }
    }

    /// Places the runs of lesions part by part, those of a part in their order.
    void sort_by_part(const RunMask& mask, std::uint32_t count) {
        parts_.assign(count, Part{0, 0, 0});
        const auto& part_of = part_finder_.components();
        for_each_run(mask, [&](std::size_t run, std::size_t row) {
            Part& part = parts_[part_of[run]];
            part = {part.end + 1, labels_[run], static_cast<std::uint32_t>(row / mask.rows())};
        });
        std::uint32_t start = 0;
        for (Part& part : parts_) {
            start += std::exchange(part.end, start);
        }
        placed_.resize(start);
        for_each_run(mask, [&](std::size_t run, std::size_t row) {
            placed_[parts_[part_of[run]].end++] = {static_cast<std::uint32_t>(row % mask.rows()), mask.runs()[run]};
        });
    }

    ComponentFinder components_;
    ComponentFinder part_finder_;
    DiameterFinder diameters_;
    std::vector<std::uint64_t> voxels_;
    std::vector<std::uint32_t> order_;
    std::vector<std::uint32_t> ranks_;
    std::vector<std::uint32_t> labels_;
    std::vector<Lesion> lesions_;
    std::vector<IndexSums> index_sums_;
    std::vector<ProbabilitySum> sums_;
    std::vector<PlacedRun> placed_;
    std::vector<Part> parts_;
};

}  // namespace tumortrace
