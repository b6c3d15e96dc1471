#include "tumortrace/statistics.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <random>
#include <vector>

#include "tumortrace/coverage.hpp"

namespace {

using tumortrace::ChannelFindings;
using tumortrace::Coverage;
using tumortrace::Foreground;
using tumortrace::StatisticsPass;
using tumortrace::StatisticsRule;
using tumortrace::Vectors;
using tumortrace::Voxels;
using tumortrace::VoxelType;

struct Scan {
    std::size_t slices, rows, columns;
    std::vector<std::int16_t> stored;

    std::int16_t at(std::size_t slice, std::size_t row, std::size_t column) const {
        return stored[(slice * rows + row) * columns + column];
    }
    Voxels view() const {
        const auto width = static_cast<std::ptrdiff_t>(columns), height = static_cast<std::ptrdiff_t>(rows);
        return {stored.data(), VoxelType::int16, {slices, rows, columns, 1}, {width * height, width, 1, 1}};
    }
};

/// A head of noise in air that has one level in each slice, and none in the last one.
Scan head_in_air(std::size_t slices, std::size_t rows, std::size_t columns, unsigned seed) {
    std::mt19937 generator(seed);
    std::uniform_int_distribution<int> tissue(200, 900), air(-3, 0), centre(-6, 6);
    Scan scan{slices, rows, columns, {}};
    for (std::size_t slice = 0; slice < slices; ++slice) {
        const int level = air(generator), dy = centre(generator), dx = centre(generator);
        for (std::size_t row = 0; row < rows; ++row) {
            for (std::size_t column = 0; column < columns; ++column) {
                const double y = 2.6 * (static_cast<double>(row) + dy) / static_cast<double>(rows) - 1.3;
                const double x = 2.6 * (static_cast<double>(column) + dx) / static_cast<double>(columns) - 1.3;
                const bool inside = slice + 1 < slices && y * y + x * x < 1;
                scan.stored.push_back(static_cast<std::int16_t>(inside ? tissue(generator) : level));
            }
        }
    }
    return scan;
}

std::int16_t nearest_rank(std::vector<std::int16_t> values, double percentile) {
    std::sort(values.begin(), values.end());
    const double rank = std::max(1.0, std::ceil(percentile * static_cast<double>(values.size()) / 100));
    return values[static_cast<std::size_t>(rank) - 1];
}

std::vector<std::int16_t> border_of(const Scan& scan) {
    std::vector<std::int16_t> border;
    for (std::size_t slice = 0; slice < scan.slices; ++slice) {
        for (std::size_t row = 0; row < scan.rows; ++row) {
            for (std::size_t column = 0; column < scan.columns; ++column) {
                const bool outer = row < 4 || column < 4 || row + 4 >= scan.rows || column + 4 >= scan.columns;
                if (outer) border.push_back(scan.at(slice, row, column));
            }
        }
    }
    return border;
}

/// Where a scan has voxels above a value.
Coverage coverage_above(const Scan& scan, double value) {
    Coverage coverage{};
    coverage.reset(scan.view());
    for (std::size_t slice = 0; slice < scan.slices; ++slice) {
        for (std::size_t row = 0; row < scan.rows; ++row) {
            for (std::size_t column = 0; column < scan.columns; ++column) {
                if (scan.at(slice, row, column) <= value) continue;
                coverage.slices[slice] = true;
                coverage.rows.add(row);
                coverage.columns.add(column);
            }
        }
    }
    return coverage;
}

bool same(const tumortrace::Extent& first, const tumortrace::Extent& second) {
    return first.begin == second.begin && first.end == second.end;
}

}  // namespace

TEST_CASE("air around a head is counted like everything else") {
    const StatisticsRule rule{Foreground::above_border, 0.1, 0.5, 99.5};
    tumortrace::ThreadPool pool(2);
    unsigned seed = 0;
    for (const Vectors vectors : {Vectors::baseline, Vectors::avx2, Vectors::avx512}) {
        if (!tumortrace::has(vectors)) continue;
        StatisticsPass pass(vectors, pool);
        for (const std::size_t columns : {9U, 16U, 31U, 64U, 75U, 240U}) {
            for (const std::size_t rows : {7U, 8U, 29U}) {
                CAPTURE(columns);
                CAPTURE(rows);
                const Scan scan = head_in_air(4, rows, columns, ++seed);
                const ChannelFindings found = pass(scan.view(), 0, {}, rule);
                REQUIRE(found.refusal == tumortrace::Refusal::none);
                const std::int16_t dark = nearest_rank(border_of(scan), 50), bright = nearest_rank(scan.stored, 99.5);
                const double threshold = dark + 0.1 * (bright - dark);
                std::vector<std::int16_t> tissue;
                std::copy_if(scan.stored.begin(), scan.stored.end(), std::back_inserter(tissue),
                             [&](std::int16_t value) { return value > threshold; });
                CHECK(found.statistics.background == dark);
                CHECK(found.statistics.low == nearest_rank(tissue, 0.5));
                CHECK(found.statistics.high == nearest_rank(tissue, 99.5));
                double sum = 0;
                for (const std::int16_t value : tissue) {
                    sum += std::clamp<double>(value, found.statistics.low, found.statistics.high);
                }
                CHECK(found.statistics.mean == static_cast<float>(sum / static_cast<double>(tissue.size())));

                Coverage coverage{};
                coverage.reset(scan.view());
                coverage.add(pass.spans(), found.background, scan.view(), [&](std::size_t slice, std::size_t row) {
                    return pass.row(scan.view(), 0, slice, row, found.levels);
                });
                const Coverage wanted = coverage_above(scan, threshold);
                CHECK(coverage.slices == wanted.slices);
                CHECK(same(coverage.rows, wanted.rows));
                CHECK(same(coverage.columns, wanted.columns));
            }
        }
    }
}

TEST_CASE("a slice of one level is head where that level is foreground") {
    tumortrace::ThreadPool pool(1);
    StatisticsPass pass(tumortrace::widest_vectors(), pool);
    Scan scan = head_in_air(6, 24, 48, 3);
    std::fill(scan.stored.end() - 24 * 48, scan.stored.end(), std::int16_t{500});
    const ChannelFindings found = pass(scan.view(), 0, {}, {Foreground::above_border, 0.1, 0.5, 99.5});
    Coverage coverage{};
    coverage.reset(scan.view());
    coverage.add(pass.spans(), found.background, scan.view(), [&](std::size_t slice, std::size_t row) {
        return pass.row(scan.view(), 0, slice, row, found.levels);
    });
    CHECK(coverage.slices == std::vector<bool>(6, true));
    CHECK(same(coverage.rows, {0, 24}));
    CHECK(same(coverage.columns, {0, 48}));
}
