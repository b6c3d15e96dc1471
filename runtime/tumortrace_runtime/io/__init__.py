"""Scans from and to files. Each layout is a module found by name; its library is loaded when it first decodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.algorithm import Algorithm
from tumortrace_runtime.errors import ScanError
from tumortrace_runtime.files import is_text
from tumortrace_runtime.io.folders import subfolders, why_closed
from tumortrace_runtime.io.magic import is_dicom
from tumortrace_runtime.io.mapping import load_mapping
from tumortrace_runtime.io.scan import (
    CHANNELS,
    WHOLE_TUMOUR,
    CaseFiles,
    ChannelMapping,
    ChannelOrigin,
    Geometry,
    Layout,
    Scan,
)
from tumortrace_runtime.memory import enough_memory

__all__ = [
    "CHANNELS",
    "LAYOUTS",
    "WHOLE_TUMOUR",
    "CaseFiles",
    "ChannelMapping",
    "ChannelOrigin",
    "Geometry",
    "Layout",
    "Scan",
    "find_cases",
    "load_layout",
    "load_mapping",
    "prepare_writing",
    "read_case",
    "without_case",
    "write_case",
    "write_mask",
    "write_overlay",
]

LAYOUTS: Mapping[str, str] = {
    "lgg": "tumortrace_runtime.io.lgg",
    "nifti": "tumortrace_runtime.io.nifti",
    "dicom": "tumortrace_runtime.io.dicom",
}


def load_layout(name: str) -> Layout:
    """The module of a layout.

    Raises:
        ScanError: there is no layout of that name.
    """
    if name not in LAYOUTS:
        raise ScanError(f"There is no layout {name!r}; choose one of {', '.join(LAYOUTS)}.")
    return cast(Layout, import_module(LAYOUTS[name]))


def find_cases(root: Path, layout: str | None = None, mapping: ChannelMapping | None = None) -> list[CaseFiles]:
    """The cases in a folder, sorted by name, with or without masks; no pixel is decoded.

    Args:
        root: one case folder, or a folder of case folders; of DICOM also a DICOMDIR, or a single file.
        layout: a name in `LAYOUTS`; None finds it by the files present.
        mapping: where which channel is, for the nifti layout or, where `layout` says so, the dicom layout; None means
            BraTS names, and rules over what DICOM headers say.

    Raises:
        ScanError: `root` is not a folder, holds no case, or holds cases of several layouts.
        InputError: there are DICOM files, and pydicom is not installed.
    """
    if not root.is_dir() and not is_dicom(root):
        raise ScanError(f"{root}: {'is a file' if root.exists() else 'does not exist'}; a folder of scans is wanted.")
    if root.is_file():
        layout = layout or "dicom"
    names = [layout] if layout else ["nifti"] if mapping else list(LAYOUTS)
    found = {name: cases for name in names if (cases := load_layout(name).find(root, mapping))}
    if not found:
        below = sorted(root.iterdir()) if root.is_dir() else []
        if closed := [f"{path}: {why}" for path in below if (why := why_closed(path))]:
            raise ScanError(closed[0])
        wanted = " or ".join(f"{load_layout(name).WANTED} ({name})" for name in names)
        raise ScanError(f"{root}: holds no case, itself or in the folders directly in it; {wanted} wanted.")
    if len(found) > 1:
        raise ScanError(f"{root}: holds cases of several layouts ({', '.join(found)}); say which one to read.")
    return next(iter(found.values()))


def without_case(root: Path, found: Sequence[CaseFiles]) -> list[tuple[Path, str]]:
    """The folders in a folder of cases in which `find_cases` saw none, and why, so that none goes unmentioned."""
    folders = {files.folder for files in found}
    if root in folders:
        return []
    reason = f"holds no image of the {found[0].layout} layout; its images may be missing or named otherwise."
    return [(folder, why_closed(folder) or reason) for folder in subfolders(root) if folder not in folders]


def read_case(
    files: CaseFiles,
    mapping: ChannelMapping | None = None,
    *,
    channels: Sequence[str] | None = None,
    with_truth: bool = True,
) -> Scan:
    """Read and validate one case.

    Args:
        files: from `find_cases`.
        mapping: the mapping that `find_cases` was given.
        channels: the sequences that are wanted, such as a model's; None for all. Those in files of their own are left
            unread when they are not wanted, but for FLAIR, by which a missing sequence is known.
        with_truth: whether the mask is read too, and therefore wanted.

    Raises:
        ScanError: a file or a channel is missing; a file is unreadable, of another size, or holds NaN; its label values
            are unmapped; or a name is no text.
        ResourceError: there is too little memory.
        InputError: the library that decodes the layout is not installed.
    """
    if odd := [name for name in (files.case_id, *_names(files)) if not is_text(name)]:
        raise ScanError(f"{files.folder}: the name {odd[0]!r} is not UTF-8, or has control characters; rename it.")
    with enough_memory():
        return load_layout(files.layout).read(files, mapping, channels=channels, with_truth=with_truth)


def write_case(layout: str, scan: Scan, root: Path) -> Path:
    """Write a whole case (voxels, and truth where there is one) as the new folder `root`/`scan.case_id`; its path.

    Raises:
        ScanError: the layout cannot hold this scan.
        OutputError: the folder exists, or could not be written; nothing is left behind.
    """
    return load_layout(layout).write_case(scan, root)


def prepare_writing(layouts: Iterable[str]) -> None:
    """Load what writing masks takes in these layouts, so that what is missing is told before a scan is segmented.

    Raises:
        InputError: a library is not installed.
    """
    for name in layouts:
        load_layout(name).prepare_writing()


def write_mask(scan: Scan, mask: npt.NDArray[np.uint8], folder: Path, algorithm: Algorithm | None = None) -> list[Path]:
    """Write `mask`, (slices, rows, columns) uint8 classes on the scan's grid, in the scan's own geometry and format.

    Args:
        scan: what the mask is of.
        mask: the classes.
        folder: where the files go; made when it is missing.
        algorithm: what made the mask, which DICOM wants to know and other formats do not tell.

    Raises:
        ScanError: the mask is not on the scan's grid, the layout cannot hold its classes, or wants an algorithm.
        OutputError: nothing could be written; nothing is left behind.
    """
    return load_layout(scan.files.layout).write_mask(scan, mask, folder, algorithm)


def write_overlay(
    scan: Scan, picture: npt.NDArray[np.uint8], folder: Path, algorithm: Algorithm | None = None
) -> list[Path]:
    """Write a picture of a scan and its mask as `overlay.png`, and in the scan's own format where that has pictures.

    Args:
        scan: what is shown.
        picture: (rows, columns, 3) uint8 RGB; it must not name the patient.
        folder: where the files go; made when it is missing.
        algorithm: what made the mask, as for `write_mask`.

    Raises:
        ScanError: the layout wants an algorithm.
        OutputError: nothing could be written; nothing is left behind.
    """
    return load_layout(scan.files.layout).write_overlay(scan, picture, folder, algorithm)


def _names(files: CaseFiles) -> list[str]:
    """Of the files of a case, after which what is written may be named."""
    return [path.name for path in (*files.images, *files.truth)]
