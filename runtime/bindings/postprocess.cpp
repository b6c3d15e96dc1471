// Post-processing for Python: checks and conversions, no logic.

#include "tumortrace/postprocess.hpp"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <mutex>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "postprocess.hpp"

namespace nb = nanobind;
using namespace nb::literals;

template <>
struct nanobind::detail::dtype_traits<tumortrace::Half> {
    static constexpr dlpack::dtype value{static_cast<std::uint8_t>(dlpack::dtype_code::Float), 16, 1};
    static constexpr auto name = const_name("float16");
};

namespace {

using tumortrace::Connectivity;
using tumortrace::Diameters;
using tumortrace::Lesion;
using tumortrace::Measurements;
using tumortrace::VolumeShape;

template <typename Value>
using Volume = nb::ndarray<nb::numpy, const Value, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using Classes = nb::ndarray<nb::numpy, const float, nb::ndim<4>, nb::c_contig, nb::device::cpu>;
template <typename Value>
using Result = nb::ndarray<nb::numpy, Value, nb::ndim<3>, nb::c_contig>;
using Segmentation = std::tuple<Result<std::uint8_t>, std::optional<Result<std::uint32_t>>, std::vector<Lesion>>;
using Temperature = std::optional<float>;
using Pixel = std::optional<std::array<double, 2>>;

void require(bool condition, const std::string& problem) {
    if (!condition) throw std::invalid_argument(problem);
}

bool positive(double value) { return std::isfinite(value) && value > 0; }

Measurements measurements(const Temperature& temperature, const Pixel& pixel_mm) {
    require(!temperature || positive(*temperature), "temperature: a positive, finite number wanted.");
    require(!pixel_mm || (positive((*pixel_mm)[0]) && positive((*pixel_mm)[1])),
            "pixel_mm: positive, finite numbers wanted.");
    return {temperature, pixel_mm};
}

tumortrace::Cleaning cleaning(std::size_t opening_px, std::size_t closing_px, bool fill_holes,
                              std::size_t min_lesion_voxels, int connectivity) {
    require(connectivity == 6 || connectivity == 18 || connectivity == 26,
            "connectivity is " + std::to_string(connectivity) + "; 6, 18 or 26 wanted.");
    return {opening_px, closing_px, fill_holes, min_lesion_voxels, static_cast<Connectivity>(connectivity)};
}

/// Zeros, of which only pages that are written to take up memory.
template <typename Value>
Result<Value> zeros(const VolumeShape& shape) {
    void* const data = std::calloc(shape.slices * shape.rows * shape.columns, sizeof(Value));
    if (data == nullptr) throw std::bad_alloc();
    const nb::capsule owner(data, [](void* memory) noexcept { std::free(memory); });
    return Result<Value>(static_cast<Value*>(data), {shape.slices, shape.rows, shape.columns}, owner);
}

class Postprocessor {
  public:
    Postprocessor(float threshold_logit, std::size_t opening_px, std::size_t closing_px, bool fill_holes,
                  std::size_t min_lesion_voxels, int connectivity)
        : threshold_(threshold_logit),
          core_(cleaning(opening_px, closing_px, fill_holes, min_lesion_voxels, connectivity)) {
        require(!std::isnan(threshold_logit), "threshold_logit is NaN; a number wanted.");
    }

    Segmentation segment_logits(const Volume<float>& logits, Temperature temperature, Pixel pixel_mm, bool labels) {
        return segment(tumortrace::FloatLogits(logits.data(), threshold_), shape_of(logits), temperature, pixel_mm,
                       labels);
    }

    Segmentation segment_halves(const Volume<tumortrace::Half>& logits, Temperature temperature, Pixel pixel_mm,
                                bool labels) {
        return segment(tumortrace::HalfLogits(logits.data(), threshold_), shape_of(logits), temperature, pixel_mm,
                       labels);
    }

    template <typename Integer>
    Segmentation segment_integers(const Volume<Integer>& logits, float scale, int zero_point, Temperature temperature,
                                  Pixel pixel_mm, bool labels) {
        constexpr int low = std::numeric_limits<Integer>::min(), high = std::numeric_limits<Integer>::max();
        require(positive(scale), "scale: a positive, finite number wanted.");
        require(low <= zero_point && zero_point <= high, "zero_point is " + std::to_string(zero_point) + "; " +
                                                             std::to_string(low) + " to " + std::to_string(high) +
                                                             " wanted.");
        return segment(tumortrace::QuantisedLogits<Integer>(logits.data(), scale, zero_point, threshold_),
                       shape_of(logits), temperature, pixel_mm, labels);
    }

    Segmentation segment_classes(const Classes& logits, Pixel pixel_mm, bool labels) {
        require(logits.shape(1) >= 2, "logits have " + std::to_string(logits.shape(1)) + " classes; 2 or more wanted.");
        const VolumeShape shape{logits.shape(0), logits.shape(2), logits.shape(3)};
        return segment(tumortrace::ClassLogits(logits.data(), logits.shape(1), shape.rows, shape.columns), shape, {},
                       pixel_mm, labels);
    }

    Segmentation segment_mask(const Volume<std::uint8_t>& mask, Pixel pixel_mm, bool labels) {
        return segment(tumortrace::ByteMask(mask.data()), shape_of(mask), {}, pixel_mm, labels);
    }

  private:
    template <typename Array>
    static VolumeShape shape_of(const Array& array) {
        return {array.shape(0), array.shape(1), array.shape(2)};
    }

