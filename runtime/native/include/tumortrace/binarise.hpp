// What a network gives, as rows of bits: logits in float32, float16 or integers, several classes, or a mask.

#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "tumortrace/bitmask.hpp"
#include "tumortrace/dispatch.hpp"
#include "tumortrace/half.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace tumortrace {

/// A row of what a network gives: the values of the first class, and those of every other `class_stride` further on.
template <typename Value>
struct ClassRow {
    const Value* values;
    std::size_t columns;
    std::size_t classes = 1;
    std::size_t class_stride = 0;
};

/// What packing a row met.
struct RowContent {
    bool filled;  ///< a pixel is foreground
    bool nan;     ///< a value is not a number; it is background
};

namespace detail {

/// 64 bytes of 0 or 1 to 64 bits.
inline Word collect(const std::uint8_t* flags) noexcept {
#if defined(__SSE2__)
    Word word = 0;
    for (std::size_t part = 0; part < 4; ++part) {
        const __m128i bytes = _mm_load_si128(reinterpret_cast<const __m128i*>(flags + 16 * part));
        word |= static_cast<Word>(_mm_movemask_epi8(_mm_slli_epi16(bytes, 7))) << (16 * part);
    }
    return word;
#elif defined(__aarch64__)
    alignas(16) constexpr std::int8_t place[16] = {0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7};
    const int8x16_t shift = vld1q_s8(place);
    const auto sixteen = [&](std::size_t part) { return vshlq_u8(vld1q_u8(flags + 16 * part), shift); };
    const uint8x16_t low = vpaddq_u8(sixteen(0), sixteen(1)), high = vpaddq_u8(sixteen(2), sixteen(3));
    const uint8x16_t half = vpaddq_u8(low, high);
    return vgetq_lane_u64(vreinterpretq_u64_u8(vpaddq_u8(half, half)), 0);
#else
    Word word = 0;
    for (std::size_t i = 0; i < word_bits; ++i) {
        word |= Word{flags[i]} << i;
    }
    return word;
#endif
}

/// Packs a row whose pixel x is foreground where `is_foreground(x)`, and NaN where `is_nan(x)`.
///
/// Two plain loops of fixed length per word, which the compiler turns into vector instructions.
template <typename IsForeground, typename IsNan>
inline RowContent pack_row(std::size_t columns, IsForeground is_foreground, IsNan is_nan, Word* words) noexcept {
    Word any = 0;
    std::uint32_t nan = 0;
    alignas(16) std::array<std::uint8_t, word_bits> flags{};
    for (std::size_t start = 0; start < columns; start += word_bits) {
        const auto pack = [&](std::size_t count) {
            for (std::size_t i = 0; i < count; ++i) {
                flags[i] = is_foreground(start + i) ? 1 : 0;
            }
            for (std::size_t i = 0; i < count; ++i) {
                nan |= is_nan(start + i) ? 1U : 0U;
            }
        };
        if (columns - start >= word_bits) {
            pack(word_bits);
        } else {
            flags.fill(0);
            pack(columns - start);
        }
        const Word word = collect(flags.data());
        words[start / word_bits] = word;
        any |= word;
    }
    return {any != 0, nan != 0};
}

/// Packs what is above `threshold`, with the instructions of every CPU of the architecture.
inline RowContent pack_above(const float* logits, std::size_t columns, float threshold, Word* words) noexcept {
    return pack_row(
        columns, [=](std::size_t x) { return logits[x] > threshold; },
        [=](std::size_t x) { return logits[x] != logits[x]; }, words);
}

#if defined(__x86_64__)

/// The same with AVX2, which keeps up with memory. (AVX-512 was no faster.)
__attribute__((target("avx2"))) inline RowContent pack_above_avx2(const float* logits, std::size_t columns,
                                                                  float threshold, Word* words) noexcept {
    constexpr std::size_t lanes = 8;
    const __m256 level = _mm256_set1_ps(threshold);
    __m256 unordered = _mm256_setzero_ps();
    Word any = 0;
    std::size_t x = 0;
    for (; x + word_bits <= columns; x += word_bits) {
        Word word = 0;
        for (std::size_t part = 0; part < word_bits; part += 2 * lanes) {
            const __m256 low = _mm256_loadu_ps(logits + x + part), high = _mm256_loadu_ps(logits + x + part + lanes);
            const int bits = _mm256_movemask_ps(_mm256_cmp_ps(low, level, _CMP_GT_OQ)) |
                             _mm256_movemask_ps(_mm256_cmp_ps(high, level, _CMP_GT_OQ)) << lanes;
            word |= static_cast<Word>(bits) << part;
            unordered = _mm256_or_ps(unordered, _mm256_cmp_ps(low, high, _CMP_UNORD_Q));
        }
        words[x / word_bits] = word;
        any |= word;
    }
    bool nan = false;
    if (x < columns) {
        Word word = 0;
        std::size_t part = 0;
        for (; x + part + lanes <= columns; part += lanes) {
            const __m256 values = _mm256_loadu_ps(logits + x + part);
            word |= static_cast<Word>(_mm256_movemask_ps(_mm256_cmp_ps(values, level, _CMP_GT_OQ))) << part;
            unordered = _mm256_or_ps(unordered, _mm256_cmp_ps(values, values, _CMP_UNORD_Q));
        }
        for (; x + part < columns; ++part) {
            const float value = logits[x + part];
            word |= Word{value > threshold} << part;
            nan = nan || value != value;
        }
        words[x / word_bits] = word;
        any |= word;
    }
    return {any != 0, nan || _mm256_movemask_ps(unordered) != 0};
}

#endif

using PackAbove = RowContent (*)(const float*, std::size_t, float, Word*) noexcept;

/// The fastest way of packing that this CPU has.
inline PackAbove best_pack_above() noexcept {
#if defined(__x86_64__)
    if (has(Vectors::avx2)) {
        return pack_above_avx2;
    }
#endif
    return pack_above;
}

/// The key of the greatest half that is not above `threshold`; below all keys but those of NaN if there is none.
inline std::int16_t key_not_above(float threshold) noexcept {
    int low = -0x7C02, high = 0x7C00;  // below minus infinity; infinity
    while (low < high) {
        const int middle = low + (high - low + 1) / 2;
        const auto key = static_cast<std::int16_t>(middle);
        const Half half{static_cast<std::uint16_t>(key ^ ((key >> 15) & 0x7FFF))};
        if (to_float(half) <= threshold) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return static_cast<std::int16_t>(low);
}

/// How many values of a row are not a number.
template <typename Value>
inline std::size_t count_nan(const ClassRow<Value>& row) noexcept {
    std::size_t count = 0;
    for (std::size_t one = 0; one < row.classes; ++one) {
        const Value* const values = row.values + one * row.class_stride;
        count += static_cast<std::size_t>(
            std::count_if(values, values + row.columns, [](Value value) { return is_nan(value); }));
    }
    return count;
}

}  // namespace detail

/// Logits of one class in float32: above a threshold is foreground.
class FloatLogits {
  public:
    using Value = float;
    static constexpr bool has_logits = true;

