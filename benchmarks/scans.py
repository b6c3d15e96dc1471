"""Scans of a BraTS case's size that the benchmarks run on, made of a phantom."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from tumortrace.phantom import generate_case
from tumortrace_runtime.io import Geometry, Scan

SHAPE = (155, 240, 240)
"""Slices, rows and columns of every BraTS case, in voxels of 1 mm."""

HEAD_SLICES = 136
"""How many of them show a brain: those of BraTS2021_00006."""

_ANATOMY_PX = 192  # the head then fills as much of a slice as a brain without its skull does
_AIR = 12  # what is darker when smoothed is air, whose noise reaches less than half of it
_LEVELS = 8  # of int16 for one of uint8


def phantom_scan(head_slices: int = HEAD_SLICES, *, noise_in_air: bool = False) -> Scan:
    """What `like_brats` makes of a phantom with three lesions."""
    return like_brats(generate_case(7, 2, size_px=_ANATOMY_PX), head_slices, noise_in_air=noise_in_air)


def like_brats(phantom: Scan, head_slices: int, *, noise_in_air: bool = False) -> Scan:
    """A phantom as BraTS has scans: int16, in voxels of `SHAPE`, with truth.

    Args:
        phantom: with truth, of fewer rows and columns.
        head_slices: how many slices have head in them, 1 to 155, in the middle; the others are 0 throughout.
        noise_in_air: whether the noise around the head is left in; else the air is 0, as in skull-stripped scans.
    """
    assert phantom.truth is not None
    inside = _inside(phantom.voxels)
    depth = np.flatnonzero(inside.any(axis=(1, 2)))
    depth = depth[np.linspace(0, len(depth) - 1, head_slices).round().astype(int)]
    finer = np.random.default_rng(7).integers(_LEVELS, size=(head_slices, *phantom.voxels.shape[1:]))
    voxels = phantom.voxels[depth].astype(np.int16) * _LEVELS + finer
    if not noise_in_air:
        voxels *= inside[depth][..., None]
    return replace(
        phantom,
        voxels=_padded(voxels.astype(np.int16)),
        truth=_padded(phantom.truth[depth]),
        geometry=Geometry((1.0, 1.0, 1.0)),
    )


def _inside(voxels: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    """(slices, rows, columns), the head."""
    head = ndimage.gaussian_filter(voxels.max(axis=3).astype(np.float32), (0, 2, 2)) > _AIR
    return np.stack([ndimage.binary_fill_holes(each) for each in head])


def _padded(voxels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Voxels (slices, rows, columns, …) in the middle of zeros of `SHAPE`."""
    missing = [whole - size for whole, size in zip(SHAPE, voxels.shape, strict=False)]
    return np.pad(voxels, [(size // 2, size - size // 2) for size in missing] + [(0, 0)] * (voxels.ndim - 3))
