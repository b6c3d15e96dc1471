// What the module gets from volume.cpp.

#pragma once

#include <nanobind/nanobind.h>

/// Adds resample_volume and decode_lossless_jpeg.
void define_volume(nanobind::module_& module);