    explicit FloatLogits(float threshold) noexcept : threshold_(threshold), pack_(detail::best_pack_above()) {}

    RowContent pack(const ClassRow<float>& row, Word* words) const noexcept {
        return pack_(row.values, row.columns, threshold_, words);
    }
    std::size_t count_nan(const ClassRow<float>& row) const noexcept { return detail::count_nan(row); }
    static float logit(float value) noexcept { return value; }
    FloatLogits of_floats() const noexcept { return *this; }

  private:
    float threshold_;
    detail::PackAbove pack_;
};

/// The same in float16, each compared as the float32 that it is.
class HalfLogits {
  public:
    using Value = Half;
    static constexpr bool has_logits = true;

    explicit HalfLogits(float threshold) noexcept : threshold_(threshold), key_(detail::key_not_above(threshold)) {}

    RowContent pack(const ClassRow<Half>& row, Word* words) const noexcept {
        const Half* const logits = row.values;
        const std::int16_t key = key_;
        return detail::pack_row(
            row.columns, [=](std::size_t x) { return order_key(logits[x]) > key && !is_nan(logits[x]); },
            [=](std::size_t x) { return is_nan(logits[x]); }, words);
    }
    std::size_t count_nan(const ClassRow<Half>& row) const noexcept { return detail::count_nan(row); }
    static float logit(Half value) noexcept { return to_float(value); }
    FloatLogits of_floats() const noexcept { return FloatLogits(threshold_); }

