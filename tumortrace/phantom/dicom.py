"""Phantoms as DICOM studies: a series a sequence, classic or enhanced, in any orientation, where the truth is known."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tumortrace.phantom.dicom_headers import SeriesHeader, classic_images, enhanced_image, make_uid
from tumortrace.phantom.generate import Phantom
from tumortrace_runtime.errors import SpecError
from tumortrace_runtime.files import atomic_directory
from tumortrace_runtime.io.dicom.geometry import Source, StoredSlice, geometry_of

Affine = npt.NDArray[np.float64]

ORIENTATIONS: Mapping[str, str] = {"axial": "LPS", "sagittal": "PIR", "coronal": "LIP"}
"""Where columns, rows and slices run to, in the orientations that have a name."""

MOST_TILT_DEGREES = 30.0
"""Beyond it another patient axis may be the nearest."""

SEQUENCES: Mapping[str, Mapping[str, Any]] = {
    "t1": {
        "SeriesDescription": "T1 SE",
        "ScanningSequence": "SE",
        "SequenceVariant": "NONE",
        "RepetitionTime": 520.0,
        "EchoTime": 12.0,
    },
    "flair": {
        "SeriesDescription": "T2 FLAIR",
        "ScanningSequence": ["SE", "IR"],
        "SequenceVariant": "SK",
        "RepetitionTime": 9000.0,
        "EchoTime": 120.0,
        "InversionTime": 2500.0,
    },
    "t1ce": {
        "SeriesDescription": "T1 SE POST",
        "ScanningSequence": "SE",
        "SequenceVariant": "NONE",
        "RepetitionTime": 520.0,
        "EchoTime": 12.0,
        "ContrastBolusAgent": "GADOBUTROL",
    },
}
"""What the header of each sequence's series says."""

_PATIENT_AXES = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}


@dataclass(frozen=True)
class DicomForm:
    """How a phantom is stored.

    Attributes:
        enhanced: whether a series is one image of many frames, in place of a classic image a slice.
        axes: where columns, rows and slices run to, such as "LPS" for axial slices: one of the 24 that are
            right-handed, as DICOM has them.
        tilt_degrees: how the head lies turned about the axes to the left, posterior and superior.
    """

    enhanced: bool = False
    axes: str = ORIENTATIONS["axial"]
    tilt_degrees: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        if len(self.axes) != 3 or {_PATIENT_AXES[letter][0] for letter in self.axes if letter in _PATIENT_AXES} != {
            0,
            1,
            2,
        }:
            raise SpecError(f"axes {self.axes!r} given; three of L, R, P, A, S, I wanted, as LPS for axial slices.")
        if np.linalg.det(_directions(self.axes)) < 0:
            raise SpecError(f"axes {self.axes!r} are left-handed, which DICOM is not; turn one of them round.")
        if max(map(abs, self.tilt_degrees)) > MOST_TILT_DEGREES:
            raise SpecError(
                f"tilt {self.tilt_degrees} degrees given; up to {MOST_TILT_DEGREES:g} about each axis wanted."
            )


def write_study(phantom: Phantom, root: Path, form: DicomForm) -> Phantom:
    """Write the new folder `root`/`case_id` with a series a sequence; the phantom, with the geometry that it has there.

    UIDs come of the case and the form alone. Nothing in the headers is of a patient.

    Raises:
        OutputError: the folder exists, or could not be written; nothing is left behind.
        InputError: pydicom is not installed.
    """
    scan = phantom.scan
    assert scan.geometry.spacing_mm is not None
    identity = (scan.case_id, str(form))
    affine = stored_affine(scan.voxels.shape[:3], scan.geometry.spacing_mm, form)
    frame_of_reference_uid = make_uid(*identity, "frame of reference")
    with atomic_directory(root / scan.case_id) as folder:
        for number, channel in enumerate(scan.channels, start=1):
            header = SeriesHeader(scan.case_id, identity, number, SEQUENCES[channel], frame_of_reference_uid)
            source = write_series(
                folder / f"{number}-{channel}", scan.voxels[..., number - 1], affine, header, form.enhanced
            )
    return replace(phantom, scan=replace(scan, geometry=geometry_of(source, frame_of_reference_uid)))


def write_series(
    folder: Path, voxels: npt.NDArray[Any], affine: Affine, header: SeriesHeader, enhanced: bool = False
) -> Source:
    """Write one series as new files in a new folder.

    Args:
        folder: to make.
        voxels: (slices, rows, columns) with the axes of a scan, of values that 12 bits hold.
        affine: (4, 4), indices (slice, row, column) as stored to LPS in mm.
        header: what the series says of itself.
        enhanced: whether to write one image of many frames.

    Returns:
        What the reader makes of it, without headers.
    """
    source = _source(voxels.shape, affine, header, enhanced)
    stored = np.ascontiguousarray(source.to_stored(voxels)).astype("<u2")
    images = [enhanced_image(header, source, stored)] if enhanced else classic_images(header, source, stored)
    folder.mkdir(parents=True)
    for number, image in enumerate(images, start=1):
        image.save_as(folder / f"{number:04d}.dcm", enforce_file_format=True)
    return source


def stored_affine(shape: Sequence[int], spacing_mm: tuple[float, float, float], form: DicomForm) -> Affine:
    """The affine with which a scan is stored, its middle at the origin.

    Args:
        shape: (slices, rows, columns) of the scan.
        spacing_mm: between them.
        form: how it is stored.

    Returns:
        (4, 4), indices (slice, row, column) as stored to LPS in mm.
    """
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for stored, (axis, sign) in enumerate(_PATIENT_AXES[letter] for letter in reversed(form.axes)):
        along = 2 - axis  # a scan's slices run along z, its columns along x
        affine[axis, stored] = sign * spacing_mm[along]
        affine[axis, 3] = -sign * spacing_mm[along] * (shape[along] - 1) / 2
    affine[:3] = _rotation(form.tilt_degrees) @ affine[:3]
    return affine


def _source(shape: Sequence[int], affine: Affine, header: SeriesHeader, enhanced: bool) -> Source:
    order = np.abs(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)).argmax(axis=0)
    slices, rows, columns = (shape[2 - axis] for axis in order)
    images = _stored_slices(header, slices, enhanced)
    return Source(
        study_uid=header.study_uid,
        series_uid=header.series_uid,
        sop_class_uid=header.sop_class_uid(enhanced),
        slices=tuple(images),
        headers=(),
        shape=(slices, rows, columns),
        affine=affine,
    )


def _stored_slices(header: SeriesHeader, count: int, enhanced: bool) -> Iterator[StoredSlice]:
    for number in range(1, count + 1):
        yield StoredSlice(header.image_uid(1), number) if enhanced else StoredSlice(header.image_uid(number))


def _directions(axes: str) -> Affine:
    matrix = np.zeros((3, 3))
    for column, (axis, sign) in enumerate(map(_PATIENT_AXES.__getitem__, axes)):
        matrix[axis, column] = sign
    return matrix


def _rotation(degrees: tuple[float, float, float]) -> Affine:
    rotation = np.eye(3)
    for axis, angle in enumerate(map(math.radians, degrees)):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = math.cos(angle)
        turn[second, first], turn[first, second] = math.sin(angle), -math.sin(angle)
        rotation = turn @ rotation
    return rotation
