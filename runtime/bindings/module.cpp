// The native core as the Python module tumortrace_runtime._native: checks and conversions, no logic.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>

#include "tumortrace/cpu_features.hpp"
#include "tumortrace/threshold.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using Logits = nb::ndarray<nb::numpy, const float, nb::c_contig, nb::device::cpu>;
using Mask = nb::ndarray<nb::numpy, std::uint8_t, nb::c_contig, nb::device::cpu>;

std::pair<std::size_t, std::size_t> threshold_logits(const Logits& logits, float threshold, const Mask& mask) {
    if (logits.size() != mask.size()) {
        throw std::invalid_argument("mask has " + std::to_string(mask.size()) + " voxels, logits have " +
                                    std::to_string(logits.size()) + "; both must have the same number.");
    }
    const nb::gil_scoped_release release;
    const auto counts = tumortrace::threshold_logits(logits.data(), logits.size(), threshold, mask.data());
    return {counts.foreground, counts.nan};
}

}  // namespace

NB_MODULE(_native, module) {
    module.doc() = "TumorTrace's native core.";

    // Without noconvert(), an array of another dtype or order would be copied, and the copy written.
    module.def("threshold_logits", &threshold_logits, "logits"_a.noconvert(), "threshold"_a, "mask"_a.noconvert(),
               R"(Write 1 to `mask` where a logit is greater than `threshold`, and 0 elsewhere; NaN gives 0.

Args:
    logits: float32, C-contiguous, any shape.
    threshold: the logit that a foreground value exceeds; log(p / (1 - p)) for a probability p.
    mask: uint8, C-contiguous, with as many voxels as `logits`; written.

Returns:
    The number of voxels above the threshold, and the number of NaNs.

Raises:
    ValueError: `mask` and `logits` differ in size.
    TypeError: an array has another dtype, is not C-contiguous, or `mask` is read-only.)");

    module.def("cpu_features", &tumortrace::cpu_features,
               R"(Names, as /proc/cpuinfo spells them, of this CPU's instruction sets that matter to a network.

Among avx2, avx512f, avx512_vnni, avx_vnni, avx512_bf16, amx_int8, amx_bf16 on x86-64, and asimdhp, asimddp, i8mm,
bf16 on aarch64; empty on another architecture.)");
}
