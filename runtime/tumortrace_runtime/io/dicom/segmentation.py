"""Masks as DICOM segmentations (PS3.3, A.51), a frame for each slice of the series that they lie on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.algorithm import Algorithm, Code, Segment
from tumortrace_runtime.errors import ScanError
from tumortrace_runtime.files import sha256_bytes
from tumortrace_runtime.io.dicom import derived
from tumortrace_runtime.io.dicom.geometry import DicomGeometry
from tumortrace_runtime.io.dicom.planes import Plane, planes_of
from tumortrace_runtime.libraries import import_library

SERIES_NUMBER = 9001

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
"""The SOP class of single-frame images."""

_FAMILY = Code("123110", "DCM", "Artificial Intelligence")
_PLACEHOLDER = "2.25."
_NOTHING = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
)
_NO_FILE = Path("header")
_LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")


def build_segmentation(
    geometry: DicomGeometry,
    mask: npt.NDArray[np.uint8],
    algorithm: Algorithm,
) -> Any:
    """A segmentation of type BINARY; one without a voxel is as valid as any.

    Args:
        geometry: of the scan that the mask is of.
        mask: (slices, rows, columns) classes on the scan's grid.
        algorithm: what made it; the class n is its n-th segment.

    Returns:
        The instance, a highdicom `Segmentation`. The same arguments give the same bytes.

    Raises:
        ScanError: the mask has a class that the algorithm does not describe, or the source's header is damaged.
        InputError: highdicom is not installed.
    """
    highdicom = import_library("highdicom")
    source = geometry.source
    stored = np.ascontiguousarray(source.to_stored(mask))
    if (highest := stored.max(initial=0)) > len(algorithm.segments):
        raise ScanError(f"The mask has the class {highest}; {algorithm.name} describes {len(algorithm.segments)}.")
    series = derived.series_uid("SEG", geometry.sources, algorithm)
    instance = derived.derived_uid(series, sha256_bytes(stored.tobytes()))
    with derived.from_header(source):
        dataset = highdicom.seg.Segmentation(
            source_images=_planes(geometry),
            pixel_array=stored,
            segmentation_type="BINARY",
            segment_descriptions=[
                _describe(segment, number, series, algorithm) for number, segment in enumerate(algorithm.segments, 1)
            ],
            series_instance_uid=series,
            series_number=SERIES_NUMBER,
            sop_instance_uid=instance,
            instance_number=1,
            series_description=derived.text(f"{derived.MANUFACTURER} segmentation, research output"),
            content_label="SEGMENTATION",
            content_description=derived.RESEARCH,
            omit_empty_frames=False,
            **derived.equipment(algorithm),
            **derived.content_moment(source.headers[0]),
        )
        _refer(dataset, geometry)
        _fix_dimensions(dataset, derived.derived_uid(instance, "dimensions"))
        derived.finish(dataset, source)
    return dataset


def _planes(geometry: DicomGeometry) -> list[Any]:
    """The stored slices as headers that say where each is, and nothing of the patient.

    highdicom logs what it finds odd, and takes one multi-frame image at most; so it is shown single frames whose names
    are their numbers.
    """
    source = geometry.source
    stored = {plane.image: plane for header in source.headers for plane in planes_of(header, _NO_FILE)}
    same = derived.dataset_of(_same_for_all(geometry, stored[source.slices[0]]))
    planes = []
    for number, image in enumerate(source.slices):
        position = _decimals(*stored[image].position)
        plane = derived.dataset_of({"SOPInstanceUID": f"{_PLACEHOLDER}{number}", "ImagePositionPatient": position})
        plane.update(same)
        planes.append(plane)
    return planes


def _same_for_all(geometry: DicomGeometry, first: Plane) -> dict[str, Any]:
    source = geometry.source
    slice_mm = _decimals(float(np.linalg.norm(source.affine[:3, 0])))[0]
    header = derived.readable(source.headers[0])
    return {
        "SOPClassUID": MR_IMAGE,
        "StudyInstanceUID": source.study_uid,
        "SeriesInstanceUID": source.series_uid,
        "FrameOfReferenceUID": geometry.frame_of_reference_uid,
        "Rows": source.shape[1],
        "Columns": source.shape[2],
        "ImageOrientationPatient": _decimals(*first.orientation),
        "PixelSpacing": _decimals(*first.spacing_mm),
        "SliceThickness": slice_mm,
        "SpacingBetweenSlices": slice_mm,
        **dict.fromkeys(_NOTHING, ""),
        **{keyword: header[keyword].value for keyword in _LOSSY if keyword in header},
    }


def _decimals(*values: float) -> list[Any]:
    """Numbers in the 16 characters that DICOM has for them."""
    decimal = import_library("pydicom.valuerep").DSfloat
    return [decimal(float(value), auto_format=True) for value in values]


def _describe(segment: Segment, number: int, series: str, algorithm: Algorithm) -> Any:
    highdicom = import_library("highdicom")
    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=segment.label,
        segmented_property_category=_concept(segment.category),
        segmented_property_type=_concept(segment.type),
        algorithm_type="AUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=derived.text(algorithm.name),
            family=_concept(_FAMILY),
            version=derived.text(algorithm.version),
            source=derived.MANUFACTURER,
            parameters={name: derived.text(value) for name, value in algorithm.parameters.items()},
        ),
        tracking_id=segment.label,
        tracking_uid=derived.derived_uid(series, "segment", str(number)),
    )


def _concept(code: Code) -> Any:
    return import_library("highdicom.sr").CodedConcept(code.value, code.scheme, code.meaning)


def _refer(dataset: Any, geometry: DicomGeometry) -> None:
    """Let the instance refer to the images themselves, in place of the headers that stood for them."""
    by_series = {each.series_uid: derived.image_references(each) for each in geometry.sources}
    dataset.SourceImageSequence = [item for items in by_series.values() for item in items]
    dataset.ReferencedSeriesSequence = [
        derived.dataset_of({"SeriesInstanceUID": uid, "ReferencedInstanceSequence": items})
        for uid, items in by_series.items()
    ]
    frames = [frame.DerivationImageSequence[0] for frame in dataset.PerFrameFunctionalGroupsSequence]
    items = [item for frame in frames for item in frame.SourceImageSequence]
    for item in {id(item): item for item in items}.values():  # segments share those of a slice
        image = geometry.source.slices[int(item.ReferencedSOPInstanceUID.removeprefix(_PLACEHOLDER))]
        item.ReferencedSOPClassUID = geometry.source.sop_class_uid
        item.ReferencedSOPInstanceUID = image.sop_instance_uid
        if image.frame is not None:
            item.ReferencedFrameNumber = image.frame


def _fix_dimensions(dataset: Any, uid: str) -> None:
    for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid
