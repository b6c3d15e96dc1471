// Bytes from a fuzzer, read as decisions and numbers.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

/// Reads numbers off the front of the bytes; zeros follow the last.
class FuzzInput {
  public:
    FuzzInput(const std::uint8_t* bytes, std::size_t size) : bytes_(bytes), left_(size) {}

    template <typename Number>
    Number take() {
        Number number{};
        const std::size_t some = std::min(left_, sizeof number);
        if (some != 0) std::memcpy(&number, bytes_, some);
        bytes_ += some;
        left_ -= some;
        return number;
    }

    /// 0 to `count` - 1, of at most 256.
    std::size_t below(std::size_t count) { return take<std::uint8_t>() % count; }

    /// `first` to `last`, of which neither is far from 0.
    template <typename Number>
    Number between(Number first, Number last) {
        return static_cast<Number>(first + static_cast<Number>(below(static_cast<std::size_t>(last - first) + 1)));
    }

    bool flag() { return below(2) != 0; }

  private:
    const std::uint8_t* bytes_;
    std::size_t left_;
};

/// Fills an array with runs of a few elements that the input gives bit by bit, and with elements of any bits.
template <typename Element>
void fill(std::vector<Element>& elements, FuzzInput& input) {
    constexpr std::size_t kinds = 5;
    std::vector<Element> palette(kinds);
    for (Element& each : palette) each = input.take<Element>();
    const auto longest = input.between<std::uint32_t>(1, 40);
    auto random = input.take<std::uint32_t>();
    const auto next = [&random] { return (random = random * 1664525U + 1013904223U) >> 8; };
    for (std::size_t start = 0; start < elements.size();) {
        const std::size_t stop = std::min<std::size_t>(elements.size(), start + 1 + next() % longest);
        std::fill(elements.begin() + static_cast<std::ptrdiff_t>(start),
                  elements.begin() + static_cast<std::ptrdiff_t>(stop), palette[next() % kinds]);
        start = stop;
    }
}

/// Ends the program where `holds` is false.
inline void check(bool holds, const char* what) {
    if (!holds) {
        std::fprintf(stderr, "broken: %s\n", what);
        std::abort();
    }
}

/// Whether two arrays hold the same bits.
template <typename Element>
bool same_bits(const std::vector<Element>& one, const std::vector<Element>& other) {
    return one.size() == other.size() &&
           (one.empty() || std::memcmp(one.data(), other.data(), one.size() * sizeof(Element)) == 0);
}
