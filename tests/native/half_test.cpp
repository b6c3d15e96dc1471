#include "tumortrace/half.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

/// The value of a finite, non-negative half.
float value_of(std::uint16_t half) {
    const int exponent = half >> 10, fraction = half & 0x3FF;
    return exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                         : std::ldexp(static_cast<float>(1024 + fraction), exponent - 25);
}

}  // namespace

TEST_CASE("every half, and what lies around the middle to the next one, is rounded to nearest, ties to even") {
    std::vector<float> values;
    std::vector<std::uint16_t> wanted;
    const auto expect = [&](float value, unsigned half) {
        values.insert(values.end(), {value, -value});
        wanted.insert(wanted.end(), {static_cast<std::uint16_t>(half), static_cast<std::uint16_t>(half | 0x8000U)});
    };
    for (std::uint16_t half = 0; half < 0x7C00; ++half) {
        const auto next = static_cast<std::uint16_t>(half + 1);
        const float value = value_of(half), middle = (value + value_of(next)) / 2;
        expect(value, half);
        expect(std::nextafter(middle, 0.0F), half);
        expect(middle, half % 2 == 0 ? half : next);
        expect(std::nextafter(middle, infinity), next);
    }
    expect(infinity, 0x7C00);
    expect(std::numeric_limits<float>::max(), 0x7C00);
    expect(std::numeric_limits<float>::denorm_min(), 0);
    for (const auto vectors : {tumortrace::Vectors::baseline, tumortrace::Vectors::avx2, tumortrace::Vectors::avx512}) {
        if (!tumortrace::has(vectors)) continue;
        std::vector<std::uint16_t> halves(values.size());
        tumortrace::to_halves(vectors, values.data(), values.size(), halves.data());
        CHECK(halves == wanted);
    }
}

TEST_CASE("NaN stays NaN") {
    const std::vector<float> values(9, std::numeric_limits<float>::quiet_NaN());
    std::vector<std::uint16_t> halves(9);
    tumortrace::to_halves(tumortrace::widest_vectors(), values.data(), values.size(), halves.data());
    for (const std::uint16_t half : halves) CHECK((half & 0x7FFFU) > 0x7C00U);
}
