// Memory that becomes an array's.

#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <sys/mman.h>

#include <cstddef>
#include <cstdlib>
#include <initializer_list>
#include <memory>
#include <new>
#include <utility>

/// Gives back what `zeros` took.
struct GiveBack {
    std::size_t mapped_bytes = 0;  ///< 0 where it is the heap's

    void operator()(void* memory) const noexcept {
        if (mapped_bytes != 0) {
            munmap(memory, mapped_bytes);
        } else {
            std::free(memory);
        }
    }
};

template <typename Value>
using Memory = std::unique_ptr<Value[], GiveBack>;

/// Zeros, of which only pages that are written to take up memory and time: the heap would clear a large block that was
/// used before, all of it.
///
/// @throws std::bad_alloc
template <typename Value>
Memory<Value> zeros(std::size_t count) {
    constexpr std::size_t large_bytes = std::size_t{1} << 20;
    const std::size_t size_bytes = (count != 0 ? count : 1) * sizeof(Value);
    if (size_bytes < large_bytes) {
        void* const data = std::calloc(size_bytes, 1);
        if (data == nullptr) throw std::bad_alloc();
        return {static_cast<Value*>(data), {}};
    }
    void* const data = mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) throw std::bad_alloc();
    return {static_cast<Value*>(data), {size_bytes}};
}

/// Hands memory over to an array.
template <typename Array, typename Value>
Array own(Memory<Value> memory, std::initializer_list<std::size_t> shape) {
    Value* const data = memory.get();
    auto kept = std::make_unique<Memory<Value>>(std::move(memory));
    const nanobind::capsule owner(kept.get(), [](void* held) noexcept { delete static_cast<Memory<Value>*>(held); });
    kept.release();
    return Array(data, shape, owner);
}
