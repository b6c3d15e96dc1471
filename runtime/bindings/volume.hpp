// What the module gets from volume.cpp.

#pragma once

#include <nanobind/nanobind.h>

/// Adds resample_volume.
void define_volume(nanobind::module_& module);
