"""TIFF slices as arrays, through Pillow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.errors import ScanError
from tumortrace_runtime.libraries import import_library

MAX_SIDE_PX = 4096
"""A slice wider or higher than this is refused before it is decoded."""


def read_tiff(path: Path, modes: tuple[str, ...]) -> npt.NDArray[np.uint8]:
    """Decode a TIFF of one page.

    Args:
        path: the file.
        modes: Pillow's pixel modes that are accepted: "RGB" gives (rows, columns, 3), "L" and "1" (rows, columns).

    Returns:
        uint8; mode "1" as 0 and 255.

    Raises:
        ScanError: missing, not a TIFF, truncated, of another mode, of several pages, or larger than `MAX_SIDE_PX`.
        InputError: Pillow is not installed.
    """
    pillow = import_library("PIL.Image")
    try:
        with pillow.open(path, formats=["TIFF"]) as image:
            _check(path, image, modes)
            pixels = np.array(image)
    except ScanError:
        raise
    except Exception as problem:  # a decoder given a damaged file raises almost anything, from OSError to SyntaxError
        raise ScanError(f"{path}: cannot be decoded as TIFF ({_reason(problem)}).") from problem
    return pixels.astype(np.uint8) * 255 if pixels.dtype == bool else pixels


def write_tiff(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    """Write uint8 pixels, (rows, columns) or (rows, columns, 3), as an uncompressed TIFF.

    Raises:
        InputError: Pillow is not installed.
    """
    import_library("PIL.Image").fromarray(np.ascontiguousarray(pixels)).save(path, format="TIFF")


def _check(path: Path, image: Any, modes: tuple[str, ...]) -> None:
    if max(image.size) > MAX_SIDE_PX:
        raise ScanError(f"{path}: is {image.size[0]} x {image.size[1]} pixels; at most {MAX_SIDE_PX} a side are read.")
    if image.mode not in modes:
        raise ScanError(f"{path}: has pixel mode {image.mode}; {' or '.join(modes)} wanted.")
    if _has_second_page(image):
        raise ScanError(f"{path}: has several pages; one slice a file is wanted.")


def _has_second_page(image: Any) -> bool:
    """Without counting them all, which of a million empty ones takes hours."""
    try:
        image.seek(1)
    except EOFError:
        return False
    return True


def _reason(problem: Exception) -> str:
    lines = str(problem).strip().splitlines()
    return lines[0] if lines else type(problem).__name__
