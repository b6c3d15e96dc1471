#include "tumortrace/morphology.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <random>
#include <vector>

#include "tumortrace/holes.hpp"
#include "tumortrace/runs.hpp"

namespace {

using tumortrace::BitSlice;
using tumortrace::Element;

struct Image {
    std::size_t rows;
    std::size_t columns;
    std::vector<bool> pixels;

    bool at(std::size_t y, std::size_t x) const { return pixels[y * columns + x]; }
    bool operator==(const Image& other) const { return pixels == other.pixels; }
};

Image noise(std::size_t rows, std::size_t columns, unsigned share, unsigned seed) {
    std::mt19937 generator(seed);
    Image image{rows, columns, std::vector<bool>(rows * columns)};
    for (std::size_t i = 0; i < image.pixels.size(); ++i) {
        image.pixels[i] = generator() % 100 < share;
    }
    return image;
}

BitSlice pack(const Image& image) {
    BitSlice slice;
    slice.reset(image.rows, image.columns);
    for (std::size_t y = 0; y < image.rows; ++y) {
        for (std::size_t x = 0; x < image.columns; ++x) {
            slice.row(y)[x / 64] |= tumortrace::Word{image.at(y, x)} << (x % 64);
            slice.set_filled(y, slice.filled(y) || image.at(y, x));
        }
    }
    return slice;
}

Image unpack(const BitSlice& slice) {
    Image image{slice.rows(), slice.columns(), std::vector<bool>(slice.rows() * slice.columns())};
    for (std::size_t y = 0; y < slice.rows(); ++y) {
        for (std::size_t x = 0; x < slice.columns() && slice.filled(y); ++x) {
            image.pixels[y * slice.columns() + x] = ((slice.row(y)[x / 64] >> (x % 64)) & 1U) != 0;
        }
    }
    return image;
}

/// Whether a pixel that the element reaches has the value.
bool reaches(const Image& image, const Element& element, std::size_t y, std::size_t x, bool value) {
    for (std::size_t row = 0; row < image.rows; ++row) {
        const std::size_t dy = row > y ? row - y : y - row;
        for (std::size_t column = 0; dy <= element.radius_px() && column < image.columns; ++column) {
            const std::size_t dx = column > x ? column - x : x - column;
            if (dx <= element.half_width_px(dy) && image.at(row, column) == value) {
                return true;
            }
        }
    }
    return false;
}

Image apply(const Image& image, const Element& element, bool dilates) {
    Image result = image;
    for (std::size_t y = 0; y < image.rows; ++y) {
        for (std::size_t x = 0; x < image.columns; ++x) {
            result.pixels[y * image.columns + x] = reaches(image, element, y, x, dilates) == dilates;
        }
    }
    return result;
}

}  // namespace

TEST_CASE("a disk holds what is no further than its radius") {
    for (std::size_t radius = 0; radius < 40; ++radius) {
        const Element disk = Element::disk(radius);
        REQUIRE(disk.radius_px() == radius);
        for (std::size_t dy = 0; dy <= radius; ++dy) {
            const std::size_t dx = disk.half_width_px(dy);
            CHECK(dy * dy + dx * dx <= radius * radius);
            CHECK(dy * dy + (dx + 1) * (dx + 1) > radius * radius);
        }
    }
}

TEST_CASE("erosion and dilation are what their definitions say") {
    tumortrace::Morphology morphology;
    BitSlice result;
    for (const std::size_t columns : {1U, 5U, 63U, 64U, 65U, 129U}) {
        for (const unsigned share : {0U, 3U, 50U, 97U, 100U}) {
            const Image image = noise(7, columns, share, static_cast<unsigned>(columns) + share);
            const BitSlice slice = pack(image);
            for (const Element& element : {Element::disk(0), Element::disk(1), Element::disk(2), Element::disk(3),
                                           Element::disk(66), Element::disk(150), Element::square(1)}) {
                CAPTURE(columns);
                CAPTURE(share);
                CAPTURE(element.radius_px());
                morphology.dilate(slice, element, result);
                CHECK(unpack(result) == apply(image, element, true));
                morphology.erode(slice, element, result);
                CHECK(unpack(result) == apply(image, element, false));
            }
        }
    }
}

TEST_CASE("holes are filled in the last slice alone") {
    const Image ring{3, 4, {false, true, true, true, false, true, false, true, false, true, true, true}};
    tumortrace::RunMask mask;
    mask.reset(3, 4);
    mask.append(pack(ring));
    mask.append(pack(ring));
    tumortrace::HoleFiller filler;
    filler.fill_last_slice(mask);
    CHECK(mask.last(1) - mask.first(1) == 2);
    REQUIRE(mask.last(4) - mask.first(4) == 1);
    CHECK(mask.runs()[mask.first(4)].begin == 1);
    CHECK(mask.runs()[mask.first(4)].end == 4);
    CHECK(mask.runs().size() == 7);
}

TEST_CASE("runs are those of the pixels, up to the last column") {
    for (const std::size_t columns : {1U, 2U, 63U, 64U, 65U, 128U, 131U}) {
        for (const unsigned share : {10U, 50U, 95U}) {
            const Image image = noise(3, columns, share, share);
            tumortrace::RunMask mask;
            mask.reset(3, columns);
            mask.append_empty();
            mask.append(pack(image));
            std::vector<bool> pixels(3 * columns);
            for (std::size_t row = 3; row < 6; ++row) {
                std::size_t after = 0;
                for (std::size_t run = mask.first(row); run < mask.last(row); ++run) {
                    const auto [begin, end] = mask.runs()[run];
                    CHECK((begin >= after && begin < end && end <= columns));
                    std::fill_n(pixels.begin() + static_cast<std::ptrdiff_t>((row - 3) * columns + begin), end - begin,
                                true);
                    after = end + 1U;
                }
            }
            CHECK(pixels == image.pixels);
        }
    }
}
