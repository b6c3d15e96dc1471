"""Pictures as PNG (ISO/IEC 15948), with no more than a zlib."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.errors import InputError
from tumortrace_runtime.io import gz

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 3: 2}
_UP = 2
"""The filter of every line: a byte is stored as what it differs by from the one above it."""


def encode_png(picture: npt.NDArray[np.uint8]) -> bytes:
    """A (rows, columns, 3) RGB or (rows, columns) grey uint8 picture as PNG.

    Raises:
        InputError: another shape or dtype, or no pixels.
    """
    channels = 1 if picture.ndim == 2 else picture.shape[-1]
    if picture.ndim not in (2, 3) or channels not in _COLOUR_TYPES or picture.dtype != np.uint8 or not picture.size:
        raise InputError(
            f"picture: {picture.dtype} of shape {picture.shape} given; uint8 (rows, columns) or (rows, columns, 3) "
            "wanted."
        )
    rows, columns = picture.shape[:2]
    pixels = picture.reshape(rows, columns * channels)
    lines = np.empty((rows, 1 + columns * channels), np.uint8)
    lines[:, 0] = _UP
    lines[0, 1:] = pixels[0]
    np.subtract(pixels[1:], pixels[:-1], out=lines[1:, 1:])
    header = struct.pack(">IIBBBBB", columns, rows, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    data = gz.compress_zlib(lines.data)
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
