"""DICOM images of phantoms: the headers that make arrays classic or enhanced MR images (PS3.3, A.4 and A.36)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.io.dicom.geometry import Source
from tumortrace_runtime.libraries import import_library

_CLASSIC, _ENHANCED = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"
_EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
_BITS = 12
_DATE, _TIME = "20240101", "120000"

_ENHANCED_GROUPS: Mapping[str, tuple[str, str]] = {
    "RepetitionTime": ("MRTimingAndRelatedParametersSequence", "RepetitionTime"),
    "EchoTime": ("MREchoSequence", "EffectiveEchoTime"),
    "InversionTime": ("MRModifierSequence", "InversionTimes"),
}
"""Where enhanced images have what classic ones have in the header."""


@dataclass(frozen=True)
class SeriesHeader:
    """What a series says of itself.

    Attributes:
        case_id: name and number of the patient that there is none of.
        identity: what its UIDs come of; series of one study have the same.
        number: SeriesNumber.
        sequence: keyword to value, as classic images have them.
        frame_of_reference_uid: of its coordinates.
    """

    case_id: str
    identity: tuple[str, ...]
    number: int
    sequence: Mapping[str, Any]
    frame_of_reference_uid: str

    @property
    def study_uid(self) -> str:
        """StudyInstanceUID."""
        return make_uid(*self.identity, "study")

    @property
    def series_uid(self) -> str:
        """SeriesInstanceUID."""
        return make_uid(*self.identity, f"series {self.number}")

    def image_uid(self, number: int) -> str:
        """SOPInstanceUID of an image, the first being 1."""
        return make_uid(*self.identity, f"series {self.number} image {number}")

    def sop_class_uid(self, enhanced: bool) -> str:
        """SOPClassUID."""
        return _ENHANCED if enhanced else _CLASSIC


def make_uid(*words: str) -> str:
    """The UID that belongs to these words.

    Raises:
        InputError: pydicom is not installed.
    """
    return str(import_library("pydicom.uid").generate_uid(entropy_srcs=list(words)))


def classic_images(header: SeriesHeader, source: Source, stored: npt.NDArray[np.uint16]) -> list[Any]:
    """A dataset for each slice of `stored`, (slices, rows, columns)."""
    return [_classic(header, source, stored[number], number) for number in range(len(stored))]


def enhanced_image(header: SeriesHeader, source: Source, stored: npt.NDArray[np.uint16]) -> Any:
    """One dataset with every slice of `stored`, (slices, rows, columns), as a frame."""
    dataset = _begin(header, _ENHANCED, header.image_uid(1), stored)
    dataset.NumberOfFrames = len(stored)
    dataset.InstanceNumber = 1
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "OTHER", "NONE"]
    dataset.SharedFunctionalGroupsSequence = [_shared_groups(header, source)]
    dataset.PerFrameFunctionalGroupsSequence = [_frame_groups(source, number) for number in range(len(stored))]
    dataset.EchoPulseSequence = "SPIN"
    if "ContrastBolusAgent" in header.sequence:
        dataset.ContrastBolusAgentSequence = [
            _item(CodeValue="C-B03CD", CodingSchemeDesignator="SRT", CodeMeaning="Gd")
        ]
    dataset.SeriesDescription = header.sequence["SeriesDescription"]
    return dataset


def _classic(header: SeriesHeader, source: Source, pixels: npt.NDArray[np.uint16], number: int) -> Any:
    dataset = _begin(header, _CLASSIC, header.image_uid(number + 1), pixels)
    dataset.InstanceNumber = number + 1
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    dataset.ScanOptions = ""
    dataset.MRAcquisitionType = "2D"
    dataset.EchoTrainLength = 1
    for keyword, value in header.sequence.items():
        setattr(dataset, keyword, value)
    for keyword, value in {**_measures(source), **_orientation(source), **_position(source, number)}.items():
        setattr(dataset, keyword, value)
    return dataset


def _begin(header: SeriesHeader, sop_class_uid: str, uid: str, pixels: npt.NDArray[np.uint16]) -> Any:
    """Everything that classic and enhanced images have in common."""
    dataset = _item(
        SOPClassUID=sop_class_uid,
        SOPInstanceUID=uid,
        StudyInstanceUID=header.study_uid,
        SeriesInstanceUID=header.series_uid,
        FrameOfReferenceUID=header.frame_of_reference_uid,
        PositionReferenceIndicator="",
        Modality="MR",
        Manufacturer="TumorTrace",
        ManufacturerModelName="phantom",
        DeviceSerialNumber="0",
        SoftwareVersions="phantom",
        PatientName=f"Phantom^{header.case_id}",
        PatientID=header.case_id,
        PatientBirthDate="",
        PatientSex="O",
        ReferringPhysicianName="",
        AccessionNumber="",
        StudyID="1",
        SeriesNumber=header.number,
        PatientPosition="HFS",
        SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2",
        Rows=pixels.shape[-2],
        Columns=pixels.shape[-1],
        BitsAllocated=16,
        BitsStored=_BITS,
        HighBit=_BITS - 1,
        PixelRepresentation=0,
        PixelData=pixels.tobytes(),
        **{f"{event}{what}": value for event in ("Study", "Series", "Content") for what, value in _WHEN.items()},
    )
    dataset.file_meta = import_library("pydicom.dataset").FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = import_library("pydicom.uid").UID(_EXPLICIT_LITTLE_ENDIAN)
    dataset.file_meta.MediaStorageSOPClassUID = sop_class_uid
    dataset.file_meta.MediaStorageSOPInstanceUID = uid
    return dataset


_WHEN = {"Date": _DATE, "Time": _TIME}


def _shared_groups(header: SeriesHeader, source: Source) -> Any:
    groups: dict[str, dict[str, Any]] = {
        "PixelMeasuresSequence": _measures(source),
        "PlaneOrientationSequence": _orientation(source),
        "MRModifierSequence": {"InversionRecovery": "YES" if "InversionTime" in header.sequence else "NO"},
        "PixelValueTransformationSequence": {"RescaleSlope": 1, "RescaleIntercept": 0, "RescaleType": "US"},
        "MRImageFrameTypeSequence": {"FrameType": ["ORIGINAL", "PRIMARY", "OTHER", "NONE"]},
    }
    for keyword, value in header.sequence.items():
        if keyword in _ENHANCED_GROUPS:
            group, name = _ENHANCED_GROUPS[keyword]
            groups.setdefault(group, {})[name] = value
    return _item(**{name: [_item(**values)] for name, values in groups.items()})


def _frame_groups(source: Source, number: int) -> Any:
    content = _item(StackID="1", InStackPositionNumber=number + 1, DimensionIndexValues=[1, number + 1])
    return _item(FrameContentSequence=[content], PlanePositionSequence=[_item(**_position(source, number))])


def _measures(source: Source) -> dict[str, Any]:
    slice_mm, row_mm, column_mm = np.linalg.norm(source.affine[:3, :3], axis=0)
    depth_mm = _decimal(slice_mm)
    return {
        "PixelSpacing": _decimals((row_mm, column_mm)),
        "SliceThickness": depth_mm,
        "SpacingBetweenSlices": depth_mm,
    }


def _orientation(source: Source) -> dict[str, Any]:
    _, rows_to, columns_to = (source.affine[:3, :3] / np.linalg.norm(source.affine[:3, :3], axis=0)).T
    return {"ImageOrientationPatient": _decimals((*columns_to, *rows_to))}


def _position(source: Source, number: int) -> dict[str, Any]:
    return {"ImagePositionPatient": _decimals(source.affine[:3] @ (number, 0, 0, 1))}


def _decimals(values: Any) -> list[Any]:
    return [_decimal(value) for value in values]


def _decimal(value: Any) -> Any:
    return import_library("pydicom.valuerep").DSfloat(float(value), auto_format=True)


def _item(**values: Any) -> Any:
    dataset = import_library("pydicom").Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset
