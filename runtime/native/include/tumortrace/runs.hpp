// A mask as runs of pixels: what is kept of a whole scan.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "tumortrace/bitmask.hpp"

namespace tumortrace {

/// Pixels [begin, end) of a row.
struct Run {
    std::uint16_t begin;
    std::uint16_t end;
};

/// The largest extent of an axis, as in DICOM.
constexpr std::size_t max_extent = 65535;

/// A mask of a scan: the runs of row after row, with background between any two of a row.
class RunMask {
  public:
    RunMask() = default;

    /// The mask that has these runs.
    ///
    /// @param row_ends one past each row's last run
    RunMask(std::size_t rows, std::size_t columns, std::vector<Run> runs, std::vector<std::uint32_t> row_ends)
        : rows_(rows), columns_(columns), runs_(std::move(runs)), row_ends_(std::move(row_ends)) {}

    /// Starts anew, without slices.
    void reset(std::size_t rows, std::size_t columns) {
        rows_ = rows;
        columns_ = columns;
        runs_.clear();
        row_ends_.clear();
    }

    void reserve(std::size_t slices, std::size_t runs) {
        runs_.reserve(runs);
        row_ends_.reserve(slices * rows_);
    }

    /// Adds a slice.
    void append(const BitSlice& slice) {
        for (std::size_t y = 0; y < rows_; ++y) {
            if (slice.filled(y)) {
                append_row(slice.row(y), slice.words());
            }
            row_ends_.push_back(static_cast<std::uint32_t>(runs_.size()));
        }
    }

    /// Adds the slices of another mask, of the same size.
    void append(const RunMask& other) {
        const auto before = static_cast<std::uint32_t>(runs_.size());
        runs_.insert(runs_.end(), other.runs_.begin(), other.runs_.end());
        for (const std::uint32_t end : other.row_ends_) {
            row_ends_.push_back(before + end);
        }
    }

    /// Adds a slice of background.
    void append_empty() { row_ends_.insert(row_ends_.end(), rows_, static_cast<std::uint32_t>(runs_.size())); }

    std::size_t slices() const noexcept { return rows_ == 0 ? 0 : row_ends_.size() / rows_; }
    std::size_t rows() const noexcept { return rows_; }
    std::size_t columns() const noexcept { return columns_; }

    const std::vector<Run>& runs() const noexcept { return runs_; }
    const std::vector<std::uint32_t>& row_ends() const noexcept { return row_ends_; }

    /// Index of a row's first run, and one past its last; rows count on through the slices.
    std::size_t first(std::size_t row) const noexcept { return row == 0 ? 0 : row_ends_[row - 1]; }
    std::size_t last(std::size_t row) const noexcept { return row_ends_[row]; }

    /// Calls `visit(row)` for every row with a run, in order; rows count on through the slices.
    template <typename Visit>
    void for_each_filled_row(const Visit& visit) const {
        for (std::size_t start = 0; start < row_ends_.size(); start += rows_) {
            if (first(start) == last(start + rows_ - 1)) {
                continue;
            }
            for (std::size_t row = start; row < start + rows_; ++row) {
                if (first(row) != last(row)) {
                    visit(row);
                }
            }
        }
    }

    /// Joins runs of the last slice: those after which `joins(index)` holds reach to the end of the next run.
    template <typename Joins>
    void join_in_last_slice(Joins joins) noexcept {
        const std::size_t start_row = row_ends_.size() - rows_;
        std::size_t read = first(start_row), written = read;
        for (std::size_t row = start_row; row < row_ends_.size(); ++row) {
            for (const std::size_t stop = row_ends_[row]; read < stop; ++read, ++written) {
                const std::uint16_t begin = runs_[read].begin;
                while (joins(read)) {
                    ++read;
                }
                runs_[written] = {begin, runs_[read].end};
            }
            row_ends_[row] = static_cast<std::uint32_t>(written);
        }
        runs_.resize(written);
    }

  private:
    /// Every second edge between background and mask begins a run.
    void append_row(const Word* row, std::size_t words) {
        Word before = 0;
        bool inside = false;
        for (std::size_t i = 0; i < words; ++i) {
            for (Word edges = row[i] ^ (row[i] << 1 | before); edges != 0; edges &= edges - 1) {
                const auto x = static_cast<std::uint16_t>(i * word_bits + lowest_bit(edges));
                if (inside) {
                    runs_.back().end = x;
                } else {
                    runs_.push_back({x, static_cast<std::uint16_t>(columns_)});
                }
                inside = !inside;
            }
            before = row[i] >> (word_bits - 1);
        }
    }

    static std::size_t lowest_bit(Word word) noexcept { return static_cast<std::size_t>(__builtin_ctzll(word)); }

    std::size_t rows_ = 0;
    std::size_t columns_ = 0;
    std::vector<Run> runs_;
    std::vector<std::uint32_t> row_ends_;
};

}  // namespace tumortrace
