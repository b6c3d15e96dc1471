// A slice of a mask with one bit per pixel.

#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace tumortrace {

/// Pixels of a row, the least significant bit first.
using Word = std::uint64_t;

constexpr std::size_t word_bits = 64;

/// Extent of a scan, the last axis contiguous.
struct VolumeShape {
    std::size_t slices;
    std::size_t rows;
    std::size_t columns;
};

/// One slice: column x of a row is bit x % 64 of word x / 64, and bits past the last column are 0.
///
/// A row says whether it is filled. The words of one that is not hold anything, so that empty rows cost nothing. Before
/// and after the words of every row lies a word that is always 0, which loops may read.
class BitSlice {
  public:
    /// Gives the slice an extent; no row is filled. Allocates only where no slice before was as large.
    void reset(std::size_t rows, std::size_t columns) {
        if (rows != rows_ || columns != columns_) {
            rows_ = rows;
            columns_ = columns;
            words_ = (columns + word_bits - 1) / word_bits;
            bits_.assign(rows * (words_ + 1) + 1, 0);
        }
        filled_.assign(rows, 0);
    }

    std::size_t rows() const noexcept { return rows_; }
    std::size_t columns() const noexcept { return columns_; }

    /// Words of a row.
    std::size_t words() const noexcept { return words_; }

    /// Bits of a row's last word that are pixels.
    Word last_word() const noexcept { return ~Word{0} >> ((word_bits - columns_ % word_bits) % word_bits); }

    Word* row(std::size_t y) noexcept { return bits_.data() + 1 + y * (words_ + 1); }
    const Word* row(std::size_t y) const noexcept { return bits_.data() + 1 + y * (words_ + 1); }

    /// Whether a row holds pixels of the mask.
    bool filled(std::size_t y) const noexcept { return filled_[y] != 0; }
    void set_filled(std::size_t y, bool filled) noexcept { filled_[y] = filled ? 1 : 0; }

    /// The first filled row, and one past the last; the same row twice where there is none.
    std::pair<std::size_t, std::size_t> filled_rows() const noexcept {
        std::size_t start = 0, stop = rows_;
        while (start < stop && filled_[start] == 0) ++start;
        while (start < stop && filled_[stop - 1] == 0) --stop;
        return {start, stop};
    }

  private:
    std::size_t rows_ = 0;
    std::size_t columns_ = 0;
    std::size_t words_ = 0;
    std::vector<Word> bits_;
    std::vector<std::uint8_t> filled_;
};

}  // namespace tumortrace
