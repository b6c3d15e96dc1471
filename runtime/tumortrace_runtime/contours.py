"""Borders of masks as polygons, for overlays and for formats that store outlines, such as DICOM's RTSTRUCT.

A polygon goes along the edges between pixels. Its corners are where four pixels meet: pixel (r, c) lies between corners
(r, c) and (r + 1, c + 1), so that its centre is at (r + 0.5, c + 0.5), and a corner minus 0.5 is in the coordinates of
DICOM's and NIfTI's pixel indices. It has corners only where it turns, and its last corner is joined to its first.

Where rows point down, polygons around lesions run clockwise, and those of the holes in them counter-clockwise. Filled
by the even-odd rule they give the mask again, every pixel. OpenCV's `findContours` goes through the centres of the
outermost pixels instead, which takes half a pixel off each side, and leaves nothing of a lesion of one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tumortrace_runtime import _native
from tumortrace_runtime.errors import InputError

Corners = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Contour:
    """One border of a lesion in a slice.

    Attributes:
        label: the lesion's.
        hole: whether it goes around a hole in the lesion.
        corners: (n, 2) int32, the (row, column) of each.
    """

    label: int
    hole: bool
    corners: Corners


def mask_contours(mask: npt.NDArray[np.generic]) -> list[Corners]:
    """Every border of a mask, each (n, 2) int32, the (row, column) of its corners.

    >>> mask_contours(np.array([[0, 1, 1]]))
    [array([[0, 1],
           [0, 3],
           [1, 3],
           [1, 1]], dtype=int32)]

    Args:
        mask: (rows, columns), non-zero for lesion. Pixels that share a corner belong together.

    Raises:
        InputError: another number of axes, or an extent of 0 or above 65535.
    """
    if mask.ndim != 2:
        raise InputError(f"mask: shape {mask.shape} given; (rows, columns) wanted.")
    try:
        return _native.mask_contours(np.ascontiguousarray(mask != 0).view(np.uint8))
    except ValueError as error:
        raise InputError(f"mask: {error}") from None
