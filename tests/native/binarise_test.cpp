#include "tumortrace/binarise.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <type_traits>
#include <vector>

#include "tumortrace/half.hpp"

namespace {

using tumortrace::ClassRow;
using tumortrace::RowContent;
using tumortrace::Word;

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

/// Every way of packing float32 that this CPU can run.
std::vector<tumortrace::detail::PackAbove> ways() {
    std::vector<tumortrace::detail::PackAbove> found{tumortrace::detail::pack_above};
    if (tumortrace::detail::best_pack_above() != found[0]) {
        found.push_back(tumortrace::detail::best_pack_above());
    }
    return found;
}

bool bit(const std::vector<Word>& words, std::size_t x) { return ((words[x / 64] >> (x % 64)) & 1U) != 0; }

}  // namespace

TEST_CASE("every column of every length has its bit, and no bit follows the last column") {
    std::mt19937 generator(1);
    for (std::size_t columns = 1; columns <= 200; ++columns) {
        std::vector<float> logits(columns);
        for (float& logit : logits) {
            logit = static_cast<float>(generator() % 5) - 2.0F;
        }
        for (const auto pack : ways()) {
            CAPTURE(columns);
            std::vector<Word> words((columns + 63) / 64 + 1, 0x5555555555555555U);
            const RowContent content = pack(logits.data(), columns, 0.5F, words.data());
            bool filled = false, right = true;
            for (std::size_t x = 0; x < (columns + 63) / 64 * 64; ++x) {
                const bool wanted = x < columns && logits[x] > 0.5F;
                right = right && bit(words, x) == wanted;
                filled = filled || wanted;
            }
            CHECK(right);
            CHECK(content.filled == filled);
            CHECK_FALSE(content.nan);
            CHECK(words.back() == 0x5555555555555555U);
        }
    }
}

TEST_CASE("NaN is found in every column, and is background") {
    for (const std::size_t columns : {1U, 7U, 8U, 9U, 63U, 64U, 65U, 77U, 128U, 130U}) {
        for (std::size_t place = 0; place < columns; ++place) {
            std::vector<float> logits(columns, -1.0F);
            logits[place] = not_a_number;
            for (const auto pack : ways()) {
                CAPTURE(columns);
                CAPTURE(place);
                std::vector<Word> words(3);
                const RowContent content = pack(logits.data(), columns, -infinity, words.data());
                CHECK(content.nan);
                CHECK_FALSE(bit(words, place));
                CHECK(content.filled == (columns > 1));
            }
        }
    }
}

TEST_CASE("a half is as large as the float that rounds to it") {
    for (std::uint32_t bits = 0; bits < 65536; ++bits) {
        const tumortrace::Half half{static_cast<std::uint16_t>(bits)};
        const float value = tumortrace::to_float(half);
        if (tumortrace::is_nan(half)) {
            CHECK(std::isnan(value));
        } else if (tumortrace::to_half(value) != bits) {
            FAIL("half " << bits << " became " << value);
        }
    }
}

TEST_CASE("halves are packed as floats are") {
    std::vector<tumortrace::Half> halves;
    std::vector<float> floats;
    for (std::uint32_t bits = 0; bits < 65536; bits += 7) {
        halves.push_back({static_cast<std::uint16_t>(bits)});
        floats.push_back(tumortrace::to_float(halves.back()));
    }
    std::vector<Word> found(halves.size() / 64 + 1), wanted(found);
    for (const float threshold :
         {0.0F, -0.0F, 1e-9F, -1e-9F, 0.3F, -7.7F, 65504.0F, 7e4F, -7e4F, infinity, -infinity}) {
        const tumortrace::HalfLogits half_logits(threshold);
        const tumortrace::FloatLogits float_logits(threshold);
        const ClassRow<tumortrace::Half> half_row{halves.data(), halves.size()};
        const ClassRow<float> float_row{floats.data(), floats.size()};
        const RowContent content = half_logits.pack(half_row, found.data());
        CHECK(content.filled == float_logits.pack(float_row, wanted.data()).filled);
        CHECK(content.nan);
        CHECK(found == wanted);
        CHECK(half_logits.count_nan(half_row) == float_logits.count_nan(float_row));
    }
}

TEST_CASE_TEMPLATE("integers are compared as what they stand for", Integer, std::int8_t, std::uint8_t) {
    std::vector<Integer> integers;
    for (int i = std::numeric_limits<Integer>::min(); i <= std::numeric_limits<Integer>::max(); ++i) {
        integers.push_back(static_cast<Integer>(i));
    }
    for (const float threshold : {0.0F, 0.3F, -0.3F, 12.7F, 1e9F, -1e9F, infinity, -infinity}) {
        const tumortrace::QuantisedLogits<Integer> logits(0.1F, 3, threshold);
        std::vector<Word> words(4);
        const bool filled = logits.pack({integers.data(), integers.size()}, words.data()).filled;
        for (std::size_t x = 0; x < integers.size(); ++x) {
            CHECK((filled && bit(words, x)) == (static_cast<float>(integers[x] - 3) * 0.1F > threshold));
        }
    }
}

TEST_CASE_TEMPLATE("of equal classes the first counts", Value, float, tumortrace::Half) {
    // Background, first, second class, of two rows of three pixels each.
    const std::vector<float> logits{1, 1, 1, -0.0F, 0, 0, 1, 2, 0, 0, 1, 0, 0, 0, 3, 0, 0, not_a_number};
    std::vector<Value> values;
    for (const float logit : logits) {
        if constexpr (std::is_same_v<Value, float>) {
            values.push_back(logit);
        } else {
            values.push_back({tumortrace::to_half(logit)});
        }
    }
    const tumortrace::ClassLogits<Value> classes;
    const ClassRow<Value> first{values.data(), 3, 3, 6}, second{values.data() + 3, 3, 3, 6};
    Word first_bits = 0, second_bits = 0;
    CHECK_FALSE(classes.pack(first, &first_bits).nan);
    CHECK(classes.pack(second, &second_bits).nan);
    CHECK(first_bits == 0b110);
    CHECK(second_bits == 0b010);
    CHECK(classes.count_nan(first) == 0);
    CHECK(classes.count_nan(second) == 1);
}
