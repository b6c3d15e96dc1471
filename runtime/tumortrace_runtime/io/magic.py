"""What a file is, by its beginning."""

from __future__ import annotations

from pathlib import Path

from tumortrace_runtime.errors import ScanError

_PREAMBLE_BYTES = 128
_MAGIC = b"DICM"
_OF_OTHER_LAYOUTS = (".tif", ".nii", ".nii.gz")


def is_dicom(path: Path) -> bool:
    """Whether a file says at its beginning that it is DICOM (PS3.10, section 7.1). Other layouts' files are not opened.

    Raises:
        ScanError: it cannot be read.
    """
    try:
        if path.name.endswith(_OF_OTHER_LAYOUTS) or not path.is_file():
            return False
        with path.open("rb") as stream:
            return stream.read(_PREAMBLE_BYTES + len(_MAGIC))[_PREAMBLE_BYTES:] == _MAGIC
    except OSError as problem:
        raise ScanError(f"{path}: cannot be read ({problem.strerror}).") from problem
