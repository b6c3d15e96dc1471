"""Pixels of DICOM images as values: decoded by pydicom, of any compression that it has a plugin for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.errors import InputError, ScanError
from tumortrace_runtime.io.dicom import lossless_jpeg
from tumortrace_runtime.io.dicom.codestream import frame_header
from tumortrace_runtime.io.dicom.files import damage_told, read_image
from tumortrace_runtime.io.dicom.planes import Plane
from tumortrace_runtime.io.scan import MAX_VOXELS
from tumortrace_runtime.libraries import import_library, install_command

Pixels = npt.NDArray[np.generic]

CODECS = "dicom-codecs"
"""The extra that brings decoders of compressed images."""

_PLUGINS = (lossless_jpeg.PLUGIN, "pydicom", "pyjpegls", "pylibjpeg", "pillow")
"""In the order in which they are asked. GDCM is not: it ends the process on frames that others refuse."""

_MOST_SIDE_PX = 65535
_RLE = "1.2.840.10008.1.2.5"
_RLE_HEADER_BYTES = 64
_TABLES = ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")
_ITEM_HEADER_BYTES = 8
_END = b"\xff\xd9"
"""What every JPEG, JPEG-LS and JPEG 2000 codestream ends with."""


def read_pixels(path: Path, header: Any) -> Pixels:
    """The frames of an image as stored integers.

    Args:
        path: the file.
        header: its header, of a grey image.

    Returns:
        (frames, rows, columns), 8, 16 or 32 bits, signed or not; complemented in MONOCHROME1 images, where little is
        bright.

    Raises:
        ScanError: the pixels are missing, too many, incomplete, damaged, or compressed in a way that is not read.
        InputError: pydicom, or what decodes the image, is not installed.
    """
    with damage_told(path):
        shape = _checked_shape(path, header)
        _check_bits(path, header)
        image = read_image(path)
        if "PixelData" not in image:
            raise ScanError(f"{path}: has no PixelData; an image is wanted.")
        plugin = ""
        if image.file_meta.TransferSyntaxUID.is_encapsulated:
            plugin = _plugin(path, image)
            _check_frames(path, image, shape)
        else:
            _check_length(path, image, shape)
        pixels = _of_own_bits(path, _decoded(image, plugin).reshape(shape), header)
        return _complemented(pixels, header)


def to_values(stored: Pixels, planes: Sequence[Plane]) -> Pixels:
    """Stored pixels (slices, rows, columns) as values: the same where nothing scales any slice, else float32.

    Raises:
        ScanError: a value is beyond float32.
    """
    slopes = np.array([plane.slope for plane in planes])
    intercepts = np.array([plane.intercept for plane in planes])
    if (slopes == 1).all() and (intercepts == 0).all():
        return stored
    scaled: npt.NDArray[np.float32] = np.empty(stored.shape, np.float32)
    np.multiply(stored, slopes[:, None, None].astype(np.float32), out=scaled)
    scaled += intercepts[:, None, None].astype(np.float32)
    if not np.isfinite(scaled).all():
        raise ScanError(
            f"{planes[0].image.sop_instance_uid}: rescaled values are beyond float32; the header is damaged."
        )
    return scaled


def _checked_shape(path: Path, header: Any) -> tuple[int, int, int]:
    shape = int(header.get("NumberOfFrames") or 1), int(header.Rows), int(header.Columns)
    if min(shape) < 1 or max(shape[1:]) > _MOST_SIDE_PX or shape[0] * shape[1] * shape[2] > MAX_VOXELS:
        raise ScanError(
            f"{path}: has {shape[0]} frames of {shape[1]} x {shape[2]} pixels; 1 to {MAX_VOXELS} pixels wanted."
        )
    return shape


def _plugin(path: Path, image: Any) -> str:
    """The plugin of pydicom's that decodes an image: of several, the one that a damaged frame harms least."""
    syntax = image.file_meta.TransferSyntaxUID
    try:
        decoder = import_library("pydicom.pixels").get_decoder(syntax)
    except NotImplementedError as problem:
        raise ScanError(f"{path}: is compressed as {syntax.name}, which is not read; decompress it first.") from problem
    lossless_jpeg.add_to(decoder)
    usable = [plugin for plugin in _PLUGINS if plugin in decoder.available_plugins]
    if not usable:
        raise InputError(f"{path}: is compressed as {syntax.name}: {install_command('pydicom', CODECS)}")
    return usable[0]


