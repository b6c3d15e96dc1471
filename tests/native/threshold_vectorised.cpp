// Compiled by a test that reads what the compiler says about the loop.

#include <cstddef>
#include <cstdint>

#include "tumortrace/threshold.hpp"

tumortrace::ThresholdCounts compiled(const float* logits, std::size_t count, std::uint8_t* mask);

tumortrace::ThresholdCounts compiled(const float* logits, std::size_t count, std::uint8_t* mask) {
    return tumortrace::threshold_logits(logits, count, 0.0F, mask);
}
