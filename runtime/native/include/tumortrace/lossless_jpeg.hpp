// Lossless JPEG (ITU-T T.81, annex H), the commonest compression in archives of DICOM: grey images, any predictor.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace tumortrace {

namespace detail {

/// Refuses a codestream.
[[noreturn]] inline void refuse_jpeg(const std::string& why) { throw std::invalid_argument("JPEG: " + why + "."); }

/// Bytes of a codestream, none of them read twice or beyond its end.
class JpegBytes {
  public:
    JpegBytes(const std::uint8_t* data, std::size_t size) noexcept : next_(data), end_(data + size) {}

    std::size_t left() const noexcept { return static_cast<std::size_t>(end_ - next_); }
    bool starts_with_marker() const noexcept { return left() >= 2 && next_[0] == 0xFF && next_[1] != 0; }

    unsigned byte() {
        if (next_ == end_) refuse_jpeg("ends too early");
        return *next_++;
    }

    unsigned two_bytes() {
        const unsigned high = byte();
        return high << 8U | byte();
    }

    /// The second byte of the next marker; any number of fill bytes may stand before it (B.1.1.2).
    unsigned marker() {
        if (byte() != 0xFF) refuse_jpeg("has no marker where one is wanted");
        unsigned code = byte();
        while (code == 0xFF) code = byte();
        return code;
    }

    /// The content of a segment, whose length is read first.
    JpegBytes segment() {
        const std::size_t length = two_bytes();
        if (length < 2 || length - 2 > left()) refuse_jpeg("has a segment that goes beyond its end");
        const JpegBytes content(next_, length - 2);
        next_ += length - 2;
        return content;
    }

  private:
    const std::uint8_t* next_;
    const std::uint8_t* end_;
};

/// Bits of entropy-coded data up to a marker; a zero byte after 0xFF is left out (F.1.2.3).
class JpegBits {
  public:
    explicit JpegBits(JpegBytes& bytes) noexcept : bytes_(&bytes) {}

    /// The next 16 bits, without going past them; zeros stand for what is not there.
    unsigned peek() {
        while (count_ < 16) {
            bits_ <<= 8U;
            if (bytes_->left() != 0 && !bytes_->starts_with_marker()) {
                const unsigned byte = bytes_->byte();
                if (byte == 0xFF && bytes_->left() != 0) bytes_->byte();
                bits_ |= byte;
            } else {
                ++made_up_;
            }
            count_ += 8;
        }
        return static_cast<unsigned>(bits_ >> (count_ - 16)) & 0xFFFFU;
    }

    void skip(unsigned count) {
        count_ -= count;
        if (8 * made_up_ > count_) refuse_jpeg("ends too early");
    }

    /// Drops what is left of the last byte, so that a marker is next.
    void align() noexcept { bits_ = count_ = made_up_ = 0; }

  private:
    JpegBytes* bytes_;
    std::uint64_t bits_ = 0;
    unsigned count_ = 0;    ///< bits in `bits_` that are still to come
    unsigned made_up_ = 0;  ///< bytes of them that the codestream does not have
};

/// Which of the 17 sizes of a difference each beginning of 16 bits stands for (H.1.2.2, F.2.2.3).
class JpegCodes {
  public:
    struct Code {
        std::uint8_t length;  ///< in bits; 0 where none begins so
        std::uint8_t size;
    };

    /// From the content of a table: how many codes there are of each length, and what they stand for.
    explicit JpegCodes(JpegBytes& table) : codes_(1U << 16U, Code{0, 0}) {
        std::array<unsigned, 16> counts;
        for (unsigned& count : counts) count = table.byte();
        std::size_t next = 0;
        for (unsigned length = 1; length <= 16; ++length) {
            const std::size_t reach = std::size_t{1} << (16 - length);
            for (unsigned i = 0; i < counts[length - 1]; ++i, next += reach) {
                const unsigned size = table.byte();
                if (size > 16 || next + reach > codes_.size()) refuse_jpeg("has a damaged Huffman table");
                for (std::size_t code = next; code < next + reach; ++code) {
                    codes_[code] = {static_cast<std::uint8_t>(length), static_cast<std::uint8_t>(size)};
                }
            }
        }
    }

    /// The next difference from what was predicted.
    int difference(JpegBits& bits) const {
        const Code code = codes_[bits.peek()];
        if (code.length == 0) refuse_jpeg("has a code that its table lacks");
        bits.skip(code.length);
        if (code.size == 0) return 0;
        if (code.size == 16) return 1 << 15;
        const int value = static_cast<int>(bits.peek() >> (16U - code.size));
        bits.skip(code.size);
        return value < 1 << (code.size - 1) ? value - (1 << code.size) + 1 : value;
    }

