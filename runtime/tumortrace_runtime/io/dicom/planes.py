"""What a DICOM header tells of each of its slices: where it lies and how its pixels become values.

A classic image is one slice. An enhanced one has many, each told of in functional groups of its own or in the shared
ones (PS3.3, section C.7.6.16).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.errors import ScanError
from tumortrace_runtime.io.dicom.files import damage_told, uid
from tumortrace_runtime.io.dicom.geometry import StoredSlice

Numbers = npt.NDArray[np.float64]

_CLASSIC = "1.2.840.10008.5.1.4.1.1.4"
"""The SOP class MR Image Storage."""

_ABSURD = 1e6
"""No length of a scan in mm, and no slope, is that large."""


@dataclass(frozen=True)
class Plane:
    """One slice as it is stored.

    Attributes:
        image: what holds it.
        position: (3,) ImagePositionPatient in mm, LPS: the centre of the first pixel.
        orientation: (6,) ImageOrientationPatient: where columns run to, then where rows do.
        spacing_mm: (2,) PixelSpacing: distance between rows, then between columns.
        depth_mm: distance to the next slice as the header tells it, or else the thickness; None without either.
        slope, intercept: value = stored x slope + intercept.
    """

    image: StoredSlice
    position: Numbers
    orientation: Numbers
    spacing_mm: Numbers
    depth_mm: float | None
    slope: float
    intercept: float


def planes_of(header: Any, path: Path) -> list[Plane]:
    """The slices of an image, in the order in which its pixels are stored.

    Raises:
        ScanError: a value that is needed is missing, is no number, or is absurd.
    """
    with damage_told(path):
        frames = header.get("PerFrameFunctionalGroupsSequence")
        if frames is None and int(header.get("NumberOfFrames") or 1) == 1:
            return [_plane(_Classic(header), None, header, path)]
        if header.SOPClassUID == _CLASSIC:
            raise ScanError(f"{path}: tells of frames, and is an MR image of one slice by its class; it is damaged.")
        _check_frames(header, len(frames or ()), path)
        shared = (header.get("SharedFunctionalGroupsSequence") or [None])[0]
        return [_plane(_Enhanced(frame, shared), number, header, path) for number, frame in enumerate(frames, start=1)]


class _Classic:
    """Looks values up in the header of a classic image."""

    def __init__(self, header: Any) -> None:
        self._header = header

    def get(self, macro: str, keyword: str) -> Any:
        """The value of `keyword`, whatever the functional group that an enhanced image would have it in."""
        return self._header.get(keyword)

    def real_world(self) -> Any:
        """The items of the real world value mapping."""
        return self._header.get("RealWorldValueMappingSequence")


class _Enhanced:
    """Looks values up in the functional groups of one frame, and then in the shared ones."""

    def __init__(self, frame: Any, shared: Any) -> None:
        self._groups = (frame,) if shared is None else (frame, shared)

    def get(self, macro: str, keyword: str) -> Any:
        """The value of `keyword` in a functional group."""
        for group in self._groups:
            if macro in group and len(group[macro].value) and keyword in group[macro].value[0]:
                return group[macro].value[0].get(keyword)
        return None

    def real_world(self) -> Any:
        """The items of the real world value mapping."""
        return next((each.RealWorldValueMappingSequence for each in self._groups if _MAPPING in each), None)


_MAPPING = "RealWorldValueMappingSequence"


def _check_frames(header: Any, told: int, path: Path) -> None:
    number = int(header.get("NumberOfFrames") or 0)
    if number != told or not told:
        raise ScanError(f"{path}: has {number} frames and tells of {told}; every frame must be told of.")


def _plane(groups: _Classic | _Enhanced, frame: int | None, header: Any, path: Path) -> Plane:
    where = str(path) if frame is None else f"{path}: frame {frame}"
    spacing_mm = _numbers(groups.get("PixelMeasuresSequence", "PixelSpacing"), "PixelSpacing", 2, where)
    if (spacing_mm <= 0).any():
        raise ScanError(f"{where}: PixelSpacing is not positive; millimetres between rows and columns wanted.")
    orientation = groups.get("PlaneOrientationSequence", "ImageOrientationPatient")
    position = groups.get("PlanePositionSequence", "ImagePositionPatient")
    slope, intercept = _transformation(groups, where)
    return Plane(
        image=StoredSlice(uid(header, "SOPInstanceUID", path), frame),
        position=_numbers(position, "ImagePositionPatient", 3, where),
        orientation=_numbers(orientation, "ImageOrientationPatient", 6, where),
        spacing_mm=spacing_mm,
        depth_mm=_depth_mm(groups, where),
        slope=slope,
        intercept=intercept,
    )


def _depth_mm(groups: _Classic | _Enhanced, where: str) -> float | None:
    for keyword in ("SpacingBetweenSlices", "SliceThickness"):
        value = groups.get("PixelMeasuresSequence", keyword)
        if value not in (None, "") and (depth_mm := float(_numbers(value, keyword, 1, where)[0])) > 0:
            return depth_mm
    return None


def _transformation(groups: _Classic | _Enhanced, where: str) -> tuple[float, float]:
    """Slope and intercept: of the modality's rescaling or pixel value transformation, else of a real world mapping."""
    slope = groups.get("PixelValueTransformationSequence", "RescaleSlope")
    intercept = groups.get("PixelValueTransformationSequence", "RescaleIntercept")
    mappings = groups.real_world()
    if slope is None and intercept is None and mappings is not None and len(mappings) == 1:
        slope, intercept = mappings[0].get("RealWorldValueSlope"), mappings[0].get("RealWorldValueIntercept")
    found = [
        1.0 if slope is None else float(_numbers(slope, "RescaleSlope", 1, where)[0]),
        0.0 if intercept is None else float(_numbers(intercept, "RescaleIntercept", 1, where)[0]),
    ]
    if found[0] <= 0:
        raise ScanError(f"{where}: RescaleSlope is {found[0]:g}; a positive one is wanted.")
    return found[0], found[1]


def _numbers(value: Any, keyword: str, count: int, where: str) -> Numbers:
    """`count` finite numbers.

    Raises:
        ScanError: they are not that.
    """
    if value is None or value == "":
        raise ScanError(f"{where}: has no {keyword}; without it nothing can be put in its place.")
    try:
        found = np.array(value, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError):
        found = np.array([np.nan])
    if len(found) != count or not (np.abs(found) < _ABSURD).all():
        raise ScanError(f"{where}: {keyword} is not {count} numbers, or one is absurd; the image is damaged.")
    return found
