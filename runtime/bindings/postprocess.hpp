#pragma once

#include <nanobind/nanobind.h>

/// Adds the classes Lesion, Diameters and LesionRuns, and mask_contours.
void define_lesions(nanobind::module_& module);

/// Adds the class Postprocessor, which gives them.
void define_postprocess(nanobind::module_& module);
