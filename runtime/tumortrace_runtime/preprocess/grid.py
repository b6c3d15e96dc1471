"""The network's grid: how a slice comes onto it, and how logits come back."""

from __future__ import annotations

from dataclasses import dataclass

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
        factor = min(rows / scan_px[0], columns / scan_px[1])
        scaled = tuple(max(1, min(grid, int(size * factor + 0.5))) for size, grid in zip(scan_px, spec.grid_px))  # type: ignore[assignment]  # noqa: B905
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
    away. Weights are computed in float64 and rounded to float32; the products are summed in float32, tap by tap.
    """
    rows, columns = size_px
    if images.shape[-1] != columns:
        images = _resample(images, columns)
    if images.shape[-2] != rows:
        images = _resample(images.swapaxes(-1, -2), rows).swapaxes(-1, -2)
    return images


def _resample(images: Floats, size: int) -> Floats:
    """Resample the last axis to `size`."""
    indices, weights = _taps(images.shape[-1], size)
    result: Floats = images[..., indices[0]] * weights[0]
    for index, weight in zip(indices[1:], weights[1:], strict=True):
        result += images[..., index] * weight
    return result


def _taps(source: int, target: int) -> tuple[npt.NDArray[np.int64], Floats]:
    """Source indices and weights of each target position, both (taps, target); weights sum to 1."""
    scale = source / target
    support = max(1.0, scale)
    centre = (np.arange(target) + 0.5) * scale - 0.5
    taps = np.arange(int(np.ceil(2 * support)) + 1)[:, None]
    indices = np.floor(centre - support).astype(np.int64) + 1 + taps
    weights = np.maximum(0.0, 1.0 - np.abs(indices - centre) / support)
    weights[(indices < 0) | (indices >= source)] = 0.0
    weights /= weights.sum(axis=0)
    return np.clip(indices, 0, source - 1), weights.astype(np.float32)
