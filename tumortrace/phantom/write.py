"""Phantom cases as files, in any layout that `tumortrace_runtime.io` writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tumortrace.phantom.dicom import DicomForm, write_study
from tumortrace.phantom.generate import Phantom, generate_phantom, replace_with_flair, replaced_channel
from tumortrace_runtime.errors import OutputError
from tumortrace_runtime.io import write_case


def claim_folder(root: Path) -> None:
    """Refuse a place that holds something already: two data sets in one folder could not be told apart.

    Raises:
        OutputError: `root` is a file, or a folder that is not empty.
    """
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise OutputError(f"{root}: already holds something; an empty or a new folder is wanted.")


def write_phantom(
    root: Path, layout: str, seed: int, case_number: int, *, size_px: int = 256, form: DicomForm | None = None
) -> Phantom:
    """Make one case and write it as a folder of its own in `root`; the case as it was written.

    The lgg layout knows no missing sequence: there, one case in ten has FLAIR in the place of one, as the public set
    has. The nifti layout keeps every sequence and the spacing; the dicom layout, which takes `form`, the place as well.

    Raises:
        SpecError: a number is out of range.
        ScanError: there is no layout of that name.
        OutputError: the case is there already, or could not be written; nothing of it is left behind.
    """
    phantom = generate_phantom(seed, case_number, size_px=size_px)
    channel = replaced_channel(case_number) if layout == "lgg" else None
    if channel:
        phantom = replace(phantom, scan=replace_with_flair(phantom.scan, channel))
    if layout == "dicom":
        return write_study(phantom, root, form or DicomForm())
    write_case(layout, phantom.scan, root)
    return phantom
