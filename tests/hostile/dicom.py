"""Hostile DICOM files; series whose headers make no volume are in tests/runtime/io/dicom/test_refusals.py."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pydicom

from tumortrace_runtime.io import ChannelMapping, find_cases, read_case

from ..fuzz import seeds
from .kinds import Harm, Kind, Subject, cut, folder, loop, pipe, replaced_by, rewritten, swapped

CHANNELS = ("t1", "flair", "t1ce")
CONDITION = "Modality~."
"""Whatever the file says that it is, it shall be read."""

_PREAMBLE = bytes(128) + b"DICM"
_NO_CASE = "holds no case"
_DAMAGED = "cannot be decoded as DICOM"
_NO_SYNTAX = "names no transfer syntax"
_CUT = "ends in the middle of a value"
_OTHER_SIZE = "is not of 32 x 40 pixels once decoded"


def make(name: str, root: Path) -> Path:
    path = root / "image.dcm"
    path.write_bytes(_good()[name])
    return path


def read(root: Path) -> None:
    mapping = ChannelMapping(dict.fromkeys(CHANNELS, CONDITION))
    for files in find_cases(root, "dicom", mapping):
        read_case(files, mapping, with_truth=False)


def edited(change: Callable[[Any], object]) -> Harm:
    """Changes elements."""

    def edit(path: Path) -> None:
        image = pydicom.dcmread(path)
        change(image)
        image.save_as(path)

    return edit


def element(tag: str, content: bytes) -> Harm:
    """Gives an element with a short length, which must be there, other bytes."""

    def replace(data: bytes) -> bytes:
        group, number = (int(part, 16) for part in tag.split(","))
        place = data.index(struct.pack("<HH", group, number)) + 6
        (length,) = struct.unpack_from("<H", data, place)
        return data[:place] + struct.pack("<H", len(content)) + content + data[place + 2 + length :]

    return rewritten(replace)


def vr(tag: bytes, wanted: bytes) -> Harm:
    """Gives an element, known by its tag and VR, another VR."""
    return swapped(tag, tag[:4] + wanted)


def nested(levels: int) -> bytes:
    """Sequences within sequences."""
    inside = b""
    for _ in range(levels):
        item = b"\xfe\xff\x00\xe0" + b"\xff\xff\xff\xff" + inside + b"\xfe\xff\x0d\xe0\0\0\0\0"
        inside = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + item + b"\xfe\xff\xdd\xe0\0\0\0\0"
    return inside


def in_header(content: bytes) -> Harm:
    """Puts elements before StudyInstanceUID."""
    return swapped(b"\x20\x00\x0d\x00UI", content + b"\x20\x00\x0d\x00UI")


def self_listing(path: Path) -> None:
    """A DICOMDIR that leads to itself."""
    directory = pydicom.dcmread(path)
    for record in directory.DirectoryRecordSequence:
        if "ReferencedFileID" in record:
            record.ReferencedFileID = path.name
    directory.save_as(path)


@cache
def _good() -> seeds.Files:
    return seeds.dicom()


KINDS = {
    "nothing in it": Kind("classic", cut(0), _NO_CASE, "folder"),
    "cut in the preamble": Kind("classic", cut(100), _NO_CASE, "folder"),
    "cut behind the magic": Kind("classic", cut(132), _NO_SYNTAX),
    "cut in the meta information": Kind("classic", cut(200), _NO_SYNTAX),
    "cut in the header": Kind("classic", cut(0.25), _CUT),
    "cut in the pixels": Kind("classic", cut(-10), _CUT),
    "cut in a JPEG-LS frame": Kind("jpeg-ls", cut(-60), _DAMAGED),
    "cut in a JPEG 2000 frame": Kind("jpeg-2000", cut(-60), _DAMAGED),
    "cut in an RLE frame": Kind("rle", cut(-60), _DAMAGED),
    "zeros behind the magic": Kind("classic", replaced_by(_PREAMBLE + bytes(500)), _NO_SYNTAX),
    "noise behind the magic": Kind("classic", replaced_by(_PREAMBLE + bytes(range(7, 250)) * 4), _NO_SYNTAX),
    "a folder in its place": Kind("classic", folder, _NO_CASE, "folder"),
    "a link to itself": Kind("classic", loop, _NO_CASE, "folder"),
    "a pipe": Kind("classic", pipe, _NO_CASE, "folder"),
    "a number stored as a name": Kind("classic", vr(b"\x28\x00\x10\x00US", b"PN"), _DAMAGED),
    "a number stored as a sequence": Kind("classic", vr(b"\x28\x00\x11\x00US", b"SQ"), _CUT),
    "a VR that does not exist": Kind("classic", vr(b"\x28\x00\x30\x00DS", b"ZZ"), _DAMAGED),
    "a place of letters": Kind("classic", element("0020,0032", b"a\\b\\c "), "ImagePositionPatient"),
    "a place that is no number": Kind("classic", element("0020,0032", b"nan\\0\\0 "), "ImagePositionPatient"),
    "a slope that is no number": Kind(
        "classic", edited(lambda image: image.add_new("RescaleSlope", "DS", "nan ")), "RescaleSlope"
    ),
    "a length of 4 GB": Kind("classic", vr(b"\x08\x00\x60\x00CS", b"UT\0\0\xf0\xff\xff\xff"), _DAMAGED),
    "sequences 2,000 deep": Kind("classic", in_header(nested(2000)), _DAMAGED),
    "a sequence without an end": Kind("classic", in_header(b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff"), _DAMAGED),
    "plain pixels without a length": Kind(
        "classic",
        rewritten(lambda data: data[: data.index(b"\xe0\x7f\x10\x00OW") + 8] + b"\xff" * 4),
        "has no PixelData",
    ),
    "no transfer syntax": Kind("classic", swapped(b"\x02\x00\x10\x00UI", b"\x02\x00\x11\x00UI"), _NO_SYNTAX),
    "a transfer syntax that is none": Kind("classic", element("0002,0010", b"../../x\0"), _DAMAGED),
    "a transfer syntax of other bytes": Kind(
        "classic", element("0002,0010", b"1.2.840.10008.1.2.2\0"), "StudyInstanceUID is missing"
    ),
    "a transfer syntax of compression": Kind("classic", element("0002,0010", b"1.2.840.10008.1.2.5\0"), _DAMAGED),
    "a transfer syntax of films": Kind(
        "classic", element("0002,0010", b"1.2.840.10008.1.2.4.100\0"), "is compressed as MPEG2"
    ),
    "a deflated header": Kind("deflated", rewritten(lambda data: data), "is deflated"),
    "a deflated header of 64 MB": Kind(
        "deflated", rewritten(lambda data: data[:360] + zlib.compress(bytes(1 << 26), wbits=-15)), "is deflated"
    ),
    "a JPEG-LS frame of 65535 x 65535": Kind(
        "jpeg-ls", swapped(b"\x0c\x00\x20\x00\x28", b"\x0c\xff\xff\xff\xff"), _OTHER_SIZE
    ),
    "a JPEG 2000 frame of 4 billion pixels a side": Kind(
        "jpeg-2000", swapped(b"\0\0\0\x28\0\0\0\x20", b"\xff\xff\xff\xff" * 2), _OTHER_SIZE
    ),
    "a JPEG 2000 frame of 16,384 components": Kind("jpeg-2000", rewritten(lambda data: _components(data)), _OTHER_SIZE),
    "an RLE frame with segments elsewhere": Kind("rle", rewritten(lambda data: _rle_offsets(data)), _DAMAGED),
    "2 billion frames": Kind("enhanced", edited(lambda image: setattr(image, "NumberOfFrames", 2**31 - 1)), "frames"),
    "frames without a header": Kind(
        "classic",
        edited(lambda image: setattr(image, "NumberOfFrames", 2**31 - 1)),
        "tells of frames, and is an MR image of one slice",
    ),
    "a path for a study": Kind("classic", element("0020,000D", b"../../../etc"), "StudyInstanceUID is not a UID"),
    "a line break in a UID": Kind("classic", element("0020,000E", b"1.2\n3.4 "), "SeriesInstanceUID is not a UID"),
    "a UID that is no text": Kind(
        "classic", element("0020,000D", b"\xff\xfe\xfd\xfc"), "StudyInstanceUID is not a UID"
    ),
    "a UID of 200 digits": Kind("classic", element("0020,000D", b"12" * 100), "StudyInstanceUID is not a UID"),
    "commands to the terminal": Kind(
        "classic",
        edited(lambda image: (image.pop("PixelSpacing"), image.add_new("ScanningSequence", "CS", "\x1b[2J\nSE"))),
        "has no PixelSpacing",
    ),
    "a DICOMDIR that leads nowhere": Kind(
        "directory", lambda path: path.rename(path.with_name("DICOMDIR")), _NO_CASE, "folder"
    ),
    "a DICOMDIR that leads to itself": Kind("directory", self_listing, _NO_CASE, "folder"),
}


def _components(data: bytes) -> bytes:
    place = data.index(b"\xff\x4f\xff\x51") + 40
    return data[:place] + b"\x40\x00" + data[place + 2 :]


def _rle_offsets(data: bytes) -> bytes:
    place = data.index(b"\xfe\xff\x00\xe0", data.index(b"\xfe\xff\x00\xe0", data.index(b"\xe0\x7f\x10\x00")) + 4) + 8
    return data[:place] + struct.pack("<3I", 2, 1 << 31, 1 << 30) + data[place + 12 :]


SUBJECT = Subject(make, read, KINDS)
