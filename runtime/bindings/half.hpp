// float16 arrays.

#pragma once

#include <nanobind/ndarray.h>

#include <cstdint>

#include "tumortrace/half.hpp"

template <>
struct nanobind::detail::dtype_traits<tumortrace::Half> {
    static constexpr dlpack::dtype value{static_cast<std::uint8_t>(dlpack::dtype_code::Float), 16, 1};
    static constexpr auto name = const_name("float16");
};
