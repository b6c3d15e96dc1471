"""Where a DICOM series lies, how it is stored, and the way between its stored axes and those of a scan."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.io.scan import Geometry

_SCAN_AXES_LPS = (2, 1, 0)
"""Slices, rows and columns of a scan run along +z (superior), +y (posterior) and +x (left) of DICOM's patient axes."""


@dataclass(frozen=True)
class StoredSlice:
    """The image that holds one slice.

    Attributes:
        sop_instance_uid: of its instance.
        frame: its number there, from 1; None in a single-frame image.
    """

    sop_instance_uid: str
    frame: int | None = None


@dataclass(frozen=True)
class Source:
    """A series as it is stored, for writers that refer to it.

    Attributes:
        study_uid, series_uid: StudyInstanceUID and SeriesInstanceUID.
        sop_class_uid: of all its instances.
        slices: the images of the stored slices, in the order of `affine`: along the normal, row x column direction.
        headers: pydicom datasets without pixels, one for each instance, in the order of `slices`.
        shape: (slices, rows, columns) as stored.
        affine: (4, 4) float64, indices (slice, row, column) as stored to patient coordinates (LPS) in mm.
    """

    study_uid: str
    series_uid: str
    sop_class_uid: str
    slices: tuple[StoredSlice, ...]
    headers: tuple[Any, ...]
    shape: tuple[int, int, int]
    affine: npt.NDArray[np.float64]

    @property
    def multi_frame(self) -> bool:
        """Whether the slices are frames of multi-frame images."""
        return self.slices[0].frame is not None

    def to_scan(self, stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A view of an array (slices, rows, columns) as stored, with the axes that a scan has."""
        order, flipped = turn(self.affine)
        return np.flip(stored.transpose(order), flipped)

    def to_stored(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A view of an array (slices, rows, columns) with a scan's axes in the axes of the stored slices."""
        order, flipped = turn(self.affine)
        return np.flip(array, flipped).transpose(np.argsort(order))


@dataclass(frozen=True)
class DicomGeometry(Geometry):
    """Where the voxels of a scan from DICOM are.

    Attributes:
        affine: (4, 4) float64, indices (slice, row, column) of the scan's arrays to patient coordinates (LPS) in mm,
            voxel centres.
        frame_of_reference_uid: of these coordinates.
        source: the series on whose grid the scan is.
        others: those that its other channels are from.
    """

    _: KW_ONLY
    affine: npt.NDArray[np.float64]
    frame_of_reference_uid: str
    source: Source
    others: tuple[Source, ...] = ()

    @property
    def affine_lps(self) -> npt.NDArray[np.float64]:
        """See `Geometry`."""
        return self.affine

    @property
    def sources(self) -> tuple[Source, ...]:
        """Every series that the scan is from, that of its grid first."""
        return (self.source, *self.others)


def geometry_of(source: Source, frame_of_reference_uid: str) -> DicomGeometry:
    """The geometry of a scan on the grid of a series."""
    affine = scan_affine(source.affine, source.shape)
    slice_mm, row_mm, column_mm = np.linalg.norm(affine[:3, :3], axis=0).tolist()
    return DicomGeometry(
        (slice_mm, row_mm, column_mm), affine=affine, frame_of_reference_uid=frame_of_reference_uid, source=source
    )


def turn(affine: npt.NDArray[np.float64]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """How stored axes become a scan's: which stored axis each one is, and which of the scan's are then flipped.

    Args:
        affine: (4, 4), stored indices to LPS. An oblique axis takes the nearest patient axis that is free, the one
            closest to its own first, as `nibabel.io_orientation` has it.
    """
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    free = directions.copy()
    patient_axis = np.empty(3, int)
    for stored in np.argsort(-(directions**2).max(axis=0), kind="stable"):
        patient_axis[stored] = np.abs(free[:, stored]).argmax()
        free[patient_axis[stored]] = 0
    order = tuple(int(np.flatnonzero(patient_axis == axis)[0]) for axis in _SCAN_AXES_LPS)
    flipped = [number for number, axis in enumerate(_SCAN_AXES_LPS) if directions[axis, order[number]] < 0]
    return order, tuple(flipped)


def scan_affine(affine: npt.NDArray[np.float64], shape: tuple[int, int, int]) -> npt.NDArray[np.float64]:
    """The affine of a scan whose stored slices have this affine and shape."""
    order, flipped = turn(affine)
    turned = affine[:, [*order, 3]].copy()
    for axis in flipped:
        turned[:3, 3] += turned[:3, axis] * (shape[order[axis]] - 1)
        turned[:3, axis] *= -1
    return turned
