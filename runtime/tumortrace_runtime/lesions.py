"""The lesions of a mask: connected components in 3-D."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tumortrace_runtime import _native
from tumortrace_runtime.errors import InputError
from tumortrace_runtime.postprocess import Connectivity

Triple = tuple[int, int, int]
Points = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Diameters:
    """The two diameters of a lesion that RANO's bidimensional product is made of.

    They are of one connected part of the lesion in one slice, and end in the middles of pixels' outer edges, so that n
    pixels in a line are n pixels long. Points are in the coordinates of pixel indices, where a pixel's centre is at its
    index. Source: Wen et al. 2010, J Clin Oncol 28:1963.

    Attributes:
        slice: the one in which a part is longest.
        longest_mm: its longest diameter there, or None where the spacing is not known.
        perpendicular_mm: the longest at right angles to it in the same slice, or None likewise.
        longest_ends: the (row, column) of both ends of the longest.
        perpendicular_ends: those of the other.
    """

    slice: int
    longest_mm: float | None
    perpendicular_mm: float | None
    longest_ends: Points
    perpendicular_ends: Points


@dataclass(frozen=True)
class Lesion:
    """One connected component.

    Attributes:
        label: 1 for the largest lesion, 2 for the next, and so on.
        voxels: size.
        volume_ml: size in millilitres, or None where the spacing is not known.
        centroid: mean (slice, row, column) index of its voxels, which may lie outside a curved lesion.
        bounding_box: least (slice, row, column) index inside, and the greatest plus one.
        diameters: how long it is in the slice where it is longest, and how wide.
        confidence: mean calibrated probability of its voxels, the share of them that is expected to be tumour; None
            where probabilities are not to be had.
        highest_confidence: that of the voxel that is the most certainly tumour, or None likewise.
    """

    label: int
    voxels: int
    volume_ml: float | None
    centroid: tuple[float, float, float]
    bounding_box: tuple[Triple, Triple]
    diameters: Diameters
    confidence: float | None
    highest_confidence: float | None

    def to_dict(self) -> dict[str, Any]:
        """Every field by name, as JSON stores it."""
        return dataclasses.asdict(self)


def label_lesions(mask: npt.NDArray[np.generic], connectivity: Connectivity = 26) -> npt.NDArray[np.uint32]:
    """Which lesion each voxel of a mask belongs to.

    Args:
        mask: (slices, rows, columns) of any dtype, non-zero for lesion.
        connectivity: which voxels belong together: 6 share a face, 18 an edge too, 26 a corner too.

    Returns:
        (slices, rows, columns), 1 for the largest lesion, of equal ones that whose first voxel comes first; 0 for none.

    Raises:
        InputError: another number of axes, or an extent of 0 or above 65535.
    """
    if mask.ndim != 3:
        raise InputError(f"mask: shape {mask.shape} given; (slices, rows, columns) wanted.")
    core = _native.Postprocessor(threshold_logit=0.0, connectivity=connectivity)
    try:
        _, labels, *_ = core.segment_mask(np.ascontiguousarray(mask != 0).view(np.uint8), labels=True)
    except ValueError as error:
        raise InputError(f"mask: {error}") from None
    assert labels is not None
    return labels
