"""What tests know of the studies that they write: whom they show, where voxels are, and what made the masks."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom

from tumortrace.phantom import DicomForm
from tumortrace_runtime.algorithm import Algorithm
from tumortrace_runtime.errors import SpecError

Array = npt.NDArray[Any]

ALGORITHM = Algorithm("tiny", "ab" * 32, {"backend": "openvino 2026.4.1", "precision": "int8"})
PATIENT = {
    "PatientName": "Müller^Jörg",
    "PatientID": "PID-4711",
    "PatientBirthDate": "19611231",
    "PatientSex": "M",
    "AccessionNumber": "ACC-0815",
    "StudyID": "77",
    "ReferringPhysicianName": "Referrer^Rita",
}


def name_patient(image: Any) -> None:
    """Make an image one of `PATIENT`."""
    image.SpecificCharacterSet = "ISO_IR 192"
    for keyword, value in PATIENT.items():
        setattr(image, keyword, value)


def is_right_handed(axes: str) -> bool:
    try:
        DicomForm(axes=axes)
    except SpecError:
        return False
    return True


AXES = [
    axes
    for letters in permutations(("RL", "AP", "IS"))
    for signs in product((0, 1), repeat=3)
    if is_right_handed(axes := "".join(pair[sign] for pair, sign in zip(letters, signs, strict=True)))
]
TILTS = [(0.0, 0.0, 0.0), (12.0, -25.0, 7.0)]
FORMS = [DicomForm(enhanced, axes, tilt) for axes in AXES for enhanced, tilt in zip((False, True), TILTS, strict=True)]
FORMS += [replace(form, enhanced=not form.enhanced) for form in FORMS[::7]]


def places_by_the_standard(folder: Path) -> dict[int, Array]:
    """Of every pixel value its place: PS3.3, equation C.7.6.2.1-1, written out for pydicom's datasets."""
    found: dict[int, Array] = {}
    for path in folder.iterdir():
        image = pydicom.dcmread(path)
        pixels = image.pixel_array.reshape(-1, image.Rows, image.Columns)
        for frame in range(len(pixels)):
            position, orientation, spacing = image, image, image
            if "PerFrameFunctionalGroupsSequence" in image:
                shared = image.SharedFunctionalGroupsSequence[0]
                position = image.PerFrameFunctionalGroupsSequence[frame].PlanePositionSequence[0]
                orientation, spacing = shared.PlaneOrientationSequence[0], shared.PixelMeasuresSequence[0]
            x_x, x_y, x_z, y_x, y_y, y_z = map(float, orientation.ImageOrientationPatient)
            s_x, s_y, s_z = map(float, position.ImagePositionPatient)
            between_rows, between_columns = map(float, spacing.PixelSpacing)
            for j, i in np.ndindex(image.Rows, image.Columns):
                found[int(pixels[frame, j, i])] = np.array(
                    [
                        x_x * between_columns * i + y_x * between_rows * j + s_x,
                        x_y * between_columns * i + y_y * between_rows * j + s_y,
                        x_z * between_columns * i + y_z * between_rows * j + s_z,
                    ]
                )
    return found
