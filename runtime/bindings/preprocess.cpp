// Preprocessing for Python: checks and conversions, no logic.

#include "tumortrace/preprocess.hpp"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "checks.hpp"
#include "half.hpp"
#include "preprocess.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using tumortrace::BatchRange;
using tumortrace::Half;
using tumortrace::Problem;
using tumortrace::VoxelType;

using Voxels = nb::ndarray<nb::numpy, nb::ro, nb::ndim<4>, nb::device::cpu>;
template <typename Value>
using Batch = nb::ndarray<nb::numpy, Value, nb::ndim<4>, nb::c_contig, nb::device::cpu>;
using Pair = std::pair<std::size_t, std::size_t>;
using Statistics = std::tuple<float, float, float, float, float>;

VoxelType voxel_type(nb::dlpack::dtype dtype) {
    const std::pair<nb::dlpack::dtype, VoxelType> types[] = {
        {nb::dtype<std::uint8_t>(), VoxelType::uint8},   {nb::dtype<std::int8_t>(), VoxelType::int8},
        {nb::dtype<std::uint16_t>(), VoxelType::uint16}, {nb::dtype<std::int16_t>(), VoxelType::int16},
        {nb::dtype<std::uint32_t>(), VoxelType::uint32}, {nb::dtype<std::int32_t>(), VoxelType::int32},
        {nb::dtype<std::uint64_t>(), VoxelType::uint64}, {nb::dtype<std::int64_t>(), VoxelType::int64},
        {nb::dtype<float>(), VoxelType::float32},        {nb::dtype<double>(), VoxelType::float64},
    };
    for (const auto& [known, type] : types) {
        if (known == dtype) return type;
    }
    throw nb::type_error("voxels: integers of 8 to 64 bits, float32 or float64 wanted.");
}

tumortrace::Voxels view(const Voxels& voxels) {
    tumortrace::Voxels result{voxels.data(), voxel_type(voxels.dtype()), {}, {}};
    for (std::size_t axis = 0; axis < 4; ++axis) {
        result.shape[axis] = voxels.shape(axis);
        result.strides[axis] = static_cast<std::ptrdiff_t>(voxels.stride(axis));
    }
    return result;
}

const char* name(Problem problem) {
    switch (problem) {
        case Problem::empty:
            return "empty";
        case Problem::too_large:
            return "too-large";
        case Problem::not_finite:
            return "not-finite";
        case Problem::larger_than_grid:
            return "larger-than-grid";
        case Problem::no_foreground:
            return "no-foreground";
        case Problem::one_value:
            return "one-value";
        default:
            return "";
    }
}

tumortrace::Vectors vectors_of(const std::optional<std::string>& wanted) {
    if (!wanted) return tumortrace::widest_vectors();
    const std::pair<const char*, tumortrace::Vectors> names[] = {{"baseline", tumortrace::Vectors::baseline},
                                                                 {"avx2", tumortrace::Vectors::avx2},
                                                                 {"avx512", tumortrace::Vectors::avx512}};
    for (const auto& [known, vectors] : names) {
        if (*wanted == known && tumortrace::has(vectors)) return vectors;
    }
    throw std::invalid_argument("vectors: no " + *wanted + " on this CPU.");
}

/// Holds the voxels of the scan that is open, and lets one thread in at a time. No thread waits for the lock while it
/// holds the interpreter's, for which one that holds the lock may wait.
class Preprocessor {
  public:
    Preprocessor(Pair grid_px, bool resize, bool not_border, double foreground_fraction,
                 std::pair<double, double> clip_percentiles, std::optional<std::size_t> reference,
                 const std::optional<std::string>& vectors, std::size_t threads)
        : grid_{grid_px.first, grid_px.second},
          core_({grid_,
                 resize ? tumortrace::Fit::resize : tumortrace::Fit::pad,
                 {not_border ? tumortrace::Foreground::not_border : tumortrace::Foreground::above_border,
                  foreground_fraction, clip_percentiles.first, clip_percentiles.second},
                 reference},
                vectors_of(vectors), threads) {
        constexpr std::size_t most_px = 4096;
        require(0 < grid_.rows && grid_.rows <= most_px && 0 < grid_.columns && grid_.columns <= most_px,
                "grid_px: 1 to 4096 px wanted.");
        require(0 < foreground_fraction && foreground_fraction < 1, "foreground_fraction: between 0 and 1 wanted.");
        const auto [low, high] = clip_percentiles;
        require(0 <= low && low < high && high <= 100, "clip_percentiles: 0 <= low < high <= 100 wanted.");
        reference_ = reference;
    }

