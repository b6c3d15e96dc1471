// Probabilities from logits.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tumortrace {

/// 1 / (1 + exp(-logit)), within 2e-7, the same on every machine; a plain function that loops vectorise.
///
/// Source of the polynomial: Cephes, expf.c (Moshier 1992).
inline float logistic(float logit) noexcept {
    const float distance = logit < 0 ? -logit : logit;
    const float negative = -(distance < 87.0F ? distance : 87.0F);  // beyond, the exponential is no normal number
    // Floats around 1.5 x 2^23 are 1 apart: the sum rounds, and its lowest bits are the integer's.
    constexpr float magic = 12582912.0F;
    const float shifted = negative * 1.44269504F + magic;
    const float power = shifted - magic;
    const float rest = (negative - power * 0.693359375F) - power * -2.12194440e-4F;
    float tail = 1.9875691500e-4F;
    tail = tail * rest + 1.3981999507e-3F;
    tail = tail * rest + 8.3334519073e-3F;
    tail = tail * rest + 4.1665795894e-2F;
    tail = tail * rest + 1.6666665459e-1F;
    tail = tail * rest + 5.0000001201e-1F;
    const float mantissa = tail * rest * rest + rest + 1.0F;
    std::uint32_t bits = 0;
    std::memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 127U) << 23;
    float scale = 0.0F;
    std::memcpy(&scale, &bits, sizeof scale);
    const float exponential = mantissa * scale;
    return (logit < 0 ? exponential : 1.0F) / (1.0F + exponential);
}

/// Sum and maximum of the probabilities of voxels.
///
/// A run's are added in their order, and a lesion's runs in theirs: the sums do not depend on how slices came.
struct ProbabilitySum {
    double sum = 0.0;
    float highest = 0.0F;

    void add(const ProbabilitySum& other) noexcept {
        sum += other.sum;
        highest = std::max(highest, other.highest);
    }
};

/// Of the voxels [begin, end).
///
/// @param inverse 1 / temperature, which a logit is multiplied by
/// @param logit   gives the logit of voxel i
template <typename Logit>
inline ProbabilitySum sum_of(std::size_t begin, std::size_t end, float inverse, Logit logit) noexcept {
    constexpr std::size_t most = 64;
    float probabilities[most];
    ProbabilitySum result;
    for (std::size_t start = begin; start < end; start += most) {
        const std::size_t count = std::min(most, end - start);
        for (std::size_t i = 0; i < count; ++i) {
            probabilities[i] = logistic(logit(start + i) * inverse);
        }
        for (std::size_t i = 0; i < count; ++i) {
            result.sum += double{probabilities[i]};
            result.highest = std::max(result.highest, probabilities[i]);
        }
    }
    return result;
}

}  // namespace tumortrace