  private:
    float threshold_;
    std::int16_t key_;
};

/// The same as integers: a logit is (integer - zero_point) x scale in float32, as in ONNX DequantizeLinear.
///
/// @tparam Integer std::int8_t or std::uint8_t
template <typename Integer>
class QuantisedLogits {
    static_assert(std::is_same_v<Integer, std::int8_t> || std::is_same_v<Integer, std::uint8_t>);

  public:
    using Value = Integer;
    static constexpr bool has_logits = true;

    /// @param scale      positive and finite
    /// @param zero_point a value of `Integer`
    QuantisedLogits(float scale, int zero_point, float threshold) noexcept
        : scale_(scale), zero_point_(zero_point), threshold_(threshold) {
        constexpr int last = std::numeric_limits<Integer>::max();
        int integer = std::numeric_limits<Integer>::min();
        while (integer <= last && !(logit(static_cast<Integer>(integer)) > threshold)) {
            ++integer;
        }
        some_ = integer <= last;
        least_ = static_cast<Integer>(std::min(integer, last));
    }

    RowContent pack(const ClassRow<Integer>& row, Word* words) const noexcept {
        if (!some_) {
            return {false, false};
        }
        const Integer* const logits = row.values;
        const Integer least = least_;
        return detail::pack_row(
            row.columns, [=](std::size_t x) { return logits[x] >= least; }, [](std::size_t) { return false; }, words);
    }
    static std::size_t count_nan(const ClassRow<Integer>&) noexcept { return 0; }
    float logit(Integer integer) const noexcept { return static_cast<float>(integer - zero_point_) * scale_; }
    FloatLogits of_floats() const noexcept { return FloatLogits(threshold_); }

  private:
    float scale_;
    int zero_point_;
    float threshold_;
    bool some_ = false;  ///< an integer is above the threshold
    Integer least_ = 0;  ///< the least of them
};

/// Logits of several classes, the first the background: foreground is what has another class's logit as its greatest;
/// of equal ones the first class counts.
///
/// @tparam Stored float or Half
template <typename Stored>
class ClassLogits {
  public:
    using Value = Stored;
    static constexpr bool has_logits = false;

    RowContent pack(const ClassRow<Stored>& row, Word* words) const noexcept {
        RowContent content{false, false};
        for (std::size_t start = 0; start < row.columns; start += word_bits) {
            const std::size_t count = std::min(word_bits, row.columns - start);
            const Stored* const background = row.values + start;
            Word word = 0;
            for (std::size_t other = 1; other < row.classes; ++other) {
                const Stored* const logits = background + other * row.class_stride;
                Word above = 0;
                const RowContent part = detail::pack_row(
                    count, [=](std::size_t x) { return logit(logits[x]) > logit(background[x]); },
                    [=](std::size_t x) { return is_nan(logits[x]) || is_nan(background[x]); }, &above);
                word |= above;
                content.nan = content.nan || part.nan;
            }
            words[start / word_bits] = word;
            content.filled = content.filled || word != 0;
        }
        return content;
    }
    std::size_t count_nan(const ClassRow<Stored>& row) const noexcept { return detail::count_nan(row); }
    static float logit(Stored value) noexcept { return to_float(value); }
    ClassLogits<float> of_floats() const noexcept { return {}; }
};

/// A mask, as an engine gives it that has the threshold in its graph: not 0 is foreground.
class ByteMask {
  public:
    using Value = std::uint8_t;
    static constexpr bool has_logits = false;

    RowContent pack(const ClassRow<std::uint8_t>& row, Word* words) const noexcept {
        const std::uint8_t* const mask = row.values;
        return detail::pack_row(
            row.columns, [=](std::size_t x) { return mask[x] != 0; }, [](std::size_t) { return false; }, words);
    }
    static std::size_t count_nan(const ClassRow<std::uint8_t>&) noexcept { return 0; }
};

}  // namespace tumortrace
