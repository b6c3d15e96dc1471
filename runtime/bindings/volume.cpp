// Volumes for Python: checks and conversions, no logic.

#include "volume.hpp"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "checks.hpp"
#include "tumortrace/lossless_jpeg.hpp"
#include "tumortrace/volume.hpp"

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

using Samples = nb::ndarray<nb::numpy, std::uint16_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

void decode_lossless_jpeg(const nb::bytes& codestream, const Samples& out) {
    const auto* data = static_cast<const std::uint8_t*>(codestream.data());
    const std::size_t size = codestream.size(), rows = out.shape(0), columns = out.shape(1);
    require(out.size() != 0, "out of shape " + to_string(shape_of<2>(out)) + " is empty.");
    const nb::gil_scoped_release release;
    tumortrace::decode_lossless_jpeg(data, size, rows, columns, out.data());
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
    module.def("decode_lossless_jpeg", &decode_lossless_jpeg, "codestream"_a, "out"_a.noconvert(),
               R"(Write the samples of a grey image in lossless JPEG (ITU-T T.81, annex H) to `out`.

Args:
    codestream: of any predictor and 2 to 16 bits.
    out: (rows, columns) uint16, C-contiguous, of the image's size; written, also where an error is raised.

Raises:
    ValueError: it is not lossless JPEG, in colour, of another size, damaged or incomplete.
    TypeError: `out` has another dtype, another number of axes, is not C-contiguous or read-only.)");
}
