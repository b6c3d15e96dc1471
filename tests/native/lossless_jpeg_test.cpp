#include "tumortrace/lossless_jpeg.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using Bytes = std::vector<std::uint8_t>;
using Samples = std::vector<std::uint16_t>;

struct Image {
    std::size_t rows;
    std::size_t columns;
    Samples samples;
};

/// How an image is encoded.
struct Form {
    unsigned precision = 16;
    unsigned predictor = 1;
    unsigned shift = 0;
    std::size_t restart_rows = 0;
};

Image noise(std::size_t rows, std::size_t columns, const Form& form) {
    std::mt19937 generator(7);
    Image image{rows, columns, Samples(rows * columns)};
    for (std::uint16_t& sample : image.samples) {
        sample = static_cast<std::uint16_t>((generator() % (1U << form.precision)) >> form.shift << form.shift);
    }
    return image;
}

/// Writes bits, with a zero byte after each 0xFF.
class Bits {
  public:
    explicit Bits(Bytes& bytes) : bytes_(bytes) {}

    void put(unsigned value, unsigned count) {
        for (unsigned i = count; i-- > 0;) {
            byte_ = byte_ << 1U | (value >> i & 1U);
            if (++filled_ == 8) flush();
        }
    }

    void align() {
        while (filled_ != 0) put(1, 1);
    }

  private:
    void flush() {
        bytes_.push_back(static_cast<std::uint8_t>(byte_));
        if (byte_ == 0xFF) bytes_.push_back(0);
        byte_ = filled_ = 0;
    }

    Bytes& bytes_;
    unsigned byte_ = 0;
    unsigned filled_ = 0;
};

void put_two(Bytes& bytes, std::size_t value) {
    bytes.push_back(static_cast<std::uint8_t>(value >> 8U));
    bytes.push_back(static_cast<std::uint8_t>(value & 0xFFU));
}

/// Annex H, the other way round: every size of a difference has a code of five bits, in order.
Bytes encode(const Image& image, const Form& form) {
    Bytes bytes{0xFF, 0xD8, 0xFF, 0xC3, 0, 11, static_cast<std::uint8_t>(form.precision)};
    put_two(bytes, image.rows);
    put_two(bytes, image.columns);
    bytes.insert(bytes.end(), {1, 1, 0x11, 0, 0xFF, 0xC4, 0, 36, 0, 0, 0, 0, 0, 17});
    bytes.insert(bytes.end(), 11, 0);
    for (std::uint8_t size = 0; size <= 16; ++size) bytes.push_back(size);
    if (form.restart_rows != 0) {
        bytes.insert(bytes.end(), {0xFF, 0xDD, 0, 4});
        put_two(bytes, form.restart_rows * image.columns);
    }
    bytes.insert(bytes.end(), {0xFF, 0xDA, 0, 8, 1, 1, 0, static_cast<std::uint8_t>(form.predictor), 0,
                               static_cast<std::uint8_t>(form.shift)});
    Bits bits(bytes);
    std::uint8_t restart = 0;
    for (std::size_t row = 0; row < image.rows; ++row) {
        const bool begins = row == 0 || (form.restart_rows != 0 && row % form.restart_rows == 0);
        if (begins && row != 0) {
            bits.align();
            bytes.insert(bytes.end(), {0xFF, static_cast<std::uint8_t>(0xD0 + restart++ % 8)});
        }
        const auto at = [&](std::size_t r, std::size_t c) {
            return image.samples[r * image.columns + c] >> form.shift;
        };
        for (std::size_t column = 0; column < image.columns; ++column) {
            int predicted = 1 << (form.precision - form.shift - 1);
            if (column != 0 && begins) predicted = at(row, column - 1);
            if (column == 0 && !begins) predicted = at(row - 1, 0);
            if (column != 0 && !begins) {
                const int left = at(row, column - 1), above = at(row - 1, column), corner = at(row - 1, column - 1);
                const int choices[] = {left,
                                       above,
                                       corner,
                                       left + above - corner,
                                       left + ((above - corner) >> 1),
                                       above + ((left - corner) >> 1),
                                       (left + above) >> 1};
                predicted = choices[form.predictor - 1];
            }
            const int difference = static_cast<std::int16_t>(at(row, column) - predicted);
            unsigned size = 0;
            while (size < 16 && (difference < 0 ? -difference : difference) >> size != 0) ++size;
            bits.put(size, 5);
            if (size != 0 && size != 16) {
                const int value = difference < 0 ? difference + (1 << size) - 1 : difference;
                bits.put(static_cast<unsigned>(value), size);
            }
        }
    }
    bits.align();
    bytes.insert(bytes.end(), {0xFF, 0xD9});
    return bytes;
}

Samples decode(const Bytes& bytes, std::size_t rows, std::size_t columns) {
    Samples samples(rows * columns);
    tumortrace::decode_lossless_jpeg(bytes.data(), bytes.size(), rows, columns, samples.data());
    return samples;
}

std::string refusal(const Bytes& bytes, std::size_t rows, std::size_t columns) {
    try {
        decode(bytes, rows, columns);
    } catch (const std::invalid_argument& error) {
        return error.what();
    }
    return "";
}

}  // namespace

TEST_CASE("an image comes back, whatever its precision and predictor") {
    for (unsigned predictor = 1; predictor <= 7; ++predictor) {
        for (const unsigned precision : {2, 8, 12, 16}) {
            const Form form{precision, predictor};
            const Image image = noise(19, 23, form);
            CHECK(decode(encode(image, form), 19, 23) == image.samples);
        }
    }
}

TEST_CASE("an image comes back that restarts, or leaves out its lowest bits") {
    for (const Form& form : {Form{12, 1, 0, 1}, Form{12, 4, 0, 3}, Form{16, 7, 4, 0}, Form{12, 6, 3, 2}}) {
        const Image image = noise(21, 5, form);
        CHECK(decode(encode(image, form), 21, 5) == image.samples);
    }
}

TEST_CASE("what is not the image that is wanted is refused") {
    const Form form{12, 1};
    const Bytes good = encode(noise(8, 8, form), form);
    CHECK(refusal(good, 8, 8).empty());
    CHECK(refusal(good, 8, 9) == "JPEG: is of another size.");
    CHECK(refusal({}, 8, 8) == "JPEG: ends too early.");
    CHECK(refusal({0xFF, 0xD8, 0xFF, 0xC0, 0, 2}, 8, 8) == "JPEG: is not lossless, or not Huffman-coded.");
    Bytes colour = good;
    colour[11] = 3;
    CHECK(refusal(colour, 8, 8) == "JPEG: is in colour.");
}

TEST_CASE("a codestream that ends anywhere is refused") {
    const Form form{12, 3, 0, 2};
    const Bytes good = encode(noise(8, 8, form), form);
    for (std::size_t size = 0; size + 3 < good.size(); ++size) {
        CHECK_FALSE(refusal(Bytes(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size)), 8, 8).empty());
    }
}

TEST_CASE("damaged codestreams are read within their bounds") {
    std::mt19937 generator(3);
    const Form form{12, 5, 0, 4};
    const Bytes good = encode(noise(8, 8, form), form);
    for (int i = 0; i < 3000; ++i) {
        Bytes damaged = good;
        for (unsigned changes = 1 + generator() % 4; changes > 0; --changes) {
            damaged[generator() % damaged.size()] = static_cast<std::uint8_t>(generator());
        }
        damaged.resize(damaged.size() - generator() % 3);
        (void)refusal(damaged, 8, 8);
    }
}
