// Erosion, dilation, opening and closing of a slice, 64 pixels at a time.

#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "tumortrace/bitmask.hpp"

namespace tumortrace {

/// A structuring element that is symmetric in rows and in columns, with every row a single run of pixels.
class Element {
  public:
    /// The pixels at (dy, dx) with dy² + dx² ≤ radius_px²; radius 1 is the cross of five pixels.
    static Element disk(std::size_t radius_px) {
        std::vector<std::size_t> half_widths(radius_px + 1);
        std::size_t width = radius_px;
        for (std::size_t dy = 0; dy <= radius_px; ++dy) {
            while (dy * dy + width * width > radius_px * radius_px) {
                --width;
            }
            half_widths[dy] = width;
        }
        return Element(std::move(half_widths));
    }

    /// The square of 2 x radius_px + 1 pixels a side.
    static Element square(std::size_t radius_px) { return Element(std::vector<std::size_t>(radius_px + 1, radius_px)); }

    std::size_t radius_px() const noexcept { return half_widths_.size() - 1; }

    /// How far the rows at ±dy reach to either side; dy up to the radius.
    std::size_t half_width_px(std::size_t dy) const noexcept { return half_widths_[dy]; }

  private:
    explicit Element(std::vector<std::size_t> half_widths) : half_widths_(std::move(half_widths)) {}

    std::vector<std::size_t> half_widths_;
};

/// Morphology of slices. Pixels outside a slice take no part: they neither erode nor dilate.
///
/// Keeps its buffers: nothing is allocated for a slice that is no larger than one before.
class Morphology {
  public:
    /// Erosion and then dilation, in place.
    void open(BitSlice& slice, const Element& element) {
        erode(slice, element, between_);
        dilate(between_, element, slice);
    }

    /// Dilation and then erosion, in place.
    void close(BitSlice& slice, const Element& element) {
        dilate(slice, element, between_);
        erode(between_, element, slice);
    }

    /// A pixel of `result` is set where the element, put there, meets the mask.
    void dilate(const BitSlice& slice, const Element& element, BitSlice& result) {
        result.reset(slice.rows(), slice.columns());
        prepare_rows(slice);
        const auto [start, stop] = slice.filled_rows();
        const std::size_t radius = element.radius_px();
        for (std::size_t y = start - std::min(start, radius); y < std::min(slice.rows(), stop + radius); ++y) {
            const auto [first, last] = reach(slice, element, y);
            Word* const row = result.row(y);
            std::fill_n(row, slice.words(), 0);
            bool filled = false;
            for (std::size_t other = first; other <= last; ++other) {
                if (slice.filled(other)) {
                    spread(slice.row(other), slice.words(), half_width(element, y, other), row);
                    filled = true;
                }
            }
            row[slice.words() - 1] &= slice.last_word();
            result.set_filled(y, filled);
        }
    }

    /// A pixel of `result` is set where the element, put there, lies inside the mask or outside the slice.
    void erode(const BitSlice& slice, const Element& element, BitSlice& result) {
        // Where the background, dilated, does not reach. An empty row leaves nothing within the radius.
        result.reset(slice.rows(), slice.columns());
        prepare_rows(slice);
        invert(slice, background_);
        const std::size_t words = slice.words();
        const auto [start, stop] = slice.filled_rows();
        for (std::size_t y = start; y < stop; ++y) {
            const auto [first, last] = reach(slice, element, y);
            bool alive = true;
            for (std::size_t other = first; alive && other <= last; ++other) {
                alive = slice.filled(other);
            }
            if (!alive) {
                continue;
            }
            Word* const row = result.row(y);
            std::fill_n(row, words, 0);
            for (std::size_t other = first; other <= last; ++other) {
                spread(background_.row(other), words, half_width(element, y, other), row);
            }
            result.set_filled(y, invert(row, words, slice.last_word(), row));
        }
    }

  private:
    /// First and last row that the element reaches from row y.
    static std::pair<std::size_t, std::size_t> reach(const BitSlice& slice, const Element& element,
                                                     std::size_t y) noexcept {
        const std::size_t radius = element.radius_px();
        return {y - std::min(y, radius), std::min(slice.rows() - 1, y + radius)};
    }

    static std::size_t half_width(const Element& element, std::size_t y, std::size_t other) noexcept {
        return element.half_width_px(y > other ? y - other : other - y);
    }

    /// Writes the background of the pixels of a row, and tells whether there is any.
    static bool invert(const Word* row, std::size_t words, Word last_word, Word* result) noexcept {
        Word any = 0;
        for (std::size_t i = 0; i + 1 < words; ++i) {
            result[i] = ~row[i];
            any |= result[i];
        }
        result[words - 1] = ~row[words - 1] & last_word;
        return (any | result[words - 1]) != 0;
    }

    /// The background of filled rows; the others stay as they are.
    static void invert(const BitSlice& slice, BitSlice& background) {
        background.reset(slice.rows(), slice.columns());
        const auto [start, stop] = slice.filled_rows();
        for (std::size_t y = start; y < stop; ++y) {
            if (slice.filled(y)) {
                invert(slice.row(y), slice.words(), slice.last_word(), background.row(y));
            }
        }
    }

    void prepare_rows(const BitSlice& slice) {
        for (auto& row : wide_) {
            row.assign(slice.words() + 2, 0);
        }
    }

    /// Adds to `result` the pixels up to `width` columns from those of a row; bits past the last column may be set.
    void spread(const Word* row, std::size_t words, std::size_t width, Word* result) noexcept {
        for (std::size_t turn = 0; width >= word_bits; ++turn, width -= word_bits - 1) {
            Word* const wide = wide_[turn % 2].data() + 1;
            std::fill_n(wide, words, 0);
            spread_less(row, words, word_bits - 1, wide);
            row = wide;
        }
        if (width == 0) {
            for (std::size_t i = 0; i < words; ++i) {
                result[i] |= row[i];
            }
        } else if (width == 1) {
            for (std::size_t i = 0; i < words; ++i) {
                const Word left = row[i] << 1 | *(row + i - 1) >> (word_bits - 1);
                result[i] |= row[i] | left | row[i] >> 1 | row[i + 1] << (word_bits - 1);
            }
        } else {
            spread_less(row, words, width, result);
        }
    }

    /// The same for a width below the bits of a word.
    static void spread_less(const Word* row, std::size_t words, std::size_t width, Word* result) noexcept {
        for (std::size_t i = 0; i < words; ++i) {
            const Word* const word = row + i;
            Word before = *(word - 1), up = *word, down = *word, after = *(word + 1);
            // Each step doubles the reach, as far as the width allows.
            for (std::size_t reached = 0; reached < width;) {
                const std::size_t step = std::min(reached + 1, width - reached);
                up |= up << step | before >> (word_bits - step);
                before |= before << step;
                down |= down >> step | after << (word_bits - step);
                after |= after >> step;
                reached += step;
            }
            result[i] |= up | down;
        }
    }

    BitSlice between_;
    BitSlice background_;
    std::vector<Word> wide_[2];
};

}  // namespace tumortrace
