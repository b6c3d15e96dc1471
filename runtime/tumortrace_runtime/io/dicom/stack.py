"""Slices as a volume: sorted along their normal, and refused where they do not make a regular grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.errors import ScanError
from tumortrace_runtime.io.dicom.planes import Numbers, Plane
from tumortrace_runtime.io.scan import check_sides

UNIT_TOLERANCE = 1e-3
"""Directions may be that far from being of length one, at right angles, and those of the first slice."""

SPACING_TOLERANCE = 0.01
"""A gap between slices may differ from the others by this part of it, a pixel spacing likewise."""

DRIFT_TOLERANCE = 0.1
"""Slices may lie beside the normal through the first one by this part of the smallest voxel side."""

_ROUNDING_MM = 0.01
"""Positions may be rounded to as much; gaps may differ by it however small they are."""


def stack(planes: Sequence[Plane], name: str) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Order of slices along their normal, and the affine of the volume that they make.

    The normal is the cross product of the directions in which columns and rows run (PS3.3, section C.7.6.2.1.1), so
    that (column, row, slice) are right-handed.

    Args:
        planes: of one series, in any order.
        name: what to call the series in an error.

    Returns:
        For each slice of the volume its position in `planes`; and (4, 4) float64, indices (slice, row, column) of the
        volume to LPS in mm.

    Raises:
        ScanError: orientations or pixel spacings are mixed or absurd; slices are missing, unevenly spaced, of one
            position, or not one above the other; or of one slice the thickness is not known.
    """
    columns_to, rows_to = _directions(planes, name)
    row_mm, column_mm = _pixel_spacing(planes, name)
    normal = np.cross(columns_to, rows_to)
    normal /= np.linalg.norm(normal)
    positions = np.stack([plane.position for plane in planes])
    order = np.argsort(positions @ normal, kind="stable")
    positions = positions[order]
    step = _single_step(planes[0], normal, name) if len(planes) == 1 else _step(positions, normal, name)
    check_sides((float(np.linalg.norm(step)), row_mm, column_mm), name)
    _check_drift(positions, normal, min(float(np.linalg.norm(step)), row_mm, column_mm), name)
    affine = np.eye(4)
    affine[:3] = np.column_stack((step, rows_to * row_mm, columns_to * column_mm, positions[0]))
    return order, affine


def _directions(planes: Sequence[Plane], name: str) -> tuple[Numbers, Numbers]:
    found = np.stack([plane.orientation for plane in planes])
    if (np.abs(found - found[0]) > UNIT_TOLERANCE).any():
        raise ScanError(f"{name}: has slices of several orientations, as a localiser has; parallel slices are wanted.")
    columns_to, rows_to = found[0].reshape(2, 3)
    lengths = np.linalg.norm((columns_to, rows_to), axis=1)
    if (np.abs(lengths - 1) > UNIT_TOLERANCE).any() or abs(columns_to @ rows_to) > UNIT_TOLERANCE:
        raise ScanError(
            f"{name}: ImageOrientationPatient is not two directions at right angles; the header is damaged."
        )
    return columns_to / lengths[0], rows_to / lengths[1]


def _pixel_spacing(planes: Sequence[Plane], name: str) -> tuple[float, float]:
    found = np.stack([plane.spacing_mm for plane in planes])
    if (np.abs(found - found[0]) > SPACING_TOLERANCE * found[0]).any():
        raise ScanError(f"{name}: has slices of several pixel spacings; slices of one grid are wanted.")
    return float(found[0, 0]), float(found[0, 1])


def _single_step(plane: Plane, normal: Numbers, name: str) -> Numbers:
    if plane.depth_mm is None:
        raise ScanError(f"{name}: is one slice without a thickness; SliceThickness is wanted.")
    return normal * plane.depth_mm


def _step(positions: Numbers, normal: Numbers, name: str) -> Numbers:
    """From one slice to the next, positions (slices, 3) being sorted."""
    gaps_mm = np.diff(positions @ normal)
    usual_mm = float(np.median(gaps_mm))
    tolerance_mm = max(SPACING_TOLERANCE * usual_mm, _ROUNDING_MM)
    if gaps_mm.min() <= _ROUNDING_MM:
        place = int(gaps_mm.argmin())
        raise ScanError(
            f"{name}: has several slices at one position ({_place(positions[place])}); "
            "one volume is wanted, not several times, echoes or copies of it."
        )
    if (np.abs(gaps_mm - usual_mm) > tolerance_mm).any():
        _refuse_gaps(positions, gaps_mm, name)
    step: Numbers = (positions[-1] - positions[0]) / (len(positions) - 1)
    return step


def _refuse_gaps(positions: Numbers, gaps_mm: Numbers, name: str) -> None:
    """Tell missing slices, which leave gaps of a multiple of the others, from uneven spacing."""
    least_mm = float(gaps_mm.min())
    multiples = np.rint(gaps_mm / least_mm)
    if (np.abs(gaps_mm - multiples * least_mm) <= np.maximum(SPACING_TOLERANCE * gaps_mm, _ROUNDING_MM)).all():
        place = int(multiples.argmax())
        lacking = int(multiples.sum()) - len(gaps_mm)
        slices = "1 slice" if lacking == 1 else f"{lacking} slices, the first"
        raise ScanError(f"{name}: lacks {slices} after {_place(positions[place])}; every slice is wanted.")
    raise ScanError(
        f"{name}: has slices {least_mm:.3f} to {gaps_mm.max():.3f} mm apart; evenly spaced ones are wanted."
    )


def _check_drift(positions: Numbers, normal: Numbers, smallest_mm: float, name: str) -> None:
    """Refuse slices that are not one above the other along the normal: no grid at right angles has them all."""
    along = positions - positions[0]
    beside_mm = np.linalg.norm(along - np.outer(along @ normal, normal), axis=1)
    if beside_mm.max() > DRIFT_TOLERANCE * smallest_mm:
        raise ScanError(
            f"{name}: has slices {beside_mm.max():.3g} mm beside the normal through the first; "
            "a stack at right angles is wanted."
        )


def _place(position: Numbers) -> str:
    return "({:.2f}, {:.2f}, {:.2f}) mm".format(*position)