    template <typename Source>
    Segmentation segment(const Source& source, const VolumeShape& shape, const Temperature& temperature,
                         const Pixel& pixel_mm, bool labels) {
        const Measurements wanted = measurements(temperature, pixel_mm);
        tumortrace::check_shape(shape);
        Segmentation result{zeros<std::uint8_t>(shape), std::nullopt, {}};
        if (labels) {
            std::get<1>(result) = zeros<std::uint32_t>(shape);
        }
        const nb::gil_scoped_release release;
        const std::lock_guard<std::mutex> guard(mutex_);
        const std::size_t nan = core_.segment(source, shape, wanted);
        require(nan == 0, std::to_string(nan) + " values are NaN; the model or its input is damaged.");
        core_.paint_mask(std::get<0>(result).data());
        if (labels) {
            core_.paint_labels(std::get<1>(result)->data());
        }
        std::get<2>(result) = core_.lesions();
        return result;
    }

    float threshold_;
    tumortrace::Postprocessor core_;
    std::mutex mutex_;
};

constexpr const char* returned = R"(

Returns:
    The mask, uint8; the lesion of every voxel, uint32, 1 for the first and 0 for none, or None; and the lesions, the
    largest first, of equal ones that whose first voxel comes first.)";

std::string documented(const std::string& text) { return text + returned; }

template <typename Value>
std::tuple<Value, Value, Value> tuple(const std::array<Value, 3>& index) {
    return {index[0], index[1], index[2]};
}

using Ends = std::tuple<std::tuple<double, double>, std::tuple<double, double>>;

Ends tuple(const std::array<tumortrace::Point, 2>& ends) {
    return {{ends[0][0], ends[0][1]}, {ends[1][0], ends[1][1]}};
}

void define_results(nb::module_& module) {
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

}  // namespace

void define_postprocess(nb::module_& module) {
    define_results(module);
    // Without noconvert(), an array of another dtype or order would be copied.
    nb::class_<Postprocessor>(
        module, "Postprocessor",
        R"(From what a network gives to labelled lesions, as `postprocess.py` and `lesions.py` define it.

One scan at a time, in buffers that are used again; threads wait for each other.

Args:
    threshold_logit: what a foreground logit exceeds.
    opening_px: radius of the disk that opens each slice; 0 for none.
    closing_px: radius of the disk that closes each slice; 0 for none.
    fill_holes: whether holes in each slice are filled.
    min_lesion_voxels: components of fewer voxels are removed.
    connectivity: 6, 18 or 26.

Raises:
    ValueError: the threshold is NaN, or `connectivity` is another number.
    TypeError: a number is negative.)")
        .def(nb::init<float, std::size_t, std::size_t, bool, std::size_t, int>(), nb::kw_only(), "threshold_logit"_a,
             "opening_px"_a = 0, "closing_px"_a = 0, "fill_holes"_a = false, "min_lesion_voxels"_a = 0,
             "connectivity"_a = 26)
        .def("segment_logits", &Postprocessor::segment_logits, "logits"_a.noconvert(), nb::kw_only(),
             "temperature"_a = nb::none(), "pixel_mm"_a = nb::none(), "labels"_a = false)
        .def("segment_logits", &Postprocessor::segment_halves, "logits"_a.noconvert(), nb::kw_only(),
             "temperature"_a = nb::none(), "pixel_mm"_a = nb::none(), "labels"_a = false,
             documented(R"(Segment a scan whose logits of one class are given.

Args:
    logits: (slices, rows, columns) float32 or float16, C-contiguous.
    temperature: what logits are divided by for confidence; None for none.
    pixel_mm: height and width of a pixel, for diameters; None for none.
    labels: whether the lesion of every voxel is wanted.

Raises:
    ValueError: an extent is 0 or above 65535, there are more than 2^32 voxels, a value is NaN, or a number is not
        positive.
    TypeError: the array has another dtype, another number of axes, or is not C-contiguous.)")
                 .c_str())
        .def("segment_quantised", &Postprocessor::segment_integers<std::int8_t>, "logits"_a.noconvert(), "scale"_a,
             "zero_point"_a, nb::kw_only(), "temperature"_a = nb::none(), "pixel_mm"_a = nb::none(), "labels"_a = false)
        .def("segment_quantised", &Postprocessor::segment_integers<std::uint8_t>, "logits"_a.noconvert(), "scale"_a,
             "zero_point"_a, nb::kw_only(), "temperature"_a = nb::none(), "pixel_mm"_a = nb::none(), "labels"_a = false,
             documented(R"(Segment a scan whose logits are integers: (integer - zero_point) x scale in float32.

`logits` are int8 or uint8; all else is as for `segment_logits`.)")
                 .c_str())
        .def("segment_classes", &Postprocessor::segment_classes, "logits"_a.noconvert(), nb::kw_only(),
             "pixel_mm"_a = nb::none(), "labels"_a = false,
             documented(R"(Segment a scan whose logits of several classes are given.

Foreground is where another class than the first, the background, has the greatest logit; of equal ones the first class
counts. `logits` are (slices, classes, rows, columns) float32; all else is as for `segment_logits`.)")
                 .c_str())
        .def("segment_mask", &Postprocessor::segment_mask, "mask"_a.noconvert(), nb::kw_only(),
             "pixel_mm"_a = nb::none(), "labels"_a = false,
             documented(R"(Clean and measure a mask that is given, (slices, rows, columns) uint8; not 0 is foreground.

All else is as for `segment_logits`.)")
                 .c_str());
}
