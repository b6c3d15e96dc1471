// Compiled by a test that reads what the compiler says about the loop.

#include <cstddef>
#include <cstdint>

#include "tumortrace/quantise.hpp"

void compiled(const float* values, std::size_t count, tumortrace::Quantisation by, tumortrace::Dither dither,
              std::uint8_t* bytes);

void compiled(const float* values, std::size_t count, tumortrace::Quantisation by, tumortrace::Dither dither,
              std::uint8_t* bytes) {
    tumortrace::detail::quantise<std::int8_t>(values, count, by, dither, bytes);
}
