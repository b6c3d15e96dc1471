// The lesions of a scan as runs: what can be made of them when it is asked for.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tumortrace/bitmask.hpp"
#include "tumortrace/contours.hpp"
#include "tumortrace/runs.hpp"

namespace tumortrace {

/// A copy of what a `Postprocessor` found, for after its next scan.
struct LesionRuns {
    VolumeShape shape;
    RunMask mask;
    std::vector<std::uint32_t> labels;  ///< the lesion of every run, from 1 on; 0 for what is none
    bool joined;                        ///< pixels of a slice that share a corner alone belong together

    /// Lengths of background and lesions in turns, background first, through rows and slices; of no voxels where the
    /// first voxel is a lesion's. Their sum is the number of voxels.
    ///
    /// Source: the uncompressed `counts` of COCO's masks (Lin et al. 2014), but with columns running fastest.
    std::vector<std::uint64_t> lengths() const {
        std::vector<std::uint64_t> result;
        std::uint64_t stop = 0;
        mask.for_each_filled_row([&](std::size_t row) {
            for (std::size_t run = mask.first(row); run < mask.last(row); ++run) {
                const std::uint64_t start = std::uint64_t{row} * shape.columns, begin = start + mask.runs()[run].begin;
                if (labels[run] == 0) {
                    continue;
                }
                if (result.empty() || begin != stop) {
                    result.insert(result.end(), {begin - stop, 0});
                }
                stop = start + mask.runs()[run].end;
                result.back() += stop - begin;
            }
        });
        const std::uint64_t voxels = std::uint64_t{shape.slices} * shape.rows * shape.columns;
        if (stop != voxels) {
            result.push_back(voxels - stop);
        }
        return result;
    }

    /// The borders of the lesions in a slice.
    Contours contours(std::size_t slice) const {
        Contours found;
        ContourTracer().trace(mask, slice, joined, [this](std::size_t run) { return labels[run] != 0; }, found);
        return found;
    }
};

}  // namespace tumortrace
