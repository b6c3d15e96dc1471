"""Small DICOM series written with pydicom alone, and the scans that they are."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations, product
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage

from tumortrace_runtime.algorithm import Algorithm
from tumortrace_runtime.io import CaseFiles, Scan
from tumortrace_runtime.io.dicom import Source, StoredSlice, geometry_of

Matrix = npt.NDArray[np.float64]

SHAPE = (5, 12, 10)
SPACING_MM = (4.0, 1.25, 0.75)
FIRST_MM = (-71.123456, 33.25, -12.0625)
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

ROTATIONS = [
    matrix
    for axes in permutations(range(3))
    for signs in product((-1, 1), repeat=3)
    if np.linalg.det(matrix := np.eye(3)[list(axes)] * signs) > 0
]
"""The 24 ways in which columns, rows and normal of stored slices lie along patient axes."""


def oblique(*degrees: float) -> Matrix:
    """Turned about x, then y, then z."""
    turned = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        first, second = (each for each in range(3) if each != axis)
        turn = np.eye(3)
        turn[[first, second], [first, second]] = np.cos(angle)
        turn[first, second], turn[second, first] = np.sin(angle), -np.sin(angle)
        turned = turn @ turned
    return turned


@dataclass(frozen=True)
class Series:
    """A series on disk, in which stored voxel (slice, row, column) is at `position_mm` of it."""

    files: tuple[Path, ...]
    rotation: Matrix

    def position_mm(self, index: npt.ArrayLike) -> Matrix:
        """Where (slice, row, column) is: DICOM PS3.3, C.7.6.2.1.1, and as many slices along the normal."""
        offsets = np.asarray(index, np.float64) * SPACING_MM
        return np.array(FIRST_MM) + offsets @ self.rotation.T[::-1]

    @property
    def source(self) -> Source:
        headers = tuple(dcmread(file, stop_before_pixels=True) for file in self.files)
        first = headers[0]
        affine = np.eye(4)
        affine[:3, :3] = self.rotation[:, ::-1] * SPACING_MM
        affine[:3, 3] = FIRST_MM
        if first.SOPClassUID == EnhancedMRImageStorage:
            slices = tuple(StoredSlice(first.SOPInstanceUID, number + 1) for number in range(SHAPE[0]))
        else:
            slices = tuple(StoredSlice(header.SOPInstanceUID) for header in headers)
        return Source(
            first.StudyInstanceUID, first.SeriesInstanceUID, first.SOPClassUID, slices, headers, SHAPE, affine
        )

    @property
    def scan(self) -> Scan:
        geometry = geometry_of(self.source, "2.25.7")
        shape = self.source.to_scan(np.empty(SHAPE, np.uint8)).shape
        files = CaseFiles("case", "case", "", "dicom", self.files[0].parent, self.files)
        return Scan(files, ("flair",), np.zeros((*shape, 1), np.int16), geometry)

    def lesion(self) -> npt.NDArray[np.uint8]:
        """A box in the scan's axes, without symmetry where it is stored."""
        stored = np.zeros(SHAPE, np.uint8)
        stored[1:3, 2:7, 3:9] = 1
        stored[0, 0, 0] = stored[-1, -1, -2] = 1
        return np.ascontiguousarray(self.source.to_scan(stored))


def write_classic(folder: Path, rotation: Matrix = ROTATIONS[0], series: int = 5) -> Series:
    """MR images, one for each slice."""
    folder.mkdir(parents=True)
    files = []
    for number in range(SHAPE[0]):
        header = _header(MRImageStorage, series, number + 1)
        at = Series((), rotation).position_mm((number, 0, 0))
        header.ImagePositionPatient = [f"{value:.9g}" for value in at]
        header.ImageOrientationPatient = _cosines(rotation)
        header.PixelSpacing = list(SPACING_MM[1:])
        header.SliceThickness = SPACING_MM[0]
        files.append(_save(header, folder / f"{number}.dcm", SHAPE[1:]))
    return Series(tuple(files), rotation)


def write_enhanced(folder: Path, rotation: Matrix = ROTATIONS[0]) -> Series:
    """One enhanced MR image, a frame for each slice."""
    folder.mkdir(parents=True)
    header = _header(EnhancedMRImageStorage, 6, 1)
    header.NumberOfFrames = SHAPE[0]
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = list(SPACING_MM[1:]), SPACING_MM[0]
    orientation.ImageOrientationPatient = _cosines(rotation)
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    header.SharedFunctionalGroupsSequence = [shared]
    header.PerFrameFunctionalGroupsSequence = []
    for number in range(SHAPE[0]):
        frame, position = Dataset(), Dataset()
        at = Series((), rotation).position_mm((number, 0, 0))
        position.ImagePositionPatient = [f"{value:.9g}" for value in at]
        frame.PlanePositionSequence = [position]
        header.PerFrameFunctionalGroupsSequence.append(frame)
    return Series((_save(header, folder / "enhanced.dcm", SHAPE),), rotation)


def _cosines(rotation: Matrix) -> list[str]:
    return [f"{value:.12g}" for value in rotation[:, :2].T.ravel().round(12)]


def _header(sop_class: str, series: int, instance: int) -> Dataset:
    header = Dataset()
    header.SpecificCharacterSet = "ISO_IR 192"
    header.SOPClassUID, header.SOPInstanceUID = sop_class, f"2.25.{series}{instance:03}"
    header.StudyInstanceUID, header.SeriesInstanceUID = "2.25.1", f"2.25.{series}"
    header.FrameOfReferenceUID = "2.25.7"
    for keyword, value in PATIENT.items():
        setattr(header, keyword, value)
    header.StudyDate, header.StudyTime = "20240229", "101500"
    header.ContentDate, header.ContentTime = "20240229", "103012.5"
    header.Modality, header.SeriesNumber, header.InstanceNumber = "MR", series, instance
    header.Manufacturer = "Nobody"
    return header


def _save(header: Dataset, path: Path, shape: tuple[int, ...]) -> Path:
    header.Rows, header.Columns = shape[-2:]
    header.SamplesPerPixel, header.PhotometricInterpretation, header.PixelRepresentation = 1, "MONOCHROME2", 1
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 16, 15
    header.PixelData = np.arange(np.prod(shape), dtype=np.int16).tobytes()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.save_as(path, enforce_file_format=True)
    return path