  private:
    std::vector<Code> codes_;
};

/// What the headers say of an image.
struct JpegHeader {
    std::size_t rows = 0;
    std::size_t columns = 0;
    unsigned precision = 0;
    std::size_t restart_interval = 0;  ///< in samples; 0 where there is none
    unsigned predictor = 0;
    unsigned shift = 0;
    std::array<std::optional<JpegCodes>, 4> tables{};
    unsigned table = 0;

    void read_frame(JpegBytes frame) {
        precision = frame.byte();
        rows = frame.two_bytes();
        columns = frame.two_bytes();
        if (frame.byte() != 1) refuse_jpeg("is in colour");
        if (precision < 2 || precision > 16 || rows == 0 || columns == 0) refuse_jpeg("has a damaged frame header");
    }

    void read_tables(JpegBytes segment) {
        while (segment.left() != 0) {
            const unsigned place = segment.byte();
            if (place > 3) refuse_jpeg("has a Huffman table of another kind");
            tables[place].emplace(segment);
        }
    }

    void read_scan(JpegBytes scan) {
        if (scan.byte() != 1) refuse_jpeg("is in colour");
        scan.byte();
        table = scan.byte() >> 4U;
        predictor = scan.byte();
        scan.byte();
        shift = scan.byte() & 15U;
        if (rows == 0 || table > 3 || !tables[table] || predictor < 1 || predictor > 7 || shift >= precision) {
            refuse_jpeg("has a damaged scan header");
        }
    }
};

/// Everything before the entropy-coded data.
inline JpegHeader read_jpeg_header(JpegBytes& bytes) {
    JpegHeader header;
    if (bytes.marker() != 0xD8) refuse_jpeg("does not begin as one");
    for (;;) {
        const unsigned marker = bytes.marker();
        JpegBytes segment = bytes.segment();
        if (marker == 0xC3) {
            header.read_frame(segment);
        } else if (marker == 0xC4) {
            header.read_tables(segment);
        } else if (marker == 0xDD) {
            header.restart_interval = segment.two_bytes();
        } else if (marker == 0xDA) {
            header.read_scan(segment);
            return header;
        } else if (marker >= 0xC0 && marker <= 0xCF) {
            refuse_jpeg("is not lossless, or not Huffman-coded");
        }
    }
}

/// What stands for a sample before its difference is known (H.1.2.1).
inline int predict(unsigned predictor, int left, int above, int corner) noexcept {
    switch (predictor) {
        case 1:
            return left;
        case 2:
            return above;
        case 3:
            return corner;
        case 4:
            return left + above - corner;
        case 5:
            return left + ((above - corner) >> 1);
        case 6:
            return above + ((left - corner) >> 1);
        default:
            return (left + above) >> 1;
    }
}

}  // namespace detail

/// Decodes a grey image.
///
/// @param rows, columns  those that are wanted
/// @param samples        rows x columns
/// @throws std::invalid_argument  it is not lossless JPEG, in colour, of another size, damaged or incomplete
inline void decode_lossless_jpeg(const std::uint8_t* data, std::size_t size, std::size_t rows, std::size_t columns,
                                 std::uint16_t* samples) {
    detail::JpegBytes bytes(data, size);
    const detail::JpegHeader header = detail::read_jpeg_header(bytes);
    if (header.rows != rows || header.columns != columns) detail::refuse_jpeg("is of another size");
    if (header.restart_interval % columns != 0) detail::refuse_jpeg("restarts within a line");
    const std::size_t restart_rows = header.restart_interval / columns;
    const detail::JpegCodes& codes = *header.tables[header.table];
    detail::JpegBits bits(bytes);
    const int first = 1 << (header.precision - header.shift - 1);
    for (std::size_t row = 0; row < rows; ++row) {
        const bool begins = row == 0 || (restart_rows != 0 && row % restart_rows == 0);
        if (begins && row != 0) {
            bits.align();
            if ((bytes.marker() & 0xF8U) != 0xD0) detail::refuse_jpeg("lacks a restart marker");
        }
        std::uint16_t* const line = samples + row * columns;
        const std::uint16_t* const above = begins ? nullptr : line - columns;
        for (std::size_t column = 0; column < columns; ++column) {
            int predicted = first;
            if (begins) {
                if (column != 0) predicted = line[column - 1];
            } else if (column == 0) {
                predicted = above[0];
            } else {
                predicted = detail::predict(header.predictor, line[column - 1], above[column], above[column - 1]);
            }
            line[column] = static_cast<std::uint16_t>(predicted + codes.difference(bits));
        }
    }
    for (std::size_t i = 0; i < rows * columns; ++i) {
        samples[i] = static_cast<std::uint16_t>(samples[i] << header.shift);
    }
}

}  // namespace tumortrace
