// Volumes for Python: checks and conversions, no logic.

#include "tumortrace/volume.hpp"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>

#include <cstddef>
#include <string>

#include "checks.hpp"
#include "volume.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using Source = nb::ndarray<nb::numpy, const float, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using Result = nb::ndarray<nb::numpy, float, nb::ndim<3>, nb::c_contig, nb::device::cpu>;

std::size_t resample_volume(const Source& source, const tumortrace::IndexMap& map, const Result& out,
                            std::size_t threads) {
    const auto source_shape = shape_of<3>(source), shape = shape_of<3>(out);
    require(source.size() != 0, "source of shape " + to_string(source_shape) + " is empty.");
    const nb::gil_scoped_release release;
    tumortrace::ThreadPool pool(threads);
    return tumortrace::resample_volume(source.data(), source_shape, map, out.data(), shape, pool);
}

}  // namespace

void define_volume(nb::module_& module) {
    module.def("resample_volume", &resample_volume, "source"_a.noconvert(), "map"_a, "out"_a.noconvert(),
               "threads"_a = 1,
               R"(Write what a volume holds at the voxel centres of another grid to `out`, by trilinear interpolation.

Up to half a voxel beyond the outermost centres they stand for what is there; further out, and where a position is NaN,
`out` becomes 0.

Args:
    source: (slices, rows, columns) float32, C-contiguous, finite.
    map: 3 rows of 4: positions in the source, (slice, row, column), of (slice, row, column, 1) in `out`.
    out: (slices, rows, columns) float32, C-contiguous; written.
    threads: 1 to 1024.

Returns:
    How many voxels of `out` lie in one of the source.

Raises:
    ValueError: the source is empty, or there are not that many threads.
    TypeError: an array has another dtype, another number of axes, or is not C-contiguous, or `out` is read-only.)");
}
