"""DICOM files: their headers, of which pixels are no part, and what they tell of their pixels."""

from __future__ import annotations

import mmap
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tumortrace_runtime.errors import InputError, ScanError
from tumortrace_runtime.io.folders import why_closed
from tumortrace_runtime.io.magic import begins_as_dicom
from tumortrace_runtime.libraries import import_library

_DEFLATED = "1.2.840.10008.1.2.1.99"
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_UID_LENGTH = 64
_UNDEFINED = 0xFFFFFFFF
"""The length of values that end with a delimiter."""

COPYING_FOLDERS = {".rsync-partial", ".~tmp~"}
"""Where rsync keeps files that are not yet whole or not yet in their place."""

_IMAGE_PIXEL = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "PixelData",
)
"""What tells of pixels (PS3.3, section C.7.6.3)."""


def read_header(path: Path, keywords: Sequence[str] | None = None) -> Any:
    """The dataset of a file without its pixels.

    Args:
        path: the file.
        keywords: the elements that are wanted; None for all.

    Raises:
        ScanError: it is no DICOM file, is damaged, or its header is compressed.
        InputError: pydicom is not installed.
    """
    if keywords is None:
        return _read(path, stop_before_pixels=True)
    return _read_until(path, keywords)


def read_image(path: Path) -> Any:
    """What a file tells of its pixels, and them, still as they are stored.

    Raises:
        ScanError, InputError: as `read_header` does.
    """
    return _read(path, specific_tags=list(_IMAGE_PIXEL))


def is_being_copied(path: Path) -> bool:
    """Whether a file is hidden or in a folder of its own, as files are while they are copied."""
    return path.name.startswith(".") or path.parent.name in COPYING_FOLDERS


def uid(header: Any, keyword: str, path: Path) -> str:
    """A unique identifier in a header.

    Raises:
        ScanError: it is missing, or is none (PS3.5, section 9): up to 64 digits and dots.
    """
    with damage_told(path):
        value = str(header.get(keyword) or "")
    if len(value) > _UID_LENGTH or not _UID.fullmatch(value):
        raise ScanError(f"{path}: {keyword} is {'not a UID' if value else 'missing'}; up to 64 digits and dots wanted.")
    return value


@contextmanager
def damage_told(path: Path) -> Iterator[None]:
    """Tell in a typed error what goes wrong in a `with` block that decodes a file.

    A decoder given a damaged file raises almost anything. Its message, like its warnings, may quote the file, and so
    name the patient; both are left out.

    Raises:
        ScanError: anything but an error of our own or a lack of memory.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (InputError, MemoryError):
        raise
    except Exception as problem:
        if isinstance(problem, OSError) and problem.strerror:  # of the system's, not the decoder's
            raise ScanError(f"{path}: cannot be read ({problem.strerror}).") from problem
        what = type(problem).__name__
        raise ScanError(f"{path}: cannot be decoded as DICOM ({what}); it is damaged or incomplete.") from problem


def _read(path: Path, **options: Any) -> Any:
    with _content(path) as content:
        dataset = import_library("pydicom").dcmread(content, **options)
        _check_end(path, dataset)
        return dataset


def _read_until(path: Path, keywords: Sequence[str]) -> Any:
    """The elements of these keywords; what stands behind the last of them in the file is not read."""
    tags = [import_library("pydicom.tag").Tag(keyword) for keyword in keywords]

    def is_behind(tag: Any, representation: str | None, length: int) -> bool:
        return bool(tag > max(tags))

    with _content(path) as content:
        read = import_library("pydicom.filereader").read_partial
        dataset = read(content, stop_when=is_behind, specific_tags=tags)
        _check_end(path, dataset)
        return dataset


@contextmanager
def _content(path: Path) -> Iterator[Any]:
    """A DICOM file's content as a stream, in a block of which damage is told."""
    with damage_told(path):
        if path.is_dir():
            raise ScanError(
                f"{path}: {why_closed(path) or 'has no file with anything in it; copy it again, or remove it.'}"
            )
        if is_being_copied(path):
            raise ScanError(f"{path}: is hidden, as files are while they are copied; wait for it, or remove it.")
        if not path.exists():
            raise ScanError(f"{path}: is named by a link or a DICOMDIR, and not there; copy the folder whole.")
        with _mapped(path) as content:
            _check_beginning(path, content)
            yield content


def _check_beginning(path: Path, content: mmap.mmap) -> None:
    if not begins_as_dicom(content):
        raise ScanError(f"{path}: does not begin as DICOM files do; copy the file again.")
    syntax = import_library("pydicom.filereader").read_file_meta_info(path).get("TransferSyntaxUID")
    if not syntax:
        raise ScanError(f"{path}: names no transfer syntax, or ends before it; it is damaged or incomplete.")
    if syntax == _DEFLATED:
        raise ScanError(f"{path}: its header is deflated, which is not read; inflate it first (dcmconv of DCMTK does).")


def _check_end(path: Path, dataset: Any) -> None:
    """Refuse a file that ends within a value, of which pydicom gives what there is: of a UID, another UID."""
    last: Any = dataset.get_item(next(reversed(dataset.keys()))) if len(dataset) else None
    length = getattr(last, "length", _UNDEFINED)
    if length != _UNDEFINED and last.value is not None and len(last.value) < length:
        raise ScanError(f"{path}: ends in the middle of a value; copy the file again.")


@contextmanager
def _mapped(path: Path) -> Iterator[Any]:
    """A file's content as a stream: asked for more than there is, as by a hostile length, it gives no more memory."""
    with path.open("rb") as stream:
        if not os.fstat(stream.fileno()).st_size:
            raise ScanError(f"{path}: is empty; copy the file again.")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            yield content
