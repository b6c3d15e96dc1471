"""Studies and series: which files belong together, what a series says of itself, and its slices as a volume."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.errors import ScanError
from tumortrace_runtime.io.dicom.files import damage_told, read_header, uid
from tumortrace_runtime.io.dicom.geometry import Source
from tumortrace_runtime.io.dicom.pixels import Pixels, read_pixels, to_values
from tumortrace_runtime.io.dicom.planes import Plane, planes_of
from tumortrace_runtime.io.dicom.stack import stack
from tumortrace_runtime.io.scan import MAX_VOXELS

MR_CLASSES: Mapping[str, str] = {
    "1.2.840.10008.5.1.4.1.1.4": "MR Image Storage",
    "1.2.840.10008.5.1.4.1.1.4.1": "Enhanced MR Image Storage",
    "1.2.840.10008.5.1.4.1.1.4.4": "Legacy Converted Enhanced MR Image Storage",
}
"""What is read, by SOP class (PS3.4, annex B.5)."""

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_SAME_WITHIN_SERIES = (
    "StudyInstanceUID",
    "SOPClassUID",
    "FrameOfReferenceUID",
    "SeriesNumber",
    "SeriesDescription",
    "ContrastBolusAgent",
    "ScanningSequence",
    "EchoTime",
    "InversionTime",
    "Rows",
    "Columns",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
)
_KIND_VALUES = 3
"""Values of ImageType that are standard ones (PS3.3, section C.8.3.1.1.1); makers add others."""

_CODE = re.compile("[A-Z]{2,5}")
_WHOM = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex")


@dataclass(frozen=True)
class Image:
    """One instance of a volume.

    Attributes:
        path: its file.
        header: its dataset without pixels.
        slices: which slice of the volume each of its frames is.
    """

    path: Path
    header: Any
    slices: tuple[int, ...]


@dataclass(frozen=True)
class Volume:
    """A series whose slices make a regular grid.

    Attributes:
        name: what to call it in an error.
        source: the series as it is stored.
        frame_of_reference_uid: of its coordinates.
        planes: its slices, in the order of `source`.
        images: its instances, in the order of `source.headers`.
    """

    name: str
    source: Source
    frame_of_reference_uid: str
    planes: tuple[Plane, ...]
    images: tuple[Image, ...]


def by_study(paths: Sequence[Path]) -> tuple[dict[str, list[Path]], list[Path]]:
    """Files by StudyInstanceUID, without DICOMDIRs; and those whose study cannot be read."""
    studies: dict[str, list[Path]] = {}
    unread = []
    for path in paths:
        try:
            header = read_header(path, ["DirectoryRecordSequence", "StudyInstanceUID"])
            if "StudyInstanceUID" in header or "DirectoryRecordSequence" not in header:
                studies.setdefault(uid(header, "StudyInstanceUID", path), []).append(path)
        except ScanError:
            unread.append(path)
    return studies, unread


def by_series(paths: Sequence[Path]) -> tuple[str, dict[str, list[Path]]]:
    """The StudyInstanceUID of files of a study, and the files by SeriesInstanceUID.

    Raises:
        ScanError: one is damaged, lacks a UID, or is of another study.
    """
    studies: dict[str, Path] = {}
    groups: dict[str, list[Path]] = {}
    for path in paths:
        header = read_header(path, ["StudyInstanceUID", "SeriesInstanceUID"])
        studies.setdefault(uid(header, "StudyInstanceUID", path), path)
        groups.setdefault(uid(header, "SeriesInstanceUID", path), []).append(path)
    if len(studies) > 1:
        first, second, *_ = studies.values()
        raise ScanError(f"{first} and {second.name} are of several studies, or became so while they were read.")
    return next(iter(studies)), groups


def unsuitable(header: Any, path: Path) -> str:
    """Why an image cannot be a sequence of a scan: what it is instead; "" where it can be one."""
    with damage_told(path):
        sop_class, modality = header.get("SOPClassUID"), header.get("Modality")
        if str(sop_class).startswith(_SECONDARY_CAPTURE):
            return "is a secondary capture"
        if modality != "MR":
            return f"is of {_modality(modality)}, not MR"
        if header.get("SamplesPerPixel", 1) != 1 or "COLOR" in getattr(sop_class, "name", "").upper():
            return "is in colour"
        if sop_class not in MR_CLASSES:
            return "is no MR image"
        if header.get("PhotometricInterpretation") not in ("MONOCHROME1", "MONOCHROME2"):
            return "is not grey"
        if "Rows" not in header or "Columns" not in header or "BitsStored" not in header or "HighBit" not in header:
            return "does not tell how its pixels are stored"
        return "has a table of values" if "ModalityLUTSequence" in header else ""


def _modality(told: Any) -> str:
    """A modality that is written as one: anything else may be a word that somebody typed."""
    return f"modality {told}" if _CODE.fullmatch(str(told or "")) else "unknown modality"


def open_volume(paths: Sequence[Path], name: str) -> Volume:
    """The files of a series as a regular grid, of which only the headers are read.

    Raises:
        ScanError: an image is unsuitable, the images do not belong together, or their slices make no grid.
    """
    headers = [read_header(path) for path in paths]
    for header, path in zip(headers, paths, strict=True):
        if problem := unsuitable(header, path):
            raise ScanError(f"{name}: {path} {problem}; grey MR images are wanted.")
    _check_same(headers, paths, name)
    with damage_told(paths[0]):
        return _volume(headers, paths, name)


def read_values(volume: Volume) -> Pixels:
    """The values of a volume, (slices, rows, columns) with the axes of a scan.

    Raises:
        ScanError: pixels are missing or damaged.
        InputError: what decodes them is not installed.
    """
    first, *others = volume.images
    frames = read_pixels(first.path, first.header)
    stored = np.empty(volume.source.shape, frames.dtype)
    stored[list(first.slices)] = frames
    for image in others:
        stored[list(image.slices)] = read_pixels(image.path, image.header)
    return volume.source.to_scan(to_values(stored, volume.planes))


def doubt_of(volume: Volume) -> str:
    """What the numbers of a volume's images say against its being whole, which gaps at its ends would not show.

    Returns:
        "" where they run from 0 or 1 on, where they say nothing, or where one image has them all as frames.
    """
    numbers = [_instance_number(image) for image in volume.images]
    known = {number for number in numbers if number is not None}
    if len(known) < len(numbers) or (len(numbers) == 1 and volume.source.multi_frame):
        return ""
    first, last = min(known), max(known)
    if first in (0, 1) and last - first + 1 == len(known):
        return ""
    if len(known) == 1:
        return f"its image is number {last}"
    return f"its {len(known)} images have numbers from {first} to {last}"


def check_one_patient(volumes: Sequence[Volume]) -> None:
    """Refuse series that show several people, as those of two studies given one UID do.

    Raises:
        ScanError: they do; whom is not said.
    """
    shown = [_whom(volume.images[0].header, volume.images[0].path) for volume in volumes]
    for volume, whom in zip(volumes, shown, strict=True):
        if others := [keyword for keyword in _WHOM if whom[keyword] != shown[0][keyword]]:
            raise ScanError(
                f"{volume.name}: has another {others[0]} than {volumes[0].name.rpartition(': ')[2]}; "
                "series of one patient are wanted."
            )


def _whom(header: Any, path: Path) -> dict[str, str]:
    """Whom an image shows. Empty parts at the end of a name are none (PS3.5, section 6.2.1)."""
    with damage_told(path):
        told = {keyword: str(header.get(keyword) or "") for keyword in _WHOM}
        return told | {"PatientName": told["PatientName"].rstrip("^=")}


def _instance_number(image: Image) -> int | None:
    with damage_told(image.path):
        told = image.header.get("InstanceNumber")
        return None if told in (None, "") else int(told)


def _volume(headers: Sequence[Any], paths: Sequence[Path], name: str) -> Volume:
    told = [planes_of(header, path) for header, path in zip(headers, paths, strict=True)]
    planes = [plane for some in told for plane in some]
    shape = (len(planes), int(headers[0].Rows), int(headers[0].Columns))
    _check_size(shape, name)
    order, affine = stack(planes, name)
    images = _images(paths, headers, [len(some) for some in told], np.argsort(order))
    source = Source(
        study_uid=uid(headers[0], "StudyInstanceUID", paths[0]),
        series_uid=uid(headers[0], "SeriesInstanceUID", paths[0]),
        sop_class_uid=str(headers[0].SOPClassUID),
        slices=tuple(planes[place].image for place in order),
        headers=tuple(image.header for image in images),
        shape=shape,
        affine=affine,
    )
    frame_of_reference_uid = uid(headers[0], "FrameOfReferenceUID", paths[0])
    return Volume(name, source, frame_of_reference_uid, tuple(planes[place] for place in order), images)


def _images(
    paths: Sequence[Path], headers: Sequence[Any], frames: Sequence[int], places: npt.NDArray[np.intp]
) -> tuple[Image, ...]:
    """The instances in the order of the first slice of each.

    Args:
        paths: of the instances.
        headers: of the instances.
        frames: how many each has.
        places: for each frame, one instance's after another's, which slice of the volume it is.
    """
    parts = np.split(places, np.cumsum(frames)[:-1])
    images = [
        Image(path, header, tuple(part.tolist())) for path, header, part in zip(paths, headers, parts, strict=True)
    ]
    return tuple(sorted(images, key=lambda image: min(image.slices)))


def _check_same(headers: Sequence[Any], paths: Sequence[Path], name: str) -> None:
    """Refuse images that are not of one series, or one image that is there twice."""
    seen: dict[str, Path] = {}
    same = _same_within_series(headers[0], paths[0])
    for header, path in zip(headers, paths, strict=True):
        found = _same_within_series(header, path)
        if others := [keyword for keyword in same if found[keyword] != same[keyword]]:
            raise ScanError(f"{name}: {path} has another {others[0]} than {paths[0].name}; images alike are wanted.")
        if twin := seen.get(instance := uid(header, "SOPInstanceUID", path)):
            raise ScanError(f"{name}: {path} and {twin} have one SOPInstanceUID; remove the copy.")
        seen[instance] = path


def _same_within_series(header: Any, path: Path) -> dict[str, Any]:
    with damage_told(path):
        kind = header.get("ImageType") or ()
        kind = (kind,) if isinstance(kind, str) else tuple(kind)[:_KIND_VALUES]
        told = {keyword: header.get(keyword) or None for keyword in _SAME_WITHIN_SERIES}
        return told | {"ImageType": kind} | _whom(header, path)


def _check_size(shape: tuple[int, int, int], name: str) -> None:
    if not 0 < shape[0] * shape[1] * shape[2] <= MAX_VOXELS:
        raise ScanError(
            f"{name}: has {shape[0]} slices of {shape[1]} x {shape[2]} pixels; 1 to {MAX_VOXELS} voxels wanted."
        )
