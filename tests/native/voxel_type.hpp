// The voxel type of a C++ type.

#pragma once

#include <array>
#include <cstddef>
#include <type_traits>

#include "tumortrace/voxels.hpp"

template <typename Stored>
constexpr tumortrace::VoxelType type_of() {
    constexpr std::array<tumortrace::VoxelType, 8> integers{
        tumortrace::VoxelType::int8,   tumortrace::VoxelType::uint8, tumortrace::VoxelType::int16,
        tumortrace::VoxelType::uint16, tumortrace::VoxelType::int32, tumortrace::VoxelType::uint32,
        tumortrace::VoxelType::int64,  tumortrace::VoxelType::uint64};
    if constexpr (std::is_same_v<Stored, float>) {
        return tumortrace::VoxelType::float32;
    } else if constexpr (std::is_same_v<Stored, double>) {
        return tumortrace::VoxelType::float64;
    } else {
        constexpr std::size_t width = sizeof(Stored) == 1 ? 0 : sizeof(Stored) == 2 ? 2 : sizeof(Stored) == 4 ? 4 : 6;
        return integers[width + (std::is_unsigned_v<Stored> ? 1 : 0)];
    }
}
