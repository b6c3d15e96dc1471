// What all bindings check in the same way.

#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <stdexcept>
#include <string>

inline void require(bool condition, const std::string& problem) {
    if (!condition) throw std::invalid_argument(problem);
}

inline bool positive(double value) { return std::isfinite(value) && value > 0; }

/// A shape as Python writes it.
template <std::size_t axes>
std::string to_string(const std::array<std::size_t, axes>& shape) {
    std::string text;
    for (const std::size_t extent : shape) text += (text.empty() ? "(" : ", ") + std::to_string(extent);
    return text + ")";
}

/// An array's shape.
template <std::size_t axes, typename Array>
std::array<std::size_t, axes> shape_of(const Array& array) {
    std::array<std::size_t, axes> shape;
    for (std::size_t axis = 0; axis < axes; ++axis) shape[axis] = array.shape(axis);
    return shape;
}
