"""From logits to a mask: one definition, driven by a spec that checkpoint and bundle carry.

The steps run in this order, and each is defined to the bit, so that another implementation can be compared with it:

1. Threshold. A voxel is foreground where its logit exceeds `Postprocessing.threshold_logit` in float32.
2. Opening, then closing, in each slice by itself, with a disk of radius r: the pixels at (dy, dx) with
   dy² + dx² ≤ r². Pixels outside the slice take no part: they neither erode nor dilate.
3. Hole filling, in each slice by itself: background from which no path of 4-connected background pixels leads out of
   the slice becomes foreground.
4. Small-lesion removal, in 3-D: connected components of fewer than `min_lesion_voxels` voxels become background.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import cc3d
import cv2
import numpy as np
import numpy.typing as npt

from tumortrace_runtime import _native
from tumortrace_runtime.errors import InputError
from tumortrace_runtime.settings import require, require_between

Mask = npt.NDArray[np.uint8]

Connectivity = Literal[6, 18, 26]


@dataclass(frozen=True)
class Postprocessing:
    """How logits become a mask.

    Attributes:
        threshold: probability, strictly between 0 and 1, above which a voxel is foreground.
        opening_px: radius of the disk that opens each slice; 0 for none.
        closing_px: radius of the disk that closes each slice; 0 for none.
        fill_holes: whether holes in each slice are filled.
        min_lesion_voxels: connected components with fewer voxels are removed; 0 for none.
        connectivity: which voxels belong together in 3-D: 6 share a face, 18 an edge too, 26 a corner too.

    Raises:
        SpecError: a value is out of range.
    """

    threshold: float = 0.5
    opening_px: int = 0
    closing_px: int = 0
    fill_holes: bool = False
    min_lesion_voxels: int = 0
    connectivity: Connectivity = 26

    def __post_init__(self) -> None:
        require(0.0 < self.threshold < 1.0, "Postprocessing.threshold", self.threshold, "a probability inside (0, 1)")
        require_between(self, 0, math.inf, "opening_px", "closing_px", "min_lesion_voxels")
        known = self.connectivity in get_args(Connectivity)
        require(known, "Postprocessing.connectivity", self.connectivity, "6, 18 or 26")

    @property
    def threshold_logit(self) -> np.float32:
        """ln(p / (1 - p)), computed in float64 and rounded once."""
        return np.float32(math.log(self.threshold / (1.0 - self.threshold)))


def segment_logits(logits: npt.NDArray[np.float32], spec: Postprocessing) -> Mask:
    """The mask that `spec` makes of the logits of a whole scan.

    Args:
        logits: (slices, rows, columns) float32, one foreground class.
        spec: what to do.

    Returns:
        (slices, rows, columns) uint8, 1 for lesion and 0 for background.

    Raises:
        InputError: another shape or dtype, or a logit is NaN.
    """
    if logits.ndim != 3 or logits.dtype != np.float32:
        raise InputError(
            f"logits: {logits.dtype} of shape {logits.shape} given; float32 (slices, rows, columns) wanted."
        )
    mask = np.empty(logits.shape, np.uint8)
    _, nan_count = _native.threshold_logits(np.ascontiguousarray(logits), spec.threshold_logit.item(), mask)
    if nan_count:
        raise InputError(f"logits: {nan_count} of {logits.size} are NaN; the model or its input is damaged.")
    return clean_mask(mask, spec)


def clean_mask(mask: Mask, spec: Postprocessing) -> Mask:
    """Apply every step of `spec` that follows the threshold to a (slices, rows, columns) mask of 0 and 1."""
    cleaned = mask.copy()
    for index in np.flatnonzero(mask.any(axis=(1, 2))):
        cleaned[index] = _clean_slice(mask[index], spec)
    return remove_small_lesions(cleaned, spec.min_lesion_voxels, spec.connectivity)


def _clean_slice(image: Mask, spec: Postprocessing) -> Mask:
    if spec.opening_px:
        image = _morph(image, cv2.MORPH_OPEN, spec.opening_px)
    if spec.closing_px:
        image = _morph(image, cv2.MORPH_CLOSE, spec.closing_px)
    return fill_holes(image) if spec.fill_holes else image


def _morph(image: Mask, operation: int, radius_px: int) -> Mask:
    return np.asarray(cv2.morphologyEx(image, operation, disk(radius_px)), np.uint8)


def disk(radius_px: int) -> Mask:
    """The structuring element of opening and closing: (2r + 1, 2r + 1) uint8, 1 where dy² + dx² ≤ r².

    OpenCV's own ellipse is another shape, and at some sizes not even symmetric in rows and columns.
    """
    dy, dx = np.ogrid[-radius_px : radius_px + 1, -radius_px : radius_px + 1]
    return np.asarray(dy**2 + dx**2 <= radius_px**2, np.uint8)


def fill_holes(image: Mask) -> Mask:
    """Fill what a (rows, columns) mask of 0 and 1 encloses: background without a 4-connected way out of the slice."""
    outside = cv2.copyMakeBorder(image, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    cv2.floodFill(outside, None, (0, 0), 2, flags=4)
    return np.asarray(outside[1:-1, 1:-1] != 2, np.uint8)


def remove_small_lesions(mask: Mask, min_voxels: int, connectivity: Connectivity) -> Mask:
    """Clear the 3-D connected components of a (slices, rows, columns) mask that have fewer than `min_voxels` voxels."""
    if min_voxels <= 1 or not mask.any():
        return mask
    labels = label_lesions(mask, connectivity)
    keep = np.bincount(labels.ravel()) >= min_voxels
    keep[0] = False
    return np.asarray(keep[labels], np.uint8)


def label_lesions(mask: Mask, connectivity: Connectivity) -> npt.NDArray[np.unsignedinteger]:
    """The 3-D connected components of a (slices, rows, columns) mask of 0 and 1, numbered from 1; 0 is background."""
    # Not binary_image=True, nor a bool mask, though faster: cc3d 4.1.1 then fails on masks such as [[[1, 0, 1]]].
    return cc3d.connected_components(mask, connectivity=connectivity)
