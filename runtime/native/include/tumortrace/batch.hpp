// The slices of a batch and their neighbours.

#pragma once

#include <algorithm>
#include <cstddef>

namespace tumortrace {

/// Which slices a batch holds, and how many neighbours each is seen with.
struct BatchRange {
    std::size_t start;    ///< first slice
    std::size_t stop;     ///< one past the last slice; not below `start`, not above the number of slices
    std::size_t context;  ///< neighbours on each side; beyond the scan's ends the end slice is repeated

    std::size_t size() const noexcept { return stop - start; }
    std::size_t neighbours() const noexcept { return 2 * context + 1; }
};

/// Where a slice is to be seen in a batch: at every place from `begin` to `end` - 1, where slice n of the batch has its
/// neighbour k at place n + k.
struct Places {
    std::size_t begin;
    std::size_t end;
};

/// Calls visit(slice, places) for every slice that a batch out of `slices` shows, each once, in their order.
template <typename Visit>
inline void for_each_slice(const BatchRange& range, std::size_t slices, const Visit& visit) {
    const auto slice_at = [&](std::size_t place) {
        return std::clamp(range.start + place, range.context, range.context + slices - 1) - range.context;
    };
    const std::size_t places = range.size() == 0 ? 0 : range.size() + 2 * range.context;
    for (std::size_t place = 0, end = 0; place < places; place = end) {
        while (end < places && slice_at(end) == slice_at(place)) {
            ++end;
        }
        visit(slice_at(place), Places{place, end});
    }
}

/// Calls visit(n, k) where `places` are neighbour k of slice n of the batch.
template <typename Visit>
inline void for_each_view(const BatchRange& range, Places places, const Visit& visit) {
    const std::size_t neighbours = range.neighbours();
    for (std::size_t place = places.begin; place < places.end; ++place) {
        const std::size_t first = place < neighbours ? 0 : place - neighbours + 1;
        const std::size_t last = std::min(place, range.size() - 1);
        for (std::size_t n = first; n <= last; ++n) {
            visit(n, place - n);
        }
    }
}

}  // namespace tumortrace
