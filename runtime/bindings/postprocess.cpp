// Post-processing for Python: checks and conversions, no logic.

#include "tumortrace/postprocess.hpp"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <mutex>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "checks.hpp"
#include "half.hpp"
#include "memory.hpp"
#include "postprocess.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using tumortrace::Connectivity;
using tumortrace::Half;
using tumortrace::Lesion;
using tumortrace::Measurements;
using tumortrace::VolumeShape;

template <typename Value>
using Volume = nb::ndarray<nb::numpy, const Value, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
template <typename Value>
using Classes = nb::ndarray<nb::numpy, const Value, nb::ndim<4>, nb::c_contig, nb::device::cpu>;
template <typename Value>
using Result = nb::ndarray<nb::numpy, Value, nb::ndim<3>, nb::c_contig>;
using Image = nb::ndarray<nb::numpy, std::uint8_t, nb::ndim<2>, nb::c_contig>;
using Segmentation =
    std::tuple<Result<std::uint8_t>, std::optional<Result<std::uint32_t>>, std::vector<Lesion>, tumortrace::LesionRuns>;
using Temperature = std::optional<float>;
using Pixel = std::optional<std::array<double, 2>>;
using Pair = std::pair<std::size_t, std::size_t>;

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

/// Lets one thread in at a time. No thread waits for the lock while it holds the interpreter's.
class Postprocessor {
  public:
    Postprocessor(float threshold_logit, std::size_t opening_px, std::size_t closing_px, bool fill_holes,
                  std::size_t min_lesion_voxels, int connectivity, std::size_t threads)
        : threshold_(threshold_logit),
          core_(cleaning(opening_px, closing_px, fill_holes, min_lesion_voxels, connectivity), threads) {
        require(!std::isnan(threshold_logit), "threshold_logit is NaN; a number wanted.");
    }

    Segmentation segment_logits(const Volume<float>& logits, Temperature temperature, Pixel pixel_mm, bool labels) {
        return segment(tumortrace::FloatLogits(threshold_), logits, temperature, pixel_mm, labels);
    }

    Segmentation segment_halves(const Volume<Half>& logits, Temperature temperature, Pixel pixel_mm, bool labels) {
        return segment(tumortrace::HalfLogits(threshold_), logits, temperature, pixel_mm, labels);
    }

    template <typename Integer>
    Segmentation segment_integers(const Volume<Integer>& logits, float scale, int zero_point, Temperature temperature,
                                  Pixel pixel_mm, bool labels) {
        constexpr int low = std::numeric_limits<Integer>::min(), high = std::numeric_limits<Integer>::max();
        require(positive(scale), "scale: a positive, finite number wanted.");
        require(low <= zero_point && zero_point <= high, "zero_point is " + std::to_string(zero_point) + "; " +
                                                             std::to_string(low) + " to " + std::to_string(high) +
                                                             " wanted.");
        return segment(tumortrace::QuantisedLogits<Integer>(scale, zero_point, threshold_), logits, temperature,
                       pixel_mm, labels);
    }

    Segmentation segment_classes(const Classes<float>& logits, Pixel pixel_mm, bool labels) {
        require(logits.shape(1) >= 2, "logits have " + std::to_string(logits.shape(1)) + " classes; 2 or more wanted.");
        const VolumeShape shape{logits.shape(0), logits.shape(2), logits.shape(3)};
        return segment(tumortrace::ClassLogits<float>(), logits.data(), shape, measurements({}, pixel_mm), labels,
                       logits.shape(1));
    }

    Segmentation segment_mask(const Volume<std::uint8_t>& mask, Pixel pixel_mm, bool labels) {
        return segment(tumortrace::ByteMask(), mask, {}, pixel_mm, labels);
    }

    void begin(std::size_t slices, Pair scan_px, Pair scaled_px, Pair offset_px, Pair grid_px, Temperature temperature,
               Pixel pixel_mm) {
        const auto size = [](Pair pair) { return tumortrace::Size{pair.first, pair.second}; };
        const Measurements wanted = measurements(temperature, pixel_mm);
        const nb::gil_scoped_release release;
        const std::lock_guard<std::mutex> guard(mutex_);
        core_.begin(slices, {size(scan_px), size(scaled_px), size(offset_px), size(grid_px)}, wanted);
    }

