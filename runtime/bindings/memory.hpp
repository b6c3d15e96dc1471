// Memory that becomes an array's.

#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstddef>
#include <cstdlib>
#include <initializer_list>
#include <memory>
#include <new>

struct Free {
    void operator()(void* memory) const noexcept { std::free(memory); }
};

template <typename Value>
using Memory = std::unique_ptr<Value[], Free>;

/// Zeros, of which only pages that are written to take up memory.
template <typename Value>
Memory<Value> zeros(std::size_t count) {
    void* const data = std::calloc(count != 0 ? count : 1, sizeof(Value));
    if (data == nullptr) throw std::bad_alloc();
    return Memory<Value>(static_cast<Value*>(data));
}

/// Hands memory over to an array.
template <typename Array, typename Value>
Array own(Memory<Value> memory, std::initializer_list<std::size_t> shape) {
    const nanobind::capsule owner(memory.get(), [](void* data) noexcept { std::free(data); });
    return Array(memory.release(), shape, owner);
}