    std::tuple<std::string, std::size_t, std::size_t, double> open(const Voxels& voxels,
                                                                   const std::vector<bool>& replaced) {
        const tumortrace::Voxels stored = view(voxels);
        require(replaced.empty() || replaced.size() == stored.channels(),
                "replaced: one for each of " + std::to_string(stored.channels()) + " channels wanted.");
        require(!reference_ || *reference_ < stored.channels(),
                "voxels have no channel " + std::to_string(reference_.value_or(0)) + ", which is the reference.");
        const nb::gil_scoped_release release;
        const std::lock_guard<std::mutex> lock(mutex_);
        const tumortrace::Opening opening = core_.open(stored, replaced);
        const nb::gil_scoped_acquire acquire;
        voxels_ = opening.problem == Problem::none ? std::optional(voxels) : std::nullopt;
        return {name(opening.problem), opening.channel, opening.not_finite, opening.only_value};
    }

    std::vector<std::optional<Statistics>> statistics() {
        const nb::gil_scoped_release release;
        const std::lock_guard<std::mutex> lock(mutex_);
        std::vector<std::optional<Statistics>> result;
        for (const tumortrace::ChannelPlan& plan : core_.channels()) {
            const auto& [background, low, high, mean, scale] = plan.statistics;
            result.push_back(plan.replaced ? std::nullopt
                                           : std::optional<Statistics>({background, low, high, mean, scale}));
        }
        return result;
    }

    std::tuple<std::vector<bool>, Pair, Pair> coverage() {
        const nb::gil_scoped_release release;
        const std::lock_guard<std::mutex> lock(mutex_);
        require(!core_.channels().empty(), "no scan is open.");
        const auto& [slices, rows, columns] = core_.coverage();
        return {slices, {rows.begin, rows.end}, {columns.begin, columns.end}};
    }

    template <typename Value>
    void write(std::size_t start, std::size_t stop, std::uint16_t context, const Batch<Value>& out) {
        const BatchRange range{start, stop, context};
        const nb::gil_scoped_release release;
        const std::lock_guard<std::mutex> lock(mutex_);
        check(range, out, {stop - start, range.neighbours() * core_.channels().size(), grid_.rows, grid_.columns});
        if constexpr (std::is_same_v<Value, Half>) {
            core_.write_halves(range, &out.data()->bits);
        } else {
            core_.write_floats(range, out.data());
        }
    }

    template <typename Integer>
    void pack(std::size_t start, std::size_t stop, std::uint16_t context, std::size_t block, float scale,
              int zero_point, const Batch<Integer>& out) {
        constexpr int low = std::numeric_limits<Integer>::min(), high = std::numeric_limits<Integer>::max();
        require(block == 1 || block == 2 || block == 4, "block is " + std::to_string(block) + "; 1, 2 or 4 wanted.");
        require(grid_.rows % block == 0 && grid_.columns % block == 0,
                "rows and columns of the grid in multiples of " + std::to_string(block) + " wanted.");
        require(positive(scale), "scale: a positive, finite float32 wanted.");
        require(low <= zero_point && zero_point <= high, "zero_point is " + std::to_string(zero_point) + "; " +
                                                             std::to_string(low) + " to " + std::to_string(high) +
                                                             " wanted.");
        const BatchRange range{start, stop, context};
        const nb::gil_scoped_release release;
        const std::lock_guard<std::mutex> lock(mutex_);
        check(range, out,
              {stop - start, grid_.rows / block, grid_.columns / block,
               range.neighbours() * core_.channels().size() * block * block});
        core_.pack(range, block, {scale, zero_point}, out.data());
    }

  private:
    template <typename Array>
    void check(const BatchRange& range, const Array& out, const std::array<std::size_t, 4>& wanted) const {
        require(!core_.channels().empty(), "no scan is open.");
        require(range.start <= range.stop && range.stop <= core_.slices(),
                "no slices " + std::to_string(range.start) + " to " + std::to_string(range.stop) +
                    "; 0 <= start <= stop <= " + std::to_string(core_.slices()) + " wanted.");
        require(shape_of<4>(out) == wanted,
                "out has shape " + to_string(shape_of<4>(out)) + "; " + to_string(wanted) + " wanted.");
    }

    tumortrace::Size grid_;
    tumortrace::Preprocessor core_;
    std::optional<std::size_t> reference_;
    std::optional<Voxels> voxels_;
    std::mutex mutex_;
};