    void add_floats(const Classes<float>& logits) { add_logits(tumortrace::FloatLogits(threshold_), logits); }
    void add_halves(const Classes<Half>& logits) { add_logits(tumortrace::HalfLogits(threshold_), logits); }

    void add_mask(const Volume<std::uint8_t>& mask) {
        add(tumortrace::ByteMask(), {mask.data(), mask.shape(0), 1, {mask.shape(1), mask.shape(2)}});
    }

    void skip(std::size_t slices) {
        const nb::gil_scoped_release release;
        const std::lock_guard<std::mutex> guard(mutex_);
        core_.skip(slices);
    }

    Image provisional(std::size_t slice) {
        tumortrace::Size size{};
        Memory<std::uint8_t> image;
        {
            const nb::gil_scoped_release release;
            const std::lock_guard<std::mutex> guard(mutex_);
            require(slice < core_.added(), "no slice " + std::to_string(slice) + " was added; " +
                                               std::to_string(core_.added()) + " slices are there.");
            size = core_.placement().scan;
            image = zeros<std::uint8_t>(size.rows * size.columns);
            core_.paint_slice(slice, image.get());
        }
        return own<Image>(std::move(image), {size.rows, size.columns});
    }

    Segmentation finish(bool labels) {
        return result([&] { core_.finish(); }, labels);
    }

  private:
    static void refuse_nan(std::size_t nan) {
        require(nan == 0, std::to_string(nan) + " values are NaN; the model or its input is damaged.");
    }

    template <typename Kind>
    void add(const Kind& kind, const tumortrace::Output<typename Kind::Value>& output) {
        const nb::gil_scoped_release release;
        const std::lock_guard<std::mutex> guard(mutex_);
        refuse_nan(core_.add(kind, output));
    }

    template <typename Kind>
    void add_logits(const Kind& one_class, const Classes<typename Kind::Value>& logits) {
        const auto [slices, classes, rows, columns] = shape_of<4>(logits);
        require(classes != 0, "logits of no class; 1 or more wanted.");
        const tumortrace::Output<typename Kind::Value> output{logits.data(), slices, classes, {rows, columns}};
        if (classes == 1) {
            add(one_class, output);
        } else {
            add(tumortrace::ClassLogits<typename Kind::Value>(), output);
        }
    }

    template <typename Kind>
    Segmentation segment(const Kind& kind, const Volume<typename Kind::Value>& volume, const Temperature& temperature,
                         const Pixel& pixel_mm, bool labels) {
        const VolumeShape shape{volume.shape(0), volume.shape(1), volume.shape(2)};
        return segment(kind, volume.data(), shape, measurements(temperature, pixel_mm), labels, 1);
    }

    template <typename Kind>
    Segmentation segment(const Kind& kind, const typename Kind::Value* values, const VolumeShape& shape,
                         const Measurements& wanted, bool labels, std::size_t classes) {
        return result([&] { refuse_nan(core_.segment(kind, values, shape, wanted, classes)); }, labels);
    }

    /// What there is after `work`, which finishes a scan.
    template <typename Work>
    Segmentation result(const Work& work, bool labels) {
        VolumeShape shape{};
        Memory<std::uint8_t> mask;
        Memory<std::uint32_t> lesion_of;
        std::vector<Lesion> lesions;
        std::optional<tumortrace::LesionRuns> runs;
        {
            const nb::gil_scoped_release release;
            const std::lock_guard<std::mutex> guard(mutex_);
            work();
            shape = core_.shape();
            const std::size_t voxels = shape.slices * shape.rows * shape.columns;
            mask = zeros<std::uint8_t>(voxels);
            core_.paint_mask(mask.get());
            if (labels) {
                lesion_of = zeros<std::uint32_t>(voxels);
                core_.paint_labels(lesion_of.get());
            }
            lesions = core_.lesions();
            runs = core_.runs();
        }
        const auto extents = {shape.slices, shape.rows, shape.columns};
        Segmentation result{own<Result<std::uint8_t>>(std::move(mask), extents), std::nullopt, std::move(lesions),
                            std::move(*runs)};
        if (labels) {
            std::get<1>(result) = own<Result<std::uint32_t>>(std::move(lesion_of), extents);
        }
        return result;
    }

