"""What compressed frames say of themselves, without decoding: a decoder believes them, not the DICOM header."""

from __future__ import annotations

import struct
from typing import NamedTuple

_STANDALONE = {0x01, *range(0xD0, 0xD9)}
"""JPEG markers without a length: TEM, RST0 to RST7, SOI (ITU-T T.81, table B.1)."""

_FRAME_HEADERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""JPEG markers SOF0 to SOF15 without DHT, JPG and DAC, and SOF55 of JPEG-LS (ITU-T T.87)."""

_SIGNED = 0x80
"""The bit of a JPEG 2000 component's precision that tells of a sign (ISO/IEC 15444-1, table A.11)."""


class FrameHeader(NamedTuple):
    """What a compressed frame says of itself; JPEG and JPEG-LS do not say whether their values have a sign."""

    rows: int
    columns: int
    components: int
    is_signed: bool | None


def frame_header(frame: bytes) -> FrameHeader | None:
    """What a JPEG, JPEG-LS, JPEG 2000 or HTJ2K codestream begins with; None where it does not say its size.

    >>> frame_header(bytes.fromhex("ffd8 fff7 000b 0c 0100 0080 01 01 11 00"))
    FrameHeader(rows=256, columns=128, components=1, is_signed=None)
    """
    try:
        return _jpeg_2000(frame) if frame[:4] == b"\xff\x4f\xff\x51" else _jpeg(frame)
    except (struct.error, IndexError):
        return None


def _jpeg_2000(frame: bytes) -> FrameHeader:
    """From the SIZ marker segment, which is always the first (ISO/IEC 15444-1, A.5.1)."""
    right, bottom, left, top = struct.unpack_from(">4I", frame, 8)
    components, precision = struct.unpack_from(">HB", frame, 40)
    return FrameHeader(bottom - top, right - left, components, bool(precision & _SIGNED))


def _jpeg(frame: bytes) -> FrameHeader | None:
    if frame[:2] != b"\xff\xd8":
        return None
    place = 2
    while frame[place] == 0xFF:
        marker = frame[place + 1]
        if marker in _FRAME_HEADERS:
            rows, columns, components = struct.unpack_from(">HHB", frame, place + 5)
            return FrameHeader(rows, columns, components, None)
        (length,) = (0,) if marker in _STANDALONE or marker == 0xFF else struct.unpack_from(">H", frame, place + 2)
        place += 1 if marker == 0xFF else 2 + length
    return None