constexpr const char* write_text =
    R"(Write slices and their neighbours to `out`, to the bit what `network_batch` gives.

Args:
    start: first slice of the batch.
    stop: one past its last slice.
    context: neighbours on each side; beyond the scan's ends the end slice is repeated.
    out: (stop - start, (2 x context + 1) x channels, grid rows, grid columns), float32 or float16, C-contiguous;
        written.

Raises:
    ValueError: no scan is open, the shape of `out` or another value is not as said above.
    TypeError: `out` has another dtype, another number of axes, is not C-contiguous, or read-only.)";

constexpr const char* pack_text =
    R"(Write slices and their neighbours to `out` as integers, to the bit what `pack_batch` makes of the planes.

Args:
    start, stop, context: as `write` takes them.
    block, scale, zero_point: as `pack_batch` takes them.
    out: (stop - start, grid rows / block, grid columns / block, (2 x context + 1) x channels x block x block), int8 or
        uint8, C-contiguous; written.

Raises:
    ValueError: no scan is open, the shape of `out` or another value is not as said above.
    TypeError: `out` has another dtype, another number of axes, is not C-contiguous, or read-only.)";

}  // namespace

void define_preprocess(nb::module_& module) {
    nb::class_<Preprocessor>(module, "Preprocessor",
                             R"(Prepares one scan after the other; its buffers grow to the largest and are used again.

Args:
    grid_px: (rows, columns) of the network's input, 1 to 4096.
    resize: whether slices are scaled onto the grid; else they are padded.
    not_border: whether the foreground is what differs from the border; else what is brighter.
    foreground_fraction: between 0 and 1; see `Preprocessing`.
    clip_percentiles: (low, high), 0 <= low < high <= 100.
    reference: the channel whose copies stand for a missing sequence, or None.
    vectors: "baseline", "avx2" or "avx512"; None for the widest that this CPU has.
    threads: that share the slices when statistics are taken; of 1 to 1024, and sleep in between. Results do not depend
        on it.

Raises:
    ValueError: a value is not as said above.)")
        .def(nb::init<Pair, bool, bool, double, std::pair<double, double>, std::optional<std::size_t>,
                      const std::optional<std::string>&, std::size_t>(),
             nb::kw_only(), "grid_px"_a, "resize"_a, "not_border"_a, "foreground_fraction"_a, "clip_percentiles"_a,
             "reference"_a = nb::none(), "vectors"_a = nb::none(), "threads"_a = 1)
        .def(
            "open", &Preprocessor::open, "voxels"_a.noconvert(), "replaced"_a,
            nb::sig("def open(self, voxels: NDArray[numpy.generic], replaced: list[bool]) -> "
                    "tuple[str, int, int, float]"),
            R"(Take the statistics of a scan. Its voxels are kept, not copied, and must not change until the last batch.

Args:
    voxels: (slices, rows, columns, channels), integers of 8 to 64 bits, float32 or float64, in any memory layout.
    replaced: for each channel, whether it is known to be replaced; empty where nothing is known.

Returns:
    What is wrong: "" for nothing, "empty", "too-large" (2^32 voxels in a channel), "not-finite", "larger-than-grid",
    "no-foreground" or "one-value"; the channel, where it is one's; how many voxels are not finite; and the one value.

Raises:
    ValueError: `replaced` has another length, or `reference` is no channel.
    TypeError: `voxels` has another dtype or another number of axes.)")
        .def(
            "statistics", &Preprocessor::statistics,
            R"(Background, low, high, mean and scale of each channel; None of a replaced one. Empty while no scan is open.)")
        .def("coverage", &Preprocessor::coverage,
             R"(Where the scan that is open has foreground in a channel that is not replaced.

Returns:
    For each slice, whether there is any; the rows, first and one past the last; and the columns.

Raises:
    ValueError: no scan is open.)")
        .def("write", &Preprocessor::write<float>, "start"_a, "stop"_a, "context"_a, "out"_a.noconvert(), write_text)
        .def("write", &Preprocessor::write<Half>, "start"_a, "stop"_a, "context"_a, "out"_a.noconvert(), write_text)
        .def("pack", &Preprocessor::pack<std::int8_t>, "start"_a, "stop"_a, "context"_a, "block"_a, "scale"_a,
             "zero_point"_a, "out"_a.noconvert(), pack_text)
        .def("pack", &Preprocessor::pack<std::uint8_t>, "start"_a, "stop"_a, "context"_a, "block"_a, "scale"_a,
             "zero_point"_a, "out"_a.noconvert(), pack_text);
}
