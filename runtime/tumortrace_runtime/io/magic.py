"""What a file is, by its beginning."""

from __future__ import annotations

from mmap import mmap
from pathlib import Path

from tumortrace_runtime.errors import ScanError

_PREAMBLE_BYTES = 128
_MAGIC = b"DICM"


def is_dicom(path: Path) -> bool:
    """Whether a file says at its beginning that it is DICOM (PS3.10, section 7.1), whatever its name.

    Raises:
        ScanError: it cannot be read.
    """
    return begins_as_dicom(beginning(path))


def begins_as_dicom(content: bytes | mmap) -> bool:
    """Whether what a file holds, or its `beginning`, begins as DICOM does."""
    return content[_PREAMBLE_BYTES : _PREAMBLE_BYTES + len(_MAGIC)] == _MAGIC


def beginning(path: Path) -> bytes:
    """As many bytes of a file as say whether it is DICOM, or what there is; none of what is no file.

    Raises:
        ScanError: it cannot be read.
    """
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as stream:
            return stream.read(_PREAMBLE_BYTES + len(_MAGIC))
    except OSError as problem:
        raise ScanError(f"{path}: cannot be read ({problem.strerror}).") from problem
