"""Smooth random fields and soft shapes, in millimetres: what the phantom's anatomy is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
Floats = npt.NDArray[np.floating[Any]]
"""Values on their way to `F32`: the stubs of numpy let a Python float widen a float32 array; numpy does not."""
Point = tuple[Floats, Floats, Floats]
"""Coordinates x (to the patient's left), y (to posterior), z (to superior) in mm, each of one shape."""
Triple = tuple[float, float, float]

_CELLS_PER_SCALE = 2.5
_MARGIN_CELLS = 4


@dataclass(frozen=True)
class SmoothField:
    """A stationary Gaussian random field of mean 0 and standard deviation 1 over a box, evaluated plane by plane.

    Attributes:
        grid: (layers, rows, columns) values of the field on a coarse grid.
        bottom_mm: z of the first layer.
        cell_mm: distance between layers.
    """

    grid: F32
    bottom_mm: float
    cell_mm: float

    def plane(self, z_mm: float, size_px: int) -> F32:
        """The field on the plane at `z_mm` as (size_px, size_px): cubic B-spline in z, bicubic within the plane."""
        position = (z_mm - self.bottom_mm) / self.cell_mm
        first = int(np.clip(np.floor(position) - 1, 0, len(self.grid) - 4))
        weights = _bspline_weights(position - first - 1)
        layer = np.tensordot(weights, self.grid[first : first + 4], axes=1)
        return np.asarray(cv2.resize(layer, (size_px, size_px), interpolation=cv2.INTER_CUBIC), dtype=np.float32)


def smooth_field(
    rng: np.random.Generator, scale_mm: float, *, side_mm: float, bottom_mm: float, top_mm: float, ridged: bool = False
) -> SmoothField:
    """Draw a field whose features are about `scale_mm` wide.

    Args:
        rng: source of the values.
        scale_mm: width of a feature, from one zero crossing to the next.
        side_mm: side of the square that a plane covers.
        bottom_mm: lowest z that will be asked for.
        top_mm: highest z that will be asked for.
        ridged: take away the wavelengths well above `scale_mm`, so that zero crossings are evenly spaced.
    """
    cell_mm = scale_mm / _CELLS_PER_SCALE
    across = max(4, round(side_mm / cell_mm))
    layers = int(np.ceil((top_mm - bottom_mm) / cell_mm)) + 2 * _MARGIN_CELLS
    noise = rng.standard_normal((layers, across, across), dtype=np.float32)
    grid = _blur(noise, 1.0)
    if ridged:
        grid -= _blur(noise, 1.6)
    grid /= grid.std()
    return SmoothField(grid, bottom_mm - _MARGIN_CELLS * cell_mm, cell_mm)


def ellipsoid(at: Point, centre: Triple, radii: Triple) -> F32:
    """Signed distance to an ellipsoid in mm, positive inside; first-order exact near the surface."""
    x, y, z = (((axis - middle) / radius) ** 2 for axis, middle, radius in zip(at, centre, radii, strict=True))
    reach = np.sqrt(x + y + z)
    slope = np.sqrt(x / radii[0] ** 2 + y / radii[1] ** 2 + z / radii[2] ** 2) + np.float32(1e-6)
    return np.asarray(reach * (1 - reach) / slope, dtype=np.float32)


def capsule(at: Point, start: Triple, end: Triple, start_radius: float, end_radius: float) -> F32:
    """Signed distance in mm, positive inside, to a tube from `start` to `end` whose radius changes along it."""
    x, y, z = (coordinate - origin for coordinate, origin in zip(at, start, strict=True))
    dx, dy, dz = (stop - origin for stop, origin in zip(end, start, strict=True))
    along = np.clip((x * dx + y * dy + z * dz) / (dx * dx + dy * dy + dz * dz), 0, 1)
    x, y, z = x - along * dx, y - along * dy, z - along * dz
    apart = np.sqrt(x * x + y * y + z * z)
    return np.asarray(start_radius + (end_radius - start_radius) * along - apart, dtype=np.float32)


def union(*distances: Floats) -> F32:
    """Signed distance to the union of shapes."""
    return np.asarray(np.maximum.reduce(distances), dtype=np.float32)


def smooth_union(first: Floats, second: Floats, blend_mm: float) -> F32:
    """Union of two shapes whose seam is rounded over `blend_mm` (polynomial smooth maximum)."""
    share = np.clip(0.5 + (first - second) / (2 * blend_mm), 0, 1)
    return np.asarray(second + (first - second) * share + blend_mm * share * (1 - share), dtype=np.float32)


def coverage(distance: Floats, width_mm: float) -> F32:
    """How much of a voxel lies inside a shape, 0 to 1, where the edge is spread over `width_mm`."""
    return np.asarray(np.clip(distance / width_mm + 0.5, 0, 1), dtype=np.float32)


def ramp(value: Floats, width: float) -> F32:
    """A step from 0 to 1 around 0, smooth over about `width` on each side."""
    return np.asarray(0.5 + 0.5 * np.tanh(value / width), dtype=np.float32)


def _blur(noise: F32, sigma_cells: float) -> F32:
    reach = int(np.ceil(3 * sigma_cells))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma_cells) ** 2)
    kernel = (kernel / kernel.sum()).astype(np.float32)
    planes = np.stack([cv2.sepFilter2D(plane, -1, kernel, kernel) for plane in noise])
    padded = np.pad(planes, ((reach, reach), (0, 0), (0, 0)), mode="reflect")
    return sum((weight * padded[i : i + len(planes)] for i, weight in enumerate(kernel)), np.zeros_like(planes))


def _bspline_weights(fraction: float) -> F32:
    t = float(np.clip(fraction, 0, 1))
    return np.array(
        [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], dtype=np.float32
    ) / np.float32(6)
