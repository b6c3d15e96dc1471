// The diameters that radiologists measure: a lesion's longest in a slice, and the longest at right angles to it.

#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "tumortrace/runs.hpp"

namespace tumortrace {

/// (row, column), in pixels; a pixel's centre is at its index.
using Point = std::array<double, 2>;

/// Two diameters of a lesion, in one slice, in the unit of the pixel's size.
struct Diameters {
    std::size_t slice;
    double longest;
    double perpendicular;
    std::array<Point, 2> ends;                ///< of the longest
    std::array<Point, 2> perpendicular_ends;  ///< of the other
};

/// A run and the row that it lies in.
struct PlacedRun {
    std::uint32_t row;
    Run run;
};

/// Measures connected parts of slices.
///
/// A part's outline goes through the middles of the pixel edges between it and the background, so that n pixels in a
/// line are n pixels long. The longest diameter joins the two points of the outline that lie furthest apart. The
/// perpendicular one is the longest chord of the outline's convex hull at right angles to it.
///
/// Source: RANO's bidimensional measurement (Wen et al. 2010, J Clin Oncol 28:1963); the outline is that of
/// PyRadiomics' maximum 2D diameters (van Griethuysen et al. 2017, Cancer Res 77:e104).
class DiameterFinder {
  public:
    /// Height and width of a pixel, 1 until said.
    void set_pixel(std::array<double, 2> pixel) noexcept { pixel_ = pixel; }

    /// Puts the diameters of a part into `best` if its longest is longer.
    ///
    /// @param begin  the part's runs, ordered by row, none missing between its first and last row
    /// @param end    one past the last
    /// @param slice  where it lies
    void measure(const PlacedRun* begin, const PlacedRun* end, std::size_t slice, Diameters& best) {
        if (bound(begin, end) <= best.longest * best.longest) {
            return;
        }
        find_hull(begin, end);
        const Corner* one = nullptr;
        const Corner* other = nullptr;
        double longest = best.longest * best.longest;
        for (auto a = hull_.begin(); a != hull_.end(); ++a) {
            for (auto b = a + 1; b != hull_.end(); ++b) {
                const double distance = squared_distance(*a, *b);
                if (distance > longest) {
                    longest = distance;
                    one = &*a;
                    other = &*b;
                }
            }
        }
        if (one != nullptr) {
            best.slice = slice;
            best.longest = std::sqrt(longest);
            best.ends = {point(*one), point(*other)};
            find_perpendicular(*one, *other, best);
        }
    }

  private:
    /// A corner of the outline, in half pixels.
    struct Corner {
        std::int32_t y;
        std::int32_t x;
    };

    static Point point(Corner corner) noexcept { return {corner.y / 2.0, corner.x / 2.0}; }

    double squared_distance(Corner a, Corner b) const noexcept {
        const double dy = (a.y - b.y) / 2.0 * pixel_[0], dx = (a.x - b.x) / 2.0 * pixel_[1];
        return dy * dy + dx * dx;
    }

    /// The squared diagonal of the part's bounding box.
    double bound(const PlacedRun* begin, const PlacedRun* end) const noexcept {
        std::uint16_t first = begin->run.begin, last = begin->run.end;
        for (const PlacedRun* each = begin; each != end; ++each) {
            first = std::min(first, each->run.begin);
            last = std::max(last, each->run.end);
        }
        const double height = ((end - 1)->row - begin->row + 1) * pixel_[0], width = (last - first) * pixel_[1];
        return height * height + width * width;
    }

    /// Twice the area of a triangle, positive where it turns from rows to columns.
    static std::int64_t turn(Corner a, Corner b, Corner c) noexcept {
        return std::int64_t{b.y - a.y} * (c.x - a.x) - std::int64_t{b.x - a.x} * (c.y - a.y);
    }

    /// Adds a corner to a side of the hull that is built row by row (Andrew 1979, Inf Process Lett 9:216).
    template <typename Bends>
    static void push(std::vector<Corner>& side, Corner corner, Bends bends) {
        while (side.size() > 1 && !bends(turn(side[side.size() - 2], side.back(), corner))) {
            side.pop_back();
        }
        side.push_back(corner);
    }

    void find_hull(const PlacedRun* begin, const PlacedRun* end) {
        hull_.clear();
        right_.clear();
        Run above{0, 0};
        for (const PlacedRun* each = begin; each != end;) {
            const std::uint32_t row = each->row;
            Run whole = each->run;
            for (; each != end && each->row == row; ++each) {
                whole.end = each->run.end;
            }
            const bool first = row == begin->row;
            const Run edge = first ? whole : wider(above, whole);
            push_row(static_cast<std::int32_t>(2 * row) - 1, 2 * edge.begin, 2 * edge.end - 2);
            push_row(static_cast<std::int32_t>(2 * row), 2 * whole.begin - 1, 2 * whole.end - 1);
            above = whole;
        }
        push_row(static_cast<std::int32_t>(2 * (end - 1)->row) + 1, 2 * above.begin, 2 * above.end - 2);
        hull_.insert(hull_.end(), right_.rbegin(), right_.rend());
    }

    static Run wider(Run a, Run b) noexcept { return {std::min(a.begin, b.begin), std::max(a.end, b.end)}; }

    void push_row(std::int32_t y, std::int32_t left, std::int32_t right) {
        push(hull_, {y, left}, [](std::int64_t turn) { return turn > 0; });
        push(right_, {y, right}, [](std::int64_t turn) { return turn < 0; });
    }

    /// The longest chord of the hull at right angles to a diameter goes through a corner.
    void find_perpendicular(Corner from, Corner to, Diameters& best) const noexcept {
        const double dy = (to.y - from.y) * pixel_[0], dx = (to.x - from.x) * pixel_[1];
        const double length = std::sqrt(dy * dy + dx * dx);
        const Point along{dy / length, dx / length}, across{-along[1], along[0]};
        best.perpendicular = -1.0;
        for (const Corner corner : hull_) {
            const auto ends = chord(along, across, project(point(corner), along));
            const double found = project(ends[1], across) - project(ends[0], across);
            if (found > best.perpendicular) {
                best.perpendicular = found;
                best.perpendicular_ends = ends;
            }
        }
    }

    /// Where the line at `level` along a direction meets the hull, which it does: its least and greatest point across.
    std::array<Point, 2> chord(Point along, Point across, double level) const noexcept {
        constexpr double infinity = std::numeric_limits<double>::infinity();
        std::array<Point, 2> ends{};
        double low = infinity, high = -infinity;
        for (std::size_t i = 0; i < hull_.size(); ++i) {
            const Point a = point(hull_[i]), b = point(hull_[(i + 1) % hull_.size()]);
            const double start = project(a, along) - level, stop = project(b, along) - level;
            // Ends of an edge along the line belong to its neighbours too.
            if (start == stop || (start > 0 && stop > 0) || (start < 0 && stop < 0)) {
                continue;
            }
            const double share = start / (start - stop);
            const Point crossing{a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])};
            const double place = project(crossing, across);
            if (place < low) {
                low = place;
                ends[0] = crossing;
            }
            if (place > high) {
                high = place;
                ends[1] = crossing;
            }
        }
        return ends;
    }

    /// How far a point lies along a unit vector.
    double project(Point at, Point direction) const noexcept {
        return at[0] * pixel_[0] * direction[0] + at[1] * pixel_[1] * direction[1];
    }

    Point pixel_{1.0, 1.0};
    std::vector<Corner> hull_;
    std::vector<Corner> right_;
};

}  // namespace tumortrace
