#pragma once

#include <nanobind/nanobind.h>

/// Adds the class Preprocessor.
void define_preprocess(nanobind::module_& module);
