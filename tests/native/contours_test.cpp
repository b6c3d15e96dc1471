#include "tumortrace/contours.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <stdexcept>
#include <vector>

#include "tumortrace/lesion_runs.hpp"
#include "tumortrace/postprocess.hpp"

namespace {

using tumortrace::Cleaning;
using tumortrace::Contours;
using tumortrace::Postprocessor;

std::vector<std::uint8_t> noise(std::size_t pixels, unsigned seed) {
    std::mt19937 generator(seed);
    std::vector<std::uint8_t> mask(pixels);
    std::generate(mask.begin(), mask.end(), [&] { return static_cast<std::uint8_t>(generator() % 3 == 0 ? 0 : 7); });
    return mask;
}

/// What borders enclose by the even-odd rule: every upright edge turns over what is to its right.
std::vector<std::uint8_t> filled(const Contours& contours, std::size_t rows, std::size_t columns) {
    std::vector<std::uint8_t> mask(rows * columns);
    std::size_t start = 0;
    for (const Contours::Border& border : contours.borders) {
        for (std::size_t i = start; i < border.end; ++i) {
            const auto [row, column] = contours.corners[i];
            const auto [next_row, next_column] = contours.corners[i + 1 == border.end ? start : i + 1];
            CHECK((row == next_row) != (column == next_column));
            for (std::int32_t y = std::min(row, next_row); y < std::max(row, next_row); ++y) {
                for (auto x = static_cast<std::size_t>(column); x < columns; ++x) {
                    mask[static_cast<std::size_t>(y) * columns + x] ^= 1U;
                }
            }
        }
        start = border.end;
    }
    return mask;
}

}  // namespace

TEST_CASE("borders enclose the pixels of the mask") {
    for (const std::size_t columns : {1U, 2U, 9U, 64U, 70U}) {
        const auto mask = noise(8 * columns, static_cast<unsigned>(columns));
        std::vector<std::uint8_t> wanted(mask.size());
        std::transform(mask.begin(), mask.end(), wanted.begin(), [](std::uint8_t value) { return value != 0; });
        CHECK(filled(tumortrace::mask_contours(mask.data(), 8, columns), 8, columns) == wanted);
    }
}

TEST_CASE("a ring has two borders, and pixels at its corners belong to it or do not") {
    const std::vector<std::uint8_t> ring{1, 1, 1, 0,  //
                                         1, 0, 1, 0,  //
                                         1, 1, 1, 0,  //
                                         0, 0, 0, 1};
    for (const bool joined : {true, false}) {
        Postprocessor postprocessor(Cleaning{
            0, 0, false, 0, joined ? tumortrace::Connectivity::corners_3d : tumortrace::Connectivity::faces_3d});
        postprocessor.segment(tumortrace::ByteMask(), ring.data(), {1, 4, 4});
        const auto runs = postprocessor.runs();
        const Contours found = runs.contours(0);
        CHECK(filled(found, 4, 4) == ring);
        CHECK(found.borders.size() == (joined ? 2 : 3));
        CHECK(std::count_if(found.borders.begin(), found.borders.end(), [](const auto& each) { return each.hole; }) ==
              1);
        CHECK(runs.lengths() == std::vector<std::uint64_t>{0, 3, 1, 1, 1, 1, 1, 3, 4, 1});
    }
}

TEST_CASE("borders and lengths are those of lesions alone, slice by slice") {
    const std::vector<std::uint8_t> mask{1, 0, 0, 0, 0, 0,  //
                                         0, 0, 0, 0, 1, 1};
    Postprocessor postprocessor(Cleaning{0, 0, false, 2, tumortrace::Connectivity::faces_3d});
    CHECK_THROWS_AS(postprocessor.runs(), std::invalid_argument);
    postprocessor.segment(tumortrace::ByteMask(), mask.data(), {2, 2, 3});
    const auto runs = postprocessor.runs();

    CHECK(runs.contours(0).borders.empty());
    CHECK(runs.contours(1).corners == std::vector<tumortrace::PixelCorner>{{1, 1}, {1, 3}, {2, 3}, {2, 1}});
    CHECK(runs.lengths() == std::vector<std::uint64_t>{10, 2});
}
