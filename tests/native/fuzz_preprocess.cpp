// Preprocessing of scans of any type, shape, memory layout and values, against a plain reading of its definition.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "fuzz_input.hpp"
#include "tumortrace/preprocess.hpp"

namespace {

using tumortrace::ChannelStatistics;
using tumortrace::Fit;
using tumortrace::Foreground;
using tumortrace::PreprocessingSpec;
using tumortrace::Preprocessor;
using tumortrace::Problem;
using tumortrace::StatisticsRule;
using tumortrace::Vectors;
using tumortrace::Voxels;
using tumortrace::VoxelType;

/// Long double holds the values of all types.
using Value = long double;

template <typename Stored>
Value read(const void* memory, std::ptrdiff_t index) {
    return static_cast<Value>(static_cast<const Stored*>(memory)[index]);
}

Value read(VoxelType type, const void* memory, std::ptrdiff_t index) {
    constexpr decltype(&read<float>) readers[] = {
        read<std::uint8_t>, read<std::int8_t>,   read<std::uint16_t>, read<std::int16_t>, read<std::uint32_t>,
        read<std::int32_t>, read<std::uint64_t>, read<std::int64_t>,  read<float>,        read<double>};
    return readers[static_cast<std::size_t>(type)](memory, index);
}

/// A scan in memory of exactly the size that its strides reach over.
struct Scan {
    Voxels voxels;
    std::vector<std::uint8_t> memory;

    Value at(std::size_t slice, std::size_t row, std::size_t column, std::size_t channel) const {
        const std::array<std::size_t, 4> index{slice, row, column, channel};
        std::ptrdiff_t offset = 0;
        for (std::size_t axis = 0; axis < 4; ++axis) {
            offset += static_cast<std::ptrdiff_t>(index[axis]) * voxels.strides[axis];
        }
        return read(voxels.type, voxels.data, offset);
    }

