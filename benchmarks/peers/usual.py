"""What research code does around a network, with NumPy, SciPy and OpenCV, as its authors write it."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from tumortrace_runtime.io import Scan
from tumortrace_runtime.postprocess import Postprocessing
from tumortrace_runtime.preprocess import Preprocessing

Array = npt.NDArray[Any]

_BORDER_PX = 4


def prepare(scan: Scan, spec: Preprocessing) -> npt.NDArray[np.float32]:
    """Percentiles clipped, z-score over the head, padded; (slices, neighbours x channels, rows, columns)."""
    voxels = scan.select(spec.channels).astype(np.float32)
    flair = voxels[..., spec.channels.index("flair")]
    planes = []
    for number, name in enumerate(spec.channels):
        channel = voxels[..., number]
        missing = name != "flair" and np.array_equal(channel, flair)
        planes.append(np.zeros_like(channel) if missing else _normalise(channel, spec))
    stacked = _pad(np.stack(planes, axis=1), spec.grid_px)
    around = np.clip(np.arange(len(stacked))[:, None] + np.arange(-spec.context, spec.context + 1), 0, len(stacked) - 1)
    return stacked[around].reshape(len(stacked), -1, *spec.grid_px)


def clean(logits: Array, spec: Postprocessing, size_px: tuple[int, int]) -> tuple[npt.NDArray[np.uint8], list[Any]]:
    """Threshold, morphology, holes, small components; the mask of (slices, rows, columns) logits, and its lesions."""
    mask = (1 / (1 + np.exp(-_crop(logits, size_px))) > spec.threshold).astype(np.uint8)
    for image in mask:
        for operation, radius in ((cv2.MORPH_OPEN, spec.opening_px), (cv2.MORPH_CLOSE, spec.closing_px)):
            if radius:
                disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
                image[:] = cv2.morphologyEx(image, operation, disk)
        if spec.fill_holes:
            image[:] = ndimage.binary_fill_holes(image)
    labels, count = ndimage.label(mask, ndimage.generate_binary_structure(3, 3))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    small = sizes < spec.min_lesion_voxels
    mask[small[labels]] = 0
    kept = [label for label in range(1, count + 1) if not small[label]]
    centroids = ndimage.center_of_mass(mask, labels, kept) if kept else []
    boxes = ndimage.find_objects(labels)
    return mask, [(sizes[label], centre, boxes[label - 1]) for label, centre in zip(kept, centroids, strict=True)]


def _normalise(channel: Array, spec: Preprocessing) -> Array:
    border = np.ones(channel.shape, bool)
    border[:, _BORDER_PX:-_BORDER_PX, _BORDER_PX:-_BORDER_PX] = False
    dark = np.median(channel[border])
    bright = np.percentile(channel, 99.5)
    head = channel[channel > dark + spec.foreground_fraction * (bright - dark)]
    low, high = np.percentile(head, spec.clip_percentiles).astype(np.float32)
    clipped = np.clip(head, low, high)
    normalised: Array = (np.clip(channel, low, high) - clipped.mean()) / clipped.std()
    return normalised


def _pad(planes: Array, grid_px: tuple[int, int]) -> Array:
    rows, columns = (grid - size for grid, size in zip(grid_px, planes.shape[-2:], strict=True))
    around = ((0, 0), (0, 0), (rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2))
    return np.pad(planes, around, mode="edge")


def _crop(logits: Array, size_px: tuple[int, int]) -> Array:
    top, left = ((grid - size) // 2 for grid, size in zip(logits.shape[-2:], size_px, strict=True))
    return logits[..., top : top + size_px[0], left : left + size_px[1]]
