"""Volumes of one frame of reference on the grid of one of them."""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt

from tumortrace_runtime import _native
from tumortrace_runtime.errors import ScanError
from tumortrace_runtime.io.dicom.geometry import DicomGeometry
from tumortrace_runtime.machine import cpu_threads

SAME_GRID_MM = 0.001
"""Grids whose corners are no further apart are the same: nothing is interpolated."""

LEAST_COVERED = 0.5
"""A channel that covers less of the scan's grid is refused."""

METHOD = "trilinear"

Shape = tuple[int, int, int]


def same_grid(first: DicomGeometry, second: DicomGeometry, shape: Shape, other_shape: Shape) -> bool:
    """Whether two grids of these shapes (slices, rows, columns) have all their corners in the same places."""
    if shape != other_shape:
        return False
    corners = np.array([(*corner, 1.0) for corner in product(*((0, size - 1) for size in shape))])
    apart_mm = np.linalg.norm(corners @ (first.affine - second.affine).T, axis=1)
    return bool(apart_mm.max() <= SAME_GRID_MM)


def resample(
    values: npt.NDArray[np.generic], own: DicomGeometry, grid: DicomGeometry, shape: Shape, name: str
) -> tuple[npt.NDArray[np.float32], float]:
    """A volume at the voxel centres of another grid, by trilinear interpolation.

    Up to half a voxel beyond its outermost centres, a volume is what it is there; further out it is 0.

    Args:
        values: (slices, rows, columns) of the volume.
        own: where they are.
        grid: where they are wanted.
        shape: (slices, rows, columns) of that grid.
        name: what to call the volume in an error.

    Returns:
        `shape` float32, and the share of it that the volume covers.

    Raises:
        ScanError: that share is below `LEAST_COVERED`.
    """
    to_own = (np.linalg.inv(own.affine) @ grid.affine)[:3]
    result: npt.NDArray[np.float32] = np.empty(shape, np.float32)
    source = np.ascontiguousarray(values, np.float32)
    inside = _native.resample_volume(source, to_own.tolist(), result, cpu_threads())
    covered = inside / result.size
    if covered < LEAST_COVERED:
        raise ScanError(
            f"{name}: covers {covered:.0%} of the grid that it is resampled onto; {LEAST_COVERED:.0%} are wanted, "
            "since nothing is known of the rest."
        )
    return result, covered