    /// The voxels of a channel, in order.
    std::vector<Value> channel(std::size_t number) const {
        std::vector<Value> values;
        for (std::size_t slice = 0; slice < voxels.slices(); ++slice) {
            for (std::size_t row = 0; row < voxels.rows(); ++row) {
                for (std::size_t column = 0; column < voxels.columns(); ++column) {
                    values.push_back(at(slice, row, column, number));
                }
            }
        }
        return values;
    }
};

/// Strides that leave gaps, run backwards, repeat an axis, or overlap.
std::array<std::ptrdiff_t, 4> take_strides(FuzzInput& input, const std::array<std::size_t, 4>& shape) {
    std::array<std::size_t, 4> axes{3, 2, 1, 0};
    for (std::size_t turn = input.below(24); turn > 0; --turn) std::next_permutation(axes.begin(), axes.end());
    std::array<std::ptrdiff_t, 4> strides{};
    std::ptrdiff_t dense = 1;
    for (const std::size_t axis : axes) {
        const bool backwards = input.flag();
        switch (input.below(4)) {
            case 0:
                strides[axis] = input.between<std::ptrdiff_t>(0, 3);
                break;
            case 1:
                dense += input.between<std::ptrdiff_t>(0, 3);
                [[fallthrough]];
            default:
                strides[axis] = dense;
                dense *= static_cast<std::ptrdiff_t>(shape[axis]);
        }
        if (backwards) strides[axis] = -strides[axis];
    }
    return strides;
}

template <typename Element>
std::vector<std::uint8_t> take_memory(FuzzInput& input, std::size_t count) {
    std::vector<Element> elements(count);
    fill(elements, input);
    std::vector<std::uint8_t> memory(count * sizeof(Element));
    if (count != 0) std::memcpy(memory.data(), elements.data(), memory.size());
    return memory;
}

std::vector<std::uint8_t> take_memory(FuzzInput& input, std::size_t count, std::size_t size_bytes) {
    switch (size_bytes) {
        case 1:
            return take_memory<std::uint8_t>(input, count);
        case 2:
            return take_memory<std::uint16_t>(input, count);
        case 4:
            return take_memory<std::uint32_t>(input, count);
        default:
            return take_memory<std::uint64_t>(input, count);
    }
}

Scan take_scan(FuzzInput& input) {
    Scan scan{{}, {}};
    scan.voxels.type = static_cast<VoxelType>(input.below(10));
    for (std::size_t axis = 0; axis < 4; ++axis) {
        constexpr std::array<std::size_t, 4> most{3, 16, 40, 3};
        scan.voxels.shape[axis] = input.below(32) == 31 ? 0 : input.between<std::size_t>(1, most[axis]);
    }
    scan.voxels.strides = take_strides(input, scan.voxels.shape);
    std::ptrdiff_t first = 0, last = 0;
    bool empty = false;
    for (std::size_t axis = 0; axis < 4; ++axis) {
        empty = empty || scan.voxels.shape[axis] == 0;
        const auto reach = (static_cast<std::ptrdiff_t>(scan.voxels.shape[axis]) - 1) * scan.voxels.strides[axis];
        (reach < 0 ? first : last) += reach;
    }
    if (empty) return scan;
    const std::size_t size_bytes = tumortrace::reader(scan.voxels.type).size_bytes;
    scan.memory = take_memory(input, static_cast<std::size_t>(last - first) + 1, size_bytes);
    scan.voxels.data = scan.memory.data() - first * static_cast<std::ptrdiff_t>(size_bytes);
    return scan;
}

PreprocessingSpec take_spec(FuzzInput& input, std::size_t channels) {
    constexpr std::array<double, 5> fractions{0.1, 0.5, 1e-300, 0.999999, 0.3}, percentiles{0, 0.5, 50, 99.5, 100};
    const std::size_t low = input.below(4), high = input.between(low + 1, std::size_t{4});
    PreprocessingSpec spec{{4 * input.between<std::size_t>(1, 6), 4 * input.between<std::size_t>(1, 12)},
                           input.flag() ? Fit::pad : Fit::resize,
                           {input.flag() ? Foreground::above_border : Foreground::not_border, fractions[input.below(5)],
                            percentiles[low], percentiles[high]},
                           {}};
    if (channels != 0 && input.flag()) spec.reference = input.below(channels);
    return spec;
}

/// A channel's levels, and the value of level 0 and the step between levels.
struct PlainLevels {
    std::vector<double> levels;
    double origin;
    double step;
};

PlainLevels plain_levels(const std::vector<Value>& values, bool integral) {
    const auto [least, greatest] = std::minmax_element(values.begin(), values.end());
    PlainLevels found;
    if (integral && *greatest - *least < 65536) {
        for (const Value value : values) found.levels.push_back(static_cast<double>(value - *least));
        return {found.levels, static_cast<double>(*least), 1};
    }
    const double origin = static_cast<float>(*least), top = static_cast<float>(*greatest);
    const double step = (top - origin) / 65535;
    for (const Value value : values) {
        const double distance = static_cast<double>(static_cast<float>(value)) - origin;
        found.levels.push_back(step > 0 ? std::floor(distance / step + 0.5) : 0);
    }
    return {found.levels, origin, step};
}

double plain_rank(std::vector<double> values, double percentile) {
    std::sort(values.begin(), values.end());
    const auto rank = static_cast<std::size_t>(std::ceil(percentile * static_cast<double>(values.size()) / 100));
    return values[std::max<std::size_t>(1, rank) - 1];
}

std::vector<double> plain_border(const std::vector<double>& levels, const Voxels& voxels) {
    const auto outside = [](std::size_t i, std::size_t extent) { return i < 4 || i + 4 >= extent; };
    std::vector<double> border;
    for (std::size_t i = 0; i < levels.size(); ++i) {
        if (outside(i / voxels.columns() % voxels.rows(), voxels.rows()) ||
            outside(i % voxels.columns(), voxels.columns())) {
            border.push_back(levels[i]);
        }
    }
    return border;
}

/// Whether two numbers are the same but for a few roundings to float32.
bool close(Value one, Value other) { return std::abs(one - other) <= 1e-6L * std::abs(one) + 1e-44L; }

/// Holds what is wrong with a channel, and its statistics where they are known, against the definition.
void check_channel(const Scan& scan, std::size_t channel, const StatisticsRule& rule, Problem problem,
                   const ChannelStatistics* found) {
    const bool integral = tumortrace::reader(scan.voxels.type).integral;
    const auto [levels, origin, step] = plain_levels(scan.channel(channel), integral);
    const double dark = plain_rank(plain_border(levels, scan.voxels), 50);
    const double threshold = dark + rule.foreground_fraction * (plain_rank(levels, 99.5) - dark);
    std::vector<double> kept;
    for (const double level : levels) {
        if (rule.foreground == Foreground::above_border ? level > threshold : level != dark) kept.push_back(level);
    }
    if (kept.empty()) return check(problem == Problem::no_foreground, "nothing is foreground");
    const double low = plain_rank(kept, rule.low_percentile), high = plain_rank(kept, rule.high_percentile);
    Value first = 0, second = 0;
    for (const double level : kept) {
        const Value offset = std::clamp(level, low, high) - low;
        first += offset;
        second += offset * offset;
    }
    const Value count = static_cast<Value>(kept.size());
    const Value deviation = step * std::sqrt(count * second - first * first) / count;
    if (deviation * std::numeric_limits<float>::max() < 1) {
        return check(problem == Problem::one_value, "the foreground has one value");
    }
    check(problem == Problem::none, "the channel can be normalised");
    if (found == nullptr) return;
    check(found->background == static_cast<float>(origin + step * dark), "the background is the border's median");
    check(found->low == static_cast<float>(origin + step * low), "the low percentile");
    check(found->high == static_cast<float>(origin + step * high), "the high percentile");
    check(close(origin + step * (low + first / count), found->mean), "the mean");
    check(close(1 / deviation, found->scale), "the scale");
}

std::size_t count_not_finite(const Scan& scan) {
    std::size_t count = 0;
    for (std::size_t channel = 0; channel < scan.voxels.channels(); ++channel) {
        for (const Value value : scan.channel(channel)) count += std::isfinite(static_cast<float>(value)) ? 0U : 1U;
    }
    return count;
}

/// Holds what `open` says against the definition.
void check_opening(const Scan& scan, const PreprocessingSpec& spec, const std::vector<bool>& known,
                   const tumortrace::Opening& opening, const Preprocessor& preprocessor) {
    const Voxels& voxels = scan.voxels;
    const auto& shape = voxels.shape;
    const bool empty = std::count(shape.begin(), shape.end(), 0U) != 0;
    check((opening.problem == Problem::empty) == empty, "empty is what has no voxels");
    if (empty) return;
    const std::size_t not_finite = count_not_finite(scan);
    check(opening.not_finite == not_finite, "voxels that are not finite are counted");
    if (not_finite != 0) return check(opening.problem == Problem::not_finite, "voxels are not finite");
    const bool larger = voxels.rows() > spec.grid.rows || voxels.columns() > spec.grid.columns;
    check((opening.problem == Problem::larger_than_grid) == (larger && spec.fit == Fit::pad), "slices and grid");
    if (opening.problem == Problem::larger_than_grid) return;
    const bool opened = opening.problem == Problem::none;
    for (std::size_t channel = 0; channel < (opened ? voxels.channels() : opening.channel + 1); ++channel) {
        const bool copy =
            spec.reference && channel != *spec.reference && scan.channel(channel) == scan.channel(*spec.reference);
        const bool replaced = known[channel] || copy;
        check(!opened || preprocessor.channels()[channel].replaced == replaced, "copies are replaced");
        if (replaced) continue;
        const bool refused = !opened && channel == opening.channel;
        check_channel(scan, channel, spec.rule, refused ? opening.problem : Problem::none,
                      opened ? &preprocessor.channels()[channel].statistics : nullptr);
    }
}

float standardised(Value value, const ChannelStatistics& by) {
    return (std::min(std::max(static_cast<float>(value), by.low), by.high) - by.mean) * by.scale;
}

/// Holds planes that were not resampled against the definition.
void check_planes(const Scan& scan, const Preprocessor& preprocessor, const std::vector<float>& planes) {
    const auto& [size, scaled, offset, grid] = preprocessor.placement();
    if (!(size == scaled)) return;
    std::size_t i = 0;
    for (std::size_t slice = 0; slice < scan.voxels.slices(); ++slice) {
        for (std::size_t channel = 0; channel < scan.voxels.channels(); ++channel) {
            const auto& plan = preprocessor.channels()[channel];
            for (std::size_t row = 0; row < grid.rows; ++row) {
                for (std::size_t column = 0; column < grid.columns; ++column) {
                    const std::size_t y = row - offset.rows, x = column - offset.columns;
                    const bool inside = y < size.rows && x < size.columns;
                    const Value value = inside ? scan.at(slice, y, x, channel) : Value{plan.statistics.background};
                    check(planes[i++] == (plan.replaced ? 0.0F : standardised(value, plan.statistics)), "a pixel");
                }
            }
        }
    }
}

template <typename Integer>
void check_pack(FuzzInput& input, Preprocessor& preprocessor, const tumortrace::PlanesShape& shape,
                const tumortrace::BatchRange& range, const std::vector<float>& planes) {
    const std::size_t block = std::size_t{1} << input.below(3);
    const tumortrace::Quantisation by{std::ldexp(1.0F + static_cast<float>(input.below(4)) / 4, input.between(-20, 20)),
                                      static_cast<Integer>(input.take<std::uint8_t>())};
    std::vector<Integer> packed(range.size() * range.neighbours() * shape.channels * shape.rows * shape.columns);
    std::vector<Integer> wanted(packed.size());
    preprocessor.pack(range, block, by, packed.data());
    tumortrace::pack_batch(planes.data(), shape, range, block, by, wanted.data());
    check(same_bits(packed, wanted), "integers are those of the planes");
}

/// Holds a batch in each kind of number against the planes.
void check_batches(FuzzInput& input, Preprocessor& preprocessor, const tumortrace::PlanesShape& shape,
                   const std::vector<float>& planes) {
    const std::size_t start = input.below(shape.slices + 1), stop = input.between(start, shape.slices);
    const tumortrace::BatchRange range{start, stop, input.below(4)};
    const std::size_t size = shape.channels * shape.rows * shape.columns;
    std::vector<float> wanted;
    for (std::size_t view = 0; view < range.size() * range.neighbours(); ++view) {
        const std::size_t place = start + view / range.neighbours() + view % range.neighbours();
        const std::size_t slice = std::clamp(place, range.context, range.context + shape.slices - 1) - range.context;
        wanted.insert(wanted.end(), planes.begin() + static_cast<std::ptrdiff_t>(slice * size),
                      planes.begin() + static_cast<std::ptrdiff_t>((slice + 1) * size));
    }
    std::vector<float> floats(wanted.size());
    preprocessor.write_floats(range, floats.data());
    check(same_bits(floats, wanted), "a batch is the planes of slices and their neighbours");
    std::vector<std::uint16_t> halves(wanted.size()), rounded(wanted.size());
    preprocessor.write_halves(range, halves.data());
    std::transform(wanted.begin(), wanted.end(), rounded.begin(), tumortrace::to_half);
    check(same_bits(halves, rounded), "float16 is float32 rounded");
    if (input.flag()) {
        check_pack<std::int8_t>(input, preprocessor, shape, range, planes);
    } else {
        check_pack<std::uint8_t>(input, preprocessor, shape, range, planes);
    }
}

std::vector<float> planes_of(Preprocessor& preprocessor, const tumortrace::PlanesShape& shape) {
    std::vector<float> planes(shape.slices * shape.channels * shape.rows * shape.columns);
    preprocessor.write_floats({0, shape.slices, 0}, planes.data());
    return planes;
}

/// A channel of 2^32 voxels or more, all of them the same byte of memory, is refused before one is read.
void check_too_large(FuzzInput& input) {
    std::array<std::size_t, 4> shape;
    for (std::size_t& extent : shape) extent = std::max<std::size_t>(1, input.take<std::size_t>());
    if (Value{1} * shape[0] * shape[1] * shape[2] < 4294967296.0L) return;
    const std::uint8_t voxel = 0;
    Preprocessor preprocessor(take_spec(input, 0));
    check(preprocessor.open({&voxel, VoxelType::uint8, shape, {}}).problem == Problem::too_large, "it is too large");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    FuzzInput input(bytes, size);
    if (input.below(32) == 31) {
        check_too_large(input);
        return 0;
    }
    const Scan scan = take_scan(input);
    const std::size_t channels = scan.voxels.channels();
    const PreprocessingSpec spec = take_spec(input, channels);
    std::vector<bool> known(channels);
    for (std::size_t channel = 0; channel < channels; ++channel) known[channel] = input.below(8) == 7;

    Preprocessor preprocessor(spec);
    const tumortrace::Opening opening = preprocessor.open(scan.voxels, known);
    check_opening(scan, spec, known, opening, preprocessor);
    if (opening.problem == Problem::none) {
        Preprocessor plain(spec, Vectors::baseline);
        check(plain.open(scan.voxels, known).problem == Problem::none, "vector instructions find the same");
        const tumortrace::PlanesShape shape{scan.voxels.slices(), channels, spec.grid.rows, spec.grid.columns};
        const std::vector<float> planes = planes_of(preprocessor, shape);
        check(same_bits(planes, planes_of(plain, shape)), "vector instructions give the same planes");
        check_planes(scan, preprocessor, planes);
        check_batches(input, preprocessor, shape, planes);
    }
    return 0;
}
