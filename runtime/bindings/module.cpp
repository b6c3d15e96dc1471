// The native core as the Python module tumortrace_runtime._native: checks and conversions, no logic.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>

#include "checks.hpp"
#include "postprocess.hpp"
#include "preprocess.hpp"
#include "tumortrace/cpu_features.hpp"
#include "tumortrace/pack.hpp"
#include "volume.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using Planes = nb::ndarray<nb::numpy, const float, nb::ndim<4>, nb::c_contig, nb::device::cpu>;
template <typename Integer>
using Batch = nb::ndarray<nb::numpy, Integer, nb::ndim<4>, nb::c_contig, nb::device::cpu>;
using Extents = std::array<std::size_t, 4>;

void check_planes(const Extents& planes, const tumortrace::BatchRange& range, std::size_t block) {
    const std::string given = "planes of shape " + to_string(planes);
    require(planes[0] * planes[1] * planes[2] * planes[3] != 0, given + " are empty.");
    require(range.start <= range.stop && range.stop <= planes[0],
            given + " have no slices " + std::to_string(range.start) + " to " + std::to_string(range.stop) +
                "; 0 <= start <= stop <= " + std::to_string(planes[0]) + " wanted.");
    require(block == 1 || block == 2 || block == 4, "block is " + std::to_string(block) + "; 1, 2 or 4 wanted.");
    require(planes[2] % block == 0 && planes[3] % block == 0,
            given + "; rows and columns in multiples of " + std::to_string(block) + " wanted.");
}

template <typename Integer>
void check_quantisation(tumortrace::Quantisation by) {
    constexpr int low = std::numeric_limits<Integer>::min();
    constexpr int high = std::numeric_limits<Integer>::max();
    require(positive(by.scale), "scale is " + std::to_string(by.scale) + " as float32; a positive, finite one wanted.");
    require(low <= by.zero_point && by.zero_point <= high, "zero_point is " + std::to_string(by.zero_point) + "; " +
                                                               std::to_string(low) + " to " + std::to_string(high) +
                                                               " wanted.");
}

// With 16 bits of context, no extent that fits into memory makes a product overflow.
template <typename Integer>
void pack_batch(const Planes& planes, std::size_t start, std::size_t stop, std::uint16_t context, std::size_t block,
                float scale, int zero_point, const Batch<Integer>& out) {
    const Extents shape = shape_of<4>(planes);
    const tumortrace::BatchRange range{start, stop, context};
    const tumortrace::Quantisation by{scale, zero_point};
    check_planes(shape, range, block);
    check_quantisation<Integer>(by);
    const Extents wanted{stop - start, shape[2] / block, shape[3] / block,
                         (2 * range.context + 1) * shape[1] * block * block};
    require(shape_of<4>(out) == wanted,
            "out has shape " + to_string(shape_of<4>(out)) + "; " + to_string(wanted) + " wanted.");
    const nb::gil_scoped_release release;
    tumortrace::pack_batch(planes.data(), {shape[0], shape[1], shape[2], shape[3]}, range, block, by, out.data());
}

template <typename Integer>
void define_pack_batch(nb::module_& module) {
    module.def("pack_batch", &pack_batch<Integer>, "planes"_a.noconvert(), "start"_a, "stop"_a, "context"_a, "block"_a,
               "scale"_a, "zero_point"_a, "out"_a.noconvert(),
               R"(Write slices and their neighbours to `out` as a network takes them that begins with integers.

An integer is clamp(round(plane / scale + dither) + zero_point), ties to even, quotient and sum in float32, the dither as
preprocess/README.md defines it; NaN gives the lowest.
The channels of `out` are those of `network_batch` after space to depth: (neighbour, channel, row in the block, column
in the block), the last one running fastest.

Args:
    planes: (slices, channels, rows, columns) float32, C-contiguous.
    start: first slice of the batch.
    stop: one past its last slice.
    context: neighbours on each side; beyond the scan's ends the end slice is repeated.
    block: 1, 2 or 4; divides rows and columns.
    scale: positive; rounded to float32.
    zero_point: the integer that 0.0 becomes.
    out: (stop - start, rows / block, columns / block, (2 x context + 1) x channels x block x block), int8 or uint8,
        C-contiguous; written.

Raises:
    ValueError: the shape of `out` or another value is not as said above.
    TypeError: an array has another dtype, another number of axes, is not C-contiguous, or `out` is read-only; start,
        stop, context or block is negative, or context above 65535.)");
}

}  // namespace

NB_MODULE(_native, module) {
    module.doc() = "TumorTrace's native core.";

    define_pack_batch<std::int8_t>(module);
    define_pack_batch<std::uint8_t>(module);
    define_preprocess(module);
    define_lesions(module);
    define_postprocess(module);
    define_volume(module);

    module.def("cpu_features", &tumortrace::cpu_features,
               R"(Names, as /proc/cpuinfo spells them, of this CPU's instruction sets that matter to a network.

Among avx2, avx512f, avx512_vnni, avx_vnni, avx512_bf16, amx_int8, amx_bf16 on x86-64, and asimdhp, asimddp, i8mm,
bf16 on aarch64; empty on another architecture.)");
}