def _check_frames(path: Path, image: Any, shape: tuple[int, int, int]) -> None:
    """Refuse frames that are incomplete, or would decode to other than the header says, and so to any size."""
    most_bytes = 2 * shape[1] * shape[2] * (int(image.BitsAllocated) // 8) + _RLE_HEADER_BYTES
    if "ExtendedOffsetTable" in image:
        _check_table(path, image)
    is_rle = image.file_meta.TransferSyntaxUID == _RLE
    for number, frame in enumerate(_frames(image, shape[0]), start=1):
        told = None if is_rle else frame_header(frame)
        if len(frame) > most_bytes if is_rle else told is None or told[:3] != (*shape[1:], 1):
            raise ScanError(
                f"{path}: frame {number} is not of {shape[1]} x {shape[2]} pixels once decoded; it is damaged."
            )
        if not is_rle and not frame.rstrip(b"\0").endswith(_END):
            raise ScanError(f"{path}: frame {number} is incomplete; copy the file again.")
        if told and told.is_signed not in (None, bool(image.PixelRepresentation)):
            raise ScanError(
                f"{path}: frame {number} and its header differ in whether values have a sign; decompress it first."
            )


def _check_table(path: Path, image: Any) -> None:
    """Refuse an extended offset table by which frames are elsewhere than they are: one an item, in their order."""
    encaps = import_library("pydicom.encaps")
    stream = BytesIO(image.PixelData)
    encaps.parse_basic_offsets(stream)
    items = [len(item) for item in encaps.generate_fragments(stream)]
    begins = np.cumsum([0, *(_ITEM_HEADER_BYTES + item for item in items)])[:-1]
    offsets, lengths = (np.frombuffer(image[table].value, "<u8") for table in _TABLES)
    padded = lengths + lengths % 2
    if not (np.array_equal(offsets, begins) and np.array_equal(padded, items)):
        raise ScanError(f"{path}: its table of frames is not where its frames are; it is damaged.")


def _check_length(path: Path, image: Any, shape: tuple[int, int, int]) -> None:
    """Refuse plain pixels of another length than the header says: which of them are the image is not known then."""
    wanted = shape[0] * shape[1] * shape[2] * (int(image.BitsAllocated) // 8)
    found = len(image.PixelData)
    if image["PixelData"].is_undefined_length or found not in (wanted, wanted + wanted % 2):  # padded to be even
        raise ScanError(f"{path}: has {found} bytes of pixels, and by its header {wanted}; copy the file again.")


def _frames(image: Any, count: int) -> Iterator[bytes]:
    """The frames of a compressed image, as pydicom finds them to decode them."""
    offsets = tuple(image[table].value for table in _TABLES if table in image)
    generate = import_library("pydicom.encaps").generate_frames
    yield from generate(image.PixelData, number_of_frames=count, extended_offsets=offsets or None)


def _decoded(image: Any, plugin: str) -> npt.NDArray[Any]:
    """Pixels in the machine's byte order, with what lies above their own bits.

    They are those of the dataset that was read, not read from the file again: given the file, pydicom takes its word
    for the transfer syntax, and where that is wrong takes bytes before the pixels for some of them.
    """
    pixel_array = import_library("pydicom.pixels").pixel_array
    options = {"raw": True, "decoding_plugin": plugin, "correct_unused_bits": False}
    pixels: npt.NDArray[Any] = pixel_array(image, **options)
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _check_bits(path: Path, header: Any) -> None:
    """Refuse pixels that do not fill the lowest bits, as PS3.5, section 8.1.1, has them do."""
    allocated, bits, high = int(header.BitsAllocated), int(header.BitsStored), int(header.HighBit)
    if allocated not in (8, 16, 32) or not 1 <= bits <= allocated or high != bits - 1:
        raise ScanError(
            f"{path}: has {bits} bits up to bit {high} of {allocated}; the lowest of 8, 16 or 32 are wanted."
        )


def _of_own_bits(path: Path, pixels: npt.NDArray[Any], header: Any) -> npt.NDArray[Any]:
    """Pixels freed of what lies above their own bits: overlays that the header tells of; and with their sign there.

    Raises:
        ScanError: something else lies there, so that their own bits are a part of the values.
    """
    bits = int(header.BitsStored)
    most = (1 << bits - (pixels.dtype.kind == "i")) - 1
    least = -most - 1 if pixels.dtype.kind == "i" else 0
    if least <= pixels.min() and pixels.max() <= most:
        return pixels
    width = 8 * pixels.dtype.itemsize
    own = (pixels << width - bits) >> width - bits
    unsigned = f"u{pixels.dtype.itemsize}"
    others = pixels.view(unsigned) & ~np.array(_overlay_bits(header) & (1 << width) - (1 << bits), unsigned)
    bare = own.view(unsigned) & ((1 << bits) - 1)  # signed values may be stored without their sign above them
    if ((others != own.view(unsigned)) & (others != bare)).any():
        raise ScanError(
            f"{path}: has values from {pixels.min()} to {pixels.max()}, and {bits} bits by its header; it is damaged."
        )
    return own


def _overlay_bits(header: Any) -> int:
    """The bits of pixels that hold overlays, by OverlayBitPosition in groups 6000 to 601E (retired from PS3.3)."""
    positions = (header.get((group, 0x0102)) for group in range(0x6000, 0x6020, 2))
    return sum({1 << int(position.value) for position in positions if position is not None and position.value})


def _complemented(stored: npt.NDArray[Any], header: Any) -> npt.NDArray[Any]:
    if header.PhotometricInterpretation != "MONOCHROME1":
        return stored
    if stored.dtype.kind == "i":
        return ~stored
    most: npt.NDArray[Any] = stored.dtype.type((1 << int(header.BitsStored)) - 1) - stored
    return most