    float threshold_;
    tumortrace::Postprocessor core_;
    std::mutex mutex_;
};

constexpr const char* returned = R"(

Returns:
    The mask, uint8; the lesion of every voxel, uint32, 1 for the first and 0 for none, or None; the lesions, the largest
    first, of equal ones that whose first voxel comes first; and their runs of voxels.)";

std::string documented(const std::string& text) { return text + returned; }

}  // namespace

void define_postprocess(nb::module_& module) {
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
    threads: that share the slices of every call; of 1 to 1024, and sleep in between. Results do not depend on it.

Raises:
    ValueError: the threshold is NaN, `connectivity` is another number, or there are not so many threads.
    TypeError: a number is negative.)")
        .def(nb::init<float, std::size_t, std::size_t, bool, std::size_t, int, std::size_t>(), nb::kw_only(),
             "threshold_logit"_a, "opening_px"_a = 0, "closing_px"_a = 0, "fill_holes"_a = false,
             "min_lesion_voxels"_a = 0, "connectivity"_a = 26, "threads"_a = 1)
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
                 .c_str())
        .def("begin", &Postprocessor::begin, "slices"_a, "scan_px"_a, "scaled_px"_a, "offset_px"_a, "grid_px"_a,
             nb::kw_only(), "temperature"_a = nb::none(), "pixel_mm"_a = nb::none(),
             R"(Begin a scan whose slices are added as the network gives them; of each, its cleaned runs alone are kept.

After an error there is no scan until the next one is begun.

Args:
    slices: how many it has.
    scan_px: (rows, columns) of its slices.
    scaled_px: their size on the network's grid.
    offset_px: their top left corner there.
    grid_px: size of the grid.
    temperature: what logits are divided by for confidence; None for none.
    pixel_mm: height and width of a pixel, for diameters; None for none.

Raises:
    ValueError: an extent of the scan is 0 or above 65535, it has more than 2^32 voxels, its slices do not lie on the
        grid, or a number is not positive.
    TypeError: a number is negative.)")
        .def("add", &Postprocessor::add_floats, "output"_a.noconvert())
        .def("add", &Postprocessor::add_halves, "output"_a.noconvert())
        .def("add", &Postprocessor::add_mask, "output"_a.noconvert(),
             R"(Add the next slices, which are read where they are and not kept.

Args:
    output: logits (n, classes, grid rows, grid columns) float32 or float16, of one class or with the background's
        first; or a mask (n, grid rows, grid columns) uint8, not 0 for foreground. C-contiguous. Logits are resampled
        where slices have another size on the grid.

Raises:
    ValueError: no scan is begun, there are more slices than begun, the grid has another size, a value is NaN, a mask
        would have to be resampled, or confidence is asked for of what is no logits of one class.
    TypeError: the array has another dtype, another number of axes, or is not C-contiguous.)")
        .def("skip", &Postprocessor::skip, "slices"_a,
             R"(Add slices of background.

Raises:
    ValueError: no scan is begun, or there are more slices than begun.
    TypeError: the number is negative.)")
        .def("provisional", &Postprocessor::provisional, "slice"_a,
             R"(The mask of a slice that was added, (rows, columns) uint8: cleaned, no component of the scan removed.

Raises:
    ValueError: no such slice was added.
    TypeError: the number is negative.)")
        .def("finish", &Postprocessor::finish, nb::kw_only(), "labels"_a = false,
             documented(R"(Find and measure the lesions of the scan whose slices were added.

Args:
    labels: whether the lesion of every voxel is wanted.

Raises:
    ValueError: no scan is begun, or slices are missing.)")
                 .c_str());
}
