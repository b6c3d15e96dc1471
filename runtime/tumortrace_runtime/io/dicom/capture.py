"""Pictures as DICOM secondary captures (PS3.3, A.8), marked as what they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.algorithm import Algorithm
from tumortrace_runtime.files import sha256_bytes
from tumortrace_runtime.io.dicom import derived
from tumortrace_runtime.io.dicom.geometry import DicomGeometry
from tumortrace_runtime.libraries import import_library
from tumortrace_runtime.overlay import mark

SERIES_NUMBER = 9002


def build_capture(
    geometry: DicomGeometry,
    picture: npt.NDArray[np.uint8],
    algorithm: Algorithm,
) -> Any:
    """A picture of a scan with its mask, with the words "research output, not a medical device" burned in.

    Args:
        geometry: of the scan that it shows.
        picture: (rows, columns, 3) uint8 RGB of slices as a scan has them, columns to the patient's left; it must not
            name the patient, and the instance says that it does not.
        algorithm: what made the mask.

    Returns:
        The instance, a highdicom `SCImage`. The same arguments give the same bytes.

    Raises:
        ScanError: the source's header is damaged.
        InputError: highdicom is not installed.
    """
    source = geometry.source
    marked = mark(picture, derived.RESEARCH)
    series = derived.series_uid("SC", geometry.sources, algorithm)
    labels = ", ".join(segment.label for segment in algorithm.segments)
    with derived.from_header(source):
        dataset = import_library("highdicom.sc").SCImage(
            pixel_array=marked,
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system="PATIENT",
            patient_orientation=("L", "P"),
            study_instance_uid=source.study_uid,
            series_instance_uid=series,
            series_number=SERIES_NUMBER,
            sop_instance_uid=derived.derived_uid(series, sha256_bytes(marked.tobytes())),
            instance_number=1,
            series_description=derived.text(f"{derived.MANUFACTURER} overlay, research output"),
            **derived.equipment(algorithm),
            **derived.content_moment(source.headers[0]),
        )
        dataset.DerivationDescription = (
            f"{derived.RESEARCH}. Outlines ({labels}) by {derived.text(algorithm.name)}, drawn over slices."
        )
        dataset.BodyPartExamined = "BRAIN"
        dataset.BurnedInAnnotation = "NO"  # which means that nothing in it tells who the patient is
        dataset.ImageComments = derived.RESEARCH
        dataset.SourceImageSequence = [item for each in geometry.sources for item in derived.image_references(each)]
        derived.finish(dataset, source)
    return dataset
