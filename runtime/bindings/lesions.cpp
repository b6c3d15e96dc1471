// Lesions for Python: their measurements, runs and contours.

#include "tumortrace/lesions.hpp"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "checks.hpp"
#include "memory.hpp"
#include "postprocess.hpp"
#include "tumortrace/contours.hpp"
#include "tumortrace/lesion_runs.hpp"
#include "tumortrace/postprocess.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using tumortrace::Contours;
using tumortrace::Diameters;
using tumortrace::Lesion;
using tumortrace::LesionRuns;

using Image = nb::ndarray<nb::numpy, const std::uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Corners = nb::ndarray<nb::numpy, std::int32_t, nb::shape<-1, 2>, nb::c_contig>;
using Lengths = nb::ndarray<nb::numpy, std::int64_t, nb::ndim<1>, nb::c_contig>;

template <typename Value>
std::tuple<Value, Value, Value> tuple(const std::array<Value, 3>& index) {
    return {index[0], index[1], index[2]};
}

using Ends = std::tuple<std::tuple<double, double>, std::tuple<double, double>>;

Ends tuple(const std::array<tumortrace::Point, 2>& ends) {
    return {{ends[0][0], ends[0][1]}, {ends[1][0], ends[1][1]}};
}

void define_measurements(nb::module_& module) {
    nb::class_<Diameters>(module, "Diameters", "A lesion's longest diameter in a slice, and the longest across it.")
        .def_ro("slice", &Diameters::slice)
        .def_ro("longest_mm", &Diameters::longest)
        .def_ro("perpendicular_mm", &Diameters::perpendicular)
        .def_prop_ro(
            "ends", [](const Diameters& each) { return tuple(each.ends); }, "(row, column) of the longest's ends.")
        .def_prop_ro(
            "perpendicular_ends", [](const Diameters& each) { return tuple(each.perpendicular_ends); },
            "(row, column) of the other's ends.");
    nb::class_<Lesion>(module, "Lesion", "One connected component; indices are (slice, row, column).")
        .def_ro("voxels", &Lesion::voxels)
        .def_prop_ro(
            "centroid", [](const Lesion& lesion) { return tuple(lesion.centroid); }, "Mean index.")
        .def_prop_ro(
            "low", [](const Lesion& lesion) { return tuple(lesion.low); }, "Least index inside.")
        .def_prop_ro(
            "high", [](const Lesion& lesion) { return tuple(lesion.high); }, "Greatest index inside, plus one.")
        .def_prop_ro(
            "confidence",
            [](const Lesion& lesion) {
                return lesion.confidence ? std::optional<double>(lesion.confidence->mean) : std::nullopt;
            },
            "Mean probability of its voxels, or None where none was asked for.")
        .def_prop_ro(
            "highest_confidence",
            [](const Lesion& lesion) {
                return lesion.confidence ? std::optional<float>(lesion.confidence->highest) : std::nullopt;
            },
            "Greatest probability of its voxels, or None where none was asked for.")
        .def_ro("diameters", &Lesion::diameters, "None where none were asked for.");
}

/// The corners of every border.
std::vector<Corners> arrays(const Contours& contours) {
    std::vector<Corners> result;
    std::size_t start = 0;
    for (const Contours::Border& border : contours.borders) {
        const std::size_t count = border.end - start;
        Memory<std::int32_t> corners = zeros<std::int32_t>(2 * count);
        for (std::size_t i = 0; i < count; ++i) {
            std::copy_n(contours.corners[start + i].data(), 2, corners.get() + 2 * i);
        }
        result.push_back(own<Corners>(std::move(corners), {count, 2}));
        start = border.end;
    }
    return result;
}

std::vector<Corners> mask_contours(const Image& mask) {
    tumortrace::check_shape({1, mask.shape(0), mask.shape(1)});
    Contours found;
    {
        const nb::gil_scoped_release release;
        found = tumortrace::mask_contours(mask.data(), mask.shape(0), mask.shape(1));
    }
    return arrays(found);
}

std::vector<std::tuple<std::uint32_t, bool, Corners>> contours(const LesionRuns& runs, std::size_t slice) {
    require(slice < runs.shape.slices,
            "no slice " + std::to_string(slice) + "; the scan has " + std::to_string(runs.shape.slices) + ".");
    const Contours found = runs.contours(slice);
    std::vector<std::tuple<std::uint32_t, bool, Corners>> result;
    std::vector<Corners> corners = arrays(found);
    for (std::size_t i = 0; i < corners.size(); ++i) {
        const Contours::Border& border = found.borders[i];
        result.emplace_back(runs.labels[border.run], border.hole, std::move(corners[i]));
    }
    return result;
}

Lengths lengths(const LesionRuns& runs) {
    const std::vector<std::uint64_t> found = runs.lengths();
    Memory<std::int64_t> memory = zeros<std::int64_t>(found.size());
    std::copy(found.begin(), found.end(), memory.get());
    return own<Lengths>(std::move(memory), {found.size()});
}

using State = std::tuple<std::array<std::size_t, 3>, nb::bytes, nb::bytes, nb::bytes, bool>;

template <typename Value>
nb::bytes to_bytes(const std::vector<Value>& values) {
    return nb::bytes(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(Value));
}

template <typename Value>
std::vector<Value> from_bytes(const nb::bytes& bytes) {
    std::vector<Value> values(bytes.size() / sizeof(Value));
    std::memcpy(values.data(), bytes.c_str(), values.size() * sizeof(Value));
    return values;
}

State state(const LesionRuns& runs) {
    const auto& [slices, rows, columns] = runs.shape;
    return {{slices, rows, columns},
            to_bytes(runs.mask.runs()),
            to_bytes(runs.mask.row_ends()),
            to_bytes(runs.labels),
            runs.joined};
}

LesionRuns restored(const State& state) {
    const auto& [extents, runs, row_ends, labels, joined] = state;
    const auto& [slices, rows, columns] = extents;
    return {{slices, rows, columns},
            tumortrace::RunMask(rows, columns, from_bytes<tumortrace::Run>(runs), from_bytes<std::uint32_t>(row_ends)),
            from_bytes<std::uint32_t>(labels),
            joined};
}

}  // namespace

void define_lesions(nb::module_& module) {
    define_measurements(module);
    nb::class_<LesionRuns>(module, "LesionRuns", "The lesions of one scan as runs of voxels.")
        .def("contours", &contours, "slice"_a,
             R"(The borders of the lesions in a slice: for each, whose, whether it goes around a hole, and its corners.

Returns:
    Of each border the lesion, 1 for the first; whether it is a hole's; and (n, 2) int32, as `mask_contours` gives them.

Raises:
    ValueError: the scan has no such slice.
    TypeError: the number is negative.)")
        .def("__getstate__", &state)
        .def("__setstate__", [](LesionRuns& runs, const State& state) { new (&runs) LesionRuns(restored(state)); })
        .def("lengths", &lengths,
             R"(Lengths of background and lesions in turns, background first, columns running fastest; (n,) int64.)");
    module.def("mask_contours", &mask_contours, "mask"_a.noconvert(),
               R"(The borders of a mask as polygons, of lesions clockwise and of holes counter-clockwise.

Args:
    mask: (rows, columns) uint8, C-contiguous; not 0 is mask. Pixels that share a corner belong together.

Returns:
    For each border its corners, (n, 2) int32 (row, column), the last joined to the first; pixel (r, c) lies between
    corners (r, c) and (r + 1, c + 1).

Raises:
    ValueError: an extent is 0 or above 65535.
    TypeError: the array has another dtype, another number of axes, or is not C-contiguous.)");
}
