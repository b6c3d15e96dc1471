// Disjoint sets of numbers.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

namespace tumortrace {

/// Sets of the numbers below a count, each known by its least member.
///
/// Source: Galler and Fischer 1964 (CACM 7:301), with path halving (Tarjan and van Leeuwen 1984, JACM 31:245).
class UnionFind {
  public:
    /// Every number a set of its own. Allocates only for a count above any before.
    void reset(std::size_t count) {
        parents_.resize(count);
        std::iota(parents_.begin(), parents_.end(), 0U);
    }

    std::size_t size() const noexcept { return parents_.size(); }

    std::uint32_t find(std::uint32_t number) noexcept {
        while (parents_[number] != number) {
            parents_[number] = parents_[parents_[number]];
            number = parents_[number];
        }
        return number;
    }

    void unite(std::uint32_t one, std::uint32_t other) noexcept {
        one = find(one);
        other = find(other);
        parents_[std::max(one, other)] = std::min(one, other);
    }

  private:
    std::vector<std::uint32_t> parents_;
};

}  // namespace tumortrace
