"""The network's grid: how a slice comes onto it, and how logits come back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.errors import ScanError
from tumortrace_runtime.preprocess.spec import Preprocessing

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Placement:
    """Where a scan's slices lie on the network's grid; each pair is (rows, columns).

    Attributes:
        scan_px: size of the scan's slices.
        scaled_px: their size on the grid.
        offset_px: top left corner on the grid.
        grid_px: size of the grid.
    """

    scan_px: tuple[int, int]
    scaled_px: tuple[int, int]
    offset_px: tuple[int, int]
    grid_px: tuple[int, int]

    @property
    def window(self) -> tuple[slice, slice]:
        """The part of the grid that the slices cover."""
        (top, left), (rows, columns) = self.offset_px, self.scaled_px
        return slice(top, top + rows), slice(left, left + columns)


def place(scan_px: tuple[int, int], spec: Preprocessing) -> Placement:
    """Where slices of `scan_px` (rows, columns) lie on the grid: centred, the odd pixel below and to the right.

    Raises:
        ScanError: the slices are larger than the grid and the spec pads.
    """
    rows, columns = spec.grid_px
    scaled = scan_px
    if spec.fit == "resize":
        factor = min(Fraction(rows, scan_px[0]), Fraction(columns, scan_px[1]))
        scaled = (_scale(scan_px[0], factor), _scale(scan_px[1], factor))
    elif scan_px[0] > rows or scan_px[1] > columns:
        raise ScanError(
            f"slices of {scan_px[0]}x{scan_px[1]} px; this model takes at most {rows}x{columns} px (it pads, and does "
            "not resize): resample the scan, or train with fit 'resize'."
        )
    offset = ((rows - scaled[0]) // 2, (columns - scaled[1]) // 2)
    return Placement(scan_px, scaled, offset, spec.grid_px)


def to_grid(slices: Floats, placement: Placement, fill: float) -> Floats:
    """Slices (n, rows, columns) on the grid, (n, grid rows, grid columns), what they leave free set to `fill`."""
    grid = np.full((len(slices), *placement.grid_px), fill, np.float32)
    grid[(slice(None), *placement.window)] = resize(slices, placement.scaled_px)
    return grid


def from_grid(logits: Floats, placement: Placement) -> Floats:
    """Logits (..., grid rows, grid columns) on the scan's own grid, (..., rows, columns), C-contiguous."""
    return np.ascontiguousarray(resize(logits[(..., *placement.window)], placement.scan_px))


def resize(images: Floats, size_px: tuple[int, int]) -> Floats:
    """Resample (..., rows, columns) to `size_px` linearly, columns first; the identity when the size is the same.

    A triangle filter with half-pixel centres, widened by the factor of reduction so that small lesions do not alias
    away. Weights are quotients of integers, rounded to float32; the products are summed in float32, tap by tap.
    """
    rows, columns = size_px
    if images.shape[-1] != columns:
        images = _resample(images, columns)
    if images.shape[-2] != rows:
        images = _resample(images.swapaxes(-1, -2), rows).swapaxes(-1, -2)
    return images


def _scale(size: int, factor: Fraction) -> int:
    """`size` x `factor`, halves rounded up, and at least 1."""
    return max(1, math.floor(size * factor + Fraction(1, 2)))


def _resample(images: Floats, size: int) -> Floats:
    """Resample the last axis to `size`."""
    indices, weights = _taps(images.shape[-1], size)
    result: Floats = images[..., indices[0]] * weights[0]
    for index, weight in zip(indices[1:], weights[1:], strict=True):
        result += images[..., index] * weight
    return result


def _taps(source: int, target: int) -> tuple[npt.NDArray[np.int64], Floats]:
    """Source indices and weights of each target position, both (taps, target); weights sum to 1.

    In units of 1 / (2 x target) source pixels, every centre, the triangle's reach and its height are integers.
    """
    pixel, reach = 2 * target, 2 * max(source, target)
    centres = np.arange(1, pixel, 2) * source - target
    indices = (centres - reach) // pixel + np.arange(1, -(-2 * reach // pixel) + 1)[:, None]
    heights = np.maximum(0, reach - np.abs(indices * pixel - centres))
    heights[(indices < 0) | (indices >= source)] = 0
    return np.clip(indices, 0, source - 1), (heights / heights.sum(axis=0)).astype(np.float32)
