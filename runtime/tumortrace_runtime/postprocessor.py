"""From logits, or a mask, to a cleaned mask and its lesions, as `postprocess` defines it: one native pass."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tumortrace_runtime import _native
from tumortrace_runtime.errors import InputError
from tumortrace_runtime.lesions import Lesion
from tumortrace_runtime.metrics import MM3_PER_ML
from tumortrace_runtime.postprocess import Postprocessing

Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class Segmentation:
    """A scan's mask and what is in it.

    Attributes:
        mask: (slices, rows, columns) uint8, 1 for lesion and 0 for background.
        lesions: largest first; of equal ones that whose first voxel comes first.
        diameters: of each lesion, in mm, or in pixels where the spacing is not known.
    """

    mask: npt.NDArray[np.uint8]
    lesions: list[Lesion]
    diameters: list[_native.Diameters]


class Postprocessor:
    """Segments one scan after the other, in buffers that are used again. Threads wait for each other.

    Args:
        spec: what to do.
    """

    def __init__(self, spec: Postprocessing) -> None:
        self._core = _native.Postprocessor(
            threshold_logit=spec.threshold_logit.item(),
            opening_px=spec.opening_px,
            closing_px=spec.closing_px,
            fill_holes=spec.fill_holes,
            min_lesion_voxels=spec.min_lesion_voxels,
            connectivity=spec.connectivity,
        )

    def segment_logits(
        self,
        logits: npt.NDArray[np.float32] | npt.NDArray[np.float16],
        spacing_mm: Spacing | None = None,
        temperature: float | None = None,
    ) -> Segmentation:
        """The mask of a whole scan, and its lesions.

        Args:
            logits: (slices, rows, columns) float32 or float16, one foreground class.
            spacing_mm: distance between (slices, rows, columns), or None where it is not known.
            temperature: what logits are divided by for confidence; None where there is none.

        Raises:
            InputError: another shape or dtype, an extent of 0 or above 65535, or a logit is NaN.
        """
        if logits.ndim != 3 or logits.dtype not in (np.float32, np.float16):
            raise InputError(
                f"logits: {logits.dtype} of shape {logits.shape} given; float32 or float16 (slices, rows, columns) "
                "wanted."
            )
        try:
            mask, _, found = self._core.segment_logits(
                np.ascontiguousarray(logits), temperature=temperature, pixel_mm=_pixel(spacing_mm)
            )
        except ValueError as error:
            raise InputError(f"logits: {error}") from None
        return _segmentation(mask, found, spacing_mm)

    def segment_mask(self, mask: npt.NDArray[np.uint8], spacing_mm: Spacing | None = None) -> Segmentation:
        """The same of a mask that an engine gives, (slices, rows, columns) uint8, not 0 for foreground.

        Raises:
            InputError: another shape or dtype, or an extent of 0 or above 65535.
        """
        if mask.ndim != 3 or mask.dtype != np.uint8:
            raise InputError(f"mask: {mask.dtype} of shape {mask.shape} given; uint8 (slices, rows, columns) wanted.")
        try:
            cleaned, _, found = self._core.segment_mask(np.ascontiguousarray(mask), pixel_mm=_pixel(spacing_mm))
        except ValueError as error:
            raise InputError(f"mask: {error}") from None
        return _segmentation(cleaned, found, spacing_mm)


def _pixel(spacing_mm: Spacing | None) -> tuple[float, float]:
    return (1.0, 1.0) if spacing_mm is None else spacing_mm[1:]


def _segmentation(mask: npt.NDArray[Any], found: list[_native.Lesion], spacing_mm: Spacing | None) -> Segmentation:
    voxel_ml = math.prod(spacing_mm) / MM3_PER_ML if spacing_mm else None
    lesions = [
        Lesion(
            label=label,
            voxels=lesion.voxels,
            volume_ml=None if voxel_ml is None else lesion.voxels * voxel_ml,
            centroid=lesion.centroid,
            bounding_box=(lesion.low, lesion.high),
            confidence=lesion.confidence,
        )
        for label, lesion in enumerate(found, start=1)
    ]
    return Segmentation(mask, lesions, [lesion.diameters for lesion in found if lesion.diameters is not None])
