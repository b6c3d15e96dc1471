"""What is written of a scan from DICOM: its mask as segmentation and NIfTI, a picture as secondary capture and PNG."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.algorithm import Algorithm
from tumortrace_runtime.errors import ScanError
from tumortrace_runtime.io.dicom import derived
from tumortrace_runtime.io.dicom.capture import build_capture
from tumortrace_runtime.io.dicom.geometry import DicomGeometry, Source, StoredSlice, geometry_of
from tumortrace_runtime.io.dicom.segmentation import MR_IMAGE, build_segmentation
from tumortrace_runtime.io.folders import write_together
from tumortrace_runtime.io.pictures import OVERLAY
from tumortrace_runtime.io.scan import Scan, check_mask
from tumortrace_runtime.io.volumes import RAS_TO_LPS, nibabel, scanner_header, write_stored
from tumortrace_runtime.png import encode_png

CAPTURE = "overlay.dcm"


@lru_cache(maxsize=1)
def prepare_writing() -> None:
    """Load what writing takes, highdicom's tables of the standard among it, which it reads when they are first used.

    Raises:
        InputError: highdicom or nibabel is not installed.
    """
    nibabel()
    slice_ = StoredSlice("2.25.4")
    header = derived.dataset_of(
        {
            "SOPClassUID": MR_IMAGE,
            "SOPInstanceUID": slice_.sop_instance_uid,
            "ImagePositionPatient": [0, 0, 0],
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "PixelSpacing": [1, 1],
        }
    )
    source = Source("2.25.1", "2.25.2", MR_IMAGE, (slice_,), (header,), (1, 1, 1), np.eye(4))
    build_segmentation(geometry_of(source, "2.25.3"), np.zeros((1, 1, 1), np.uint8), Algorithm("none", "none", {}))


def write_mask(scan: Scan, mask: npt.NDArray[np.uint8], folder: Path, algorithm: Algorithm | None = None) -> list[Path]:
    """Write `mask`, (slices, rows, columns) classes, as `<case_id>_seg.dcm` and `<case_id>_mask.nii.gz`.

    Raises:
        ScanError: the mask is not on the scan's grid, has a class that the algorithm does not describe, or it is not
            said which algorithm made it; or the source's header is damaged.
        OutputError: a file could not be written; nothing is left behind.
        InputError: highdicom or nibabel is not installed.
    """
    check_mask(scan, mask)
    geometry = _geometry(scan)
    segmentation = build_segmentation(geometry, mask, _named(scan, algorithm))

    def write(path: Path, number: int) -> None:
        if number == 0:
            derived.save(segmentation, geometry.source, path)
        else:
            _write_nifti(path, mask, geometry.source)

    return write_together(folder, [f"{scan.case_id}_seg.dcm", f"{scan.case_id}_mask.nii.gz"], write)


def write_overlay(
    scan: Scan, picture: npt.NDArray[np.uint8], folder: Path, algorithm: Algorithm | None = None
) -> list[Path]:
    """Write a picture of a scan with its mask, (rows, columns, 3) uint8, as `overlay.png` and `overlay.dcm`.

    Raises:
        ScanError: it is not said which algorithm made the mask, or the source's header is damaged.
        OutputError: a file could not be written; nothing is left behind.
        InputError: highdicom is not installed.
    """
    geometry = _geometry(scan)
    capture = build_capture(geometry, picture, _named(scan, algorithm))

    def write(path: Path, number: int) -> None:
        if number == 0:
            path.write_bytes(encode_png(picture))
        else:
            derived.save(capture, geometry.source, path)

    return write_together(folder, [OVERLAY, CAPTURE], write)


def _write_nifti(path: Path, mask: npt.NDArray[np.uint8], source: Source) -> None:
    """Stored as columns, rows, slices, which is how programs that convert DICOM have it."""
    affine = RAS_TO_LPS @ source.affine[:, [2, 1, 0, 3]]
    stored = source.to_stored(mask).transpose()
    write_stored(path, stored, scanner_header(stored.shape, affine))


def _geometry(scan: Scan) -> DicomGeometry:
    if not isinstance(scan.geometry, DicomGeometry):
        raise ScanError(f"{scan.case_id}: was not read from DICOM; write its mask in its own layout.")
    return scan.geometry


def _named(scan: Scan, algorithm: Algorithm | None) -> Algorithm:
    if algorithm is None:
        raise ScanError(f"{scan.case_id}: DICOM wants to know what made a mask; give its algorithm.")
    return algorithm
