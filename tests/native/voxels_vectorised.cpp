// Compiled by a test that reads what the compiler says about the loop.

#include <cstddef>

#include "tumortrace/voxels.hpp"

auto compiled(const float* voxels, std::size_t count) { return tumortrace::detail::row_extremes(voxels, 1, count); }
