#pragma once

#include <nanobind/nanobind.h>

/// Adds the classes Postprocessor, Lesion and Diameters.
void define_postprocess(nanobind::module_& module);
