"""Post-processing with NumPy, OpenCV and cc3d, step by step: what the native core is held against."""

from __future__ import annotations

import math

import cc3d
import cv2
import numpy as np

from tumortrace_runtime.metrics import MM3_PER_ML


def segment_logits(logits, spec):
    return clean_mask((logits > spec.threshold_logit).astype(np.uint8), spec)


def clean_mask(mask, spec):
    """Every step of `spec` that follows the threshold, of a (slices, rows, columns) mask of 0 and 1."""
    cleaned = mask.copy()
    for index in np.flatnonzero(mask.any(axis=(1, 2))):
        cleaned[index] = _clean_slice(mask[index], spec)
    return _remove_small_lesions(cleaned, spec.min_lesion_voxels, spec.connectivity)


def basics(lesions):
    """Of each what `measure_lesions` gives."""
    names = ("label", "voxels", "volume_ml", "centroid", "bounding_box")
    return [{name: getattr(lesion, name) for name in names} for lesion in lesions]


def measure_lesions(mask, spacing_mm=None, connectivity=26):
    """Every lesion of a mask of 0 and 1, in the order that `Lesion.label` has: fields of `Lesion` by name."""
    if not mask.any():
        return []
    labels = _label(mask, connectivity)
    statistics = cc3d.statistics(labels)
    components, first = np.unique(labels[labels > 0], return_index=True)
    order = components[np.lexsort((first, -statistics["voxel_counts"][components].astype(np.int64)))]
    voxel_ml = math.prod(spacing_mm) / MM3_PER_ML if spacing_mm else None
    return [_lesion(label, component, statistics, voxel_ml) for label, component in enumerate(order.tolist(), start=1)]


def _clean_slice(image, spec):
    if spec.opening_px:
        image = cv2.morphologyEx(image, cv2.MORPH_OPEN, _disk(spec.opening_px))
    if spec.closing_px:
        image = cv2.morphologyEx(image, cv2.MORPH_CLOSE, _disk(spec.closing_px))
    return _fill_holes(image) if spec.fill_holes else image


def _disk(radius_px):
    """(2r + 1, 2r + 1). OpenCV's own ellipse is another shape, and at some sizes not even symmetric."""
    dy, dx = np.ogrid[-radius_px : radius_px + 1, -radius_px : radius_px + 1]
    return (dy**2 + dx**2 <= radius_px**2).astype(np.uint8)


def _fill_holes(image):
    outside = cv2.copyMakeBorder(image, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    cv2.floodFill(outside, None, (0, 0), 2, flags=4)
    return (outside[1:-1, 1:-1] != 2).astype(np.uint8)


def _remove_small_lesions(mask, min_voxels, connectivity):
    if min_voxels <= 1 or not mask.any():
        return mask
    labels = _label(mask, connectivity)
    keep = np.bincount(labels.ravel()) >= min_voxels
    keep[0] = False
    return keep[labels].astype(np.uint8)


def _label(mask, connectivity):
    # Not binary_image=True, nor a bool mask, though faster: cc3d 4.1.1 then fails on masks such as [[[1, 0, 1]]].
    return cc3d.connected_components(mask, connectivity=connectivity)


def _lesion(label, component, statistics, voxel_ml):
    voxels = int(statistics["voxel_counts"][component])
    box = statistics["bounding_boxes"][component]
    return dict(
        label=label,
        voxels=voxels,
        volume_ml=None if voxel_ml is None else voxels * voxel_ml,
        centroid=tuple(statistics["centroids"][component].tolist()),
        bounding_box=(tuple(axis.start for axis in box), tuple(axis.stop for axis in box)),
    )
