"""Hostile slices of the LGG layout."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tumortrace_runtime.io import find_cases, read_case

from ..fuzz import seeds
from .kinds import Harm, Kind, Subject, cut, folder, loop, pipe, put, replaced_by, rewritten

_DAMAGED = "cannot be decoded as TIFF"
_MISSING = "has no slice 2 between 1 and 3"
_WIDTH, _ROWS, _STRIPS = 256, 257, 273


def make(name: str, root: Path) -> Path:
    for number in (1, 2, 3):
        (root / f"case_{number}.tif").write_bytes(_good()[name])
    return root / "case_2.tif"


def read(root: Path) -> None:
    (files,) = find_cases(root, "lgg")
    read_case(files, with_truth=False)


def entries(values: dict[int, int]) -> Harm:
    """Gives entries of a TIFF's directory, by tag, other values of 32 bits."""

    def change(content: bytes) -> bytes:
        data = bytearray(content)
        (directory,) = struct.unpack_from("<I", data, 4)
        (count,) = struct.unpack_from("<H", data, directory)
        for place in range(directory + 2, directory + 2 + 12 * count, 12):
            (tag,) = struct.unpack_from("<H", data, place)
            if tag in values:
                struct.pack_into("<HI", data, place + 2, 4, 1)
                struct.pack_into("<I", data, place + 8, values[tag])
        return bytes(data)

    return rewritten(change)


def saved(pixels: Any, form: str = "TIFF", **options: Any) -> Harm:
    """Puts an image of these pixels in its place."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form, **options)
    return replaced_by(stream.getvalue())


def pages(count: int) -> Harm:
    """Adds copies of the page."""

    def change(content: bytes) -> bytes:
        (start,) = struct.unpack_from("<I", content, 4)
        (there,) = struct.unpack_from("<H", content, start)
        page = content[start : start + 2 + 12 * there]
        ends = [len(content) + (len(page) + 4) * number for number in range(count)]
        copies = b"".join(page + struct.pack("<I", end) for end in [*ends[1:], 0])
        first = content[: start + len(page)] + struct.pack("<I", ends[0]) + content[start + len(page) + 4 :]
        return first + copies

    return rewritten(change)


def png_of(width: int, height: int) -> bytes:
    """A PNG that says it is so large."""
    chunks = ((b"IHDR", struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(bytes(100))))
    parts = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@cache
def _good() -> seeds.Files:
    return seeds.tiff()


_COLOUR = np.zeros((12, 10, 3), np.uint8)

KINDS = {
    "nothing in it": Kind("slice", cut(0), _DAMAGED),
    "cut in the header": Kind("slice", cut(6), _DAMAGED),
    "cut in the middle": Kind("slice", cut(0.5), _DAMAGED),
    "text": Kind("slice", replaced_by(b"not an image"), _DAMAGED),
    "a folder in its place": Kind("slice", folder, _MISSING, "folder"),
    "a link to itself": Kind("slice", loop, _MISSING, "folder"),
    "a pipe": Kind("slice", pipe, _MISSING, "folder"),
    "a number of eleven digits": Kind(
        "slice", lambda path: path.rename(path.with_name("case_99999999999.tif")), "has no slice 2", "folder"
    ),
    "a PNG": Kind("slice", saved(_COLOUR, "PNG"), _DAMAGED),
    "a PNG of 2 billion pixels a side": Kind("slice", replaced_by(png_of(2**31 - 1, 2**31 - 1)), _DAMAGED),
    "5,000 pixels a side": Kind("slice", entries({_WIDTH: 5000, _ROWS: 5000}), "at most 4096 a side are read"),
    "4 billion pixels a side": Kind("slice", entries({_WIDTH: 2**32 - 1, _ROWS: 2**32 - 1}), _DAMAGED),
    "no width": Kind("slice", entries({_WIDTH: 0}), _DAMAGED),
    "a slice that is larger than the first": Kind(
        "slice", saved(np.zeros((4096, 4096, 3), np.uint8), compression="tiff_deflate"), "the first slice is 10 x 12"
    ),
    "pixels beyond the end": Kind("slice", entries({_STRIPS: 2**31}), _DAMAGED),
    "damaged LZW": Kind("lzw", put(60, b"\xff" * 40), _DAMAGED),
    "a directory at the end of time": Kind("slice", put(4, b"\xff\xff\xff\xff"), _DAMAGED),
    "20,000 pages": Kind("slice", pages(20_000), "has several pages"),
    "16 bits a pixel": Kind("slice", saved(np.zeros((12, 10), np.uint16)), "has pixel mode"),
    "floats": Kind("slice", saved(np.full((12, 10), np.nan, np.float32)), "has pixel mode F"),
    "a mask in its place": Kind("slice", saved(np.zeros((12, 10), np.uint8)), "has pixel mode L"),
    "four channels": Kind("slice", saved(np.zeros((12, 10, 4), np.uint8)), "has pixel mode"),
}

SUBJECT = Subject(make, read, KINDS)
