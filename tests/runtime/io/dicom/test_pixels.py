"""Stored pixels become values: signed or not, of 12 bits, rescaled, complemented, and compressed in many ways."""

from __future__ import annotations

import struct
import subprocess
import sys
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    MPEG2MPML,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from tumortrace.phantom.dicom import DicomForm
from tumortrace_runtime.io.dicom.codestream import frame_header

ENHANCED = DicomForm(enhanced=True)
COMPRESSIBLE = (2, 32, 40)
"""JPEG 2000 takes no smaller images."""


def signed(image: Any) -> None:
    """Makes stored pixels signed, 200 lower than they were."""
    image.PixelRepresentation = 1
    image.PixelData = ((image.pixel_array.astype(np.int16) - 200) & 0x0FFF).tobytes()


@pytest.mark.parametrize("is_signed", [False, True])
@pytest.mark.parametrize("syntax", [None, RLELossless], ids=["plain", "RLE"])
def test_12_bits_lose_an_overlay_that_lies_above_them(study: Any, syntax: Any, is_signed: bool) -> None:
    def overlay(image: Any) -> None:
        image.PixelRepresentation = int(is_signed)
        image.PixelData = (image.pixel_array | 0x4000).tobytes()
        image.add_new((0x6000, 0x0102), "US", 14)
        if syntax:
            image.compress(syntax, generate_instance_uid=False)

    study.write()
    study.edit(overlay)
    scan = study.read()
    assert scan.voxels.dtype == (np.int16 if is_signed else np.uint16)
    np.testing.assert_array_equal(scan.voxels[..., 0], study.voxels())


def test_signed_12_bits_get_their_sign(study: Any) -> None:
    study.write()
    study.edit(signed)
    scan = study.read()
    assert scan.voxels.dtype == np.int16
    np.testing.assert_array_equal(scan.voxels[..., 0], study.voxels().astype(int) - 200)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint32, np.int32])
def test_pixels_of_8_and_32_bits_keep_their_dtype(study: Any, dtype: Any) -> None:
    def store(image: Any) -> None:
        image.PixelData = image.pixel_array.astype(dtype).tobytes()
        image.BitsAllocated = image.BitsStored = 8 * np.dtype(dtype).itemsize
        image.HighBit = image.BitsStored - 1
        image.PixelRepresentation = int(np.dtype(dtype).kind == "i")

    voxels = study.voxels() % 100
    study.write(voxels=voxels)
    study.edit(store)
    scan = study.read()
    assert scan.voxels.dtype == dtype
    np.testing.assert_array_equal(scan.voxels[..., 0], voxels)


@pytest.mark.parametrize("is_signed", [False, True])
def test_monochrome1_is_complemented(study: Any, is_signed: bool) -> None:
    study.write()
    before = study.read().voxels[..., 0].astype(int)
    if is_signed:
        study.edit(signed)
        before -= 200
    study.edit(lambda image: setattr(image, "PhotometricInterpretation", "MONOCHROME1"))
    np.testing.assert_array_equal(study.read().voxels[..., 0], -1 - before if is_signed else 4095 - before)


def test_each_slice_is_rescaled_by_its_own_slope_and_intercept(study: Any) -> None:
    def rescale(image: Any) -> None:
        image.RescaleSlope, image.RescaleIntercept = 0.5 * image.InstanceNumber, -3

    study.write()
    study.edit(rescale)
    scan = study.read()
    assert scan.voxels.dtype == np.float32
    slopes = 0.5 * np.arange(1, 7)[:, None, None]
    np.testing.assert_allclose(scan.voxels[..., 0], study.voxels() * slopes - 3)


def test_enhanced_frames_are_rescaled_by_their_own_transformation(study: Any) -> None:
    def rescale(image: Any) -> None:
        del image.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence
        for number, groups in enumerate(image.PerFrameFunctionalGroupsSequence):
            groups.PixelValueTransformationSequence = [item(RescaleSlope=number + 1, RescaleIntercept=7)]

    study.write(form=ENHANCED)
    study.edit(rescale)
    wanted = study.voxels() * np.arange(1.0, 7)[:, None, None] + 7
    np.testing.assert_allclose(study.read().voxels[..., 0], wanted)


@pytest.mark.parametrize("enhanced", [False, True])
def test_a_real_world_mapping_serves_where_nothing_else_rescales(study: Any, enhanced: bool) -> None:
    def map_values(image: Any) -> None:
        holder = image.SharedFunctionalGroupsSequence[0] if enhanced else image
        holder.pop("PixelValueTransformationSequence", None)
        holder.RealWorldValueMappingSequence = [item(RealWorldValueSlope=2.0, RealWorldValueIntercept=10.0)]

    study.write(form=DicomForm(enhanced))
    study.edit(map_values)
    np.testing.assert_allclose(study.read().voxels[..., 0], study.voxels() * 2.0 + 10)


def test_a_slope_beyond_float32_is_refused(study: Any) -> None:
    study.write()
    study.edit(lambda image: (setattr(image, "RescaleSlope", "1e5"), setattr(image, "RescaleIntercept", "1e39")))
    assert "RescaleIntercept is not 1 numbers, or one is absurd" in study.refusal()


@pytest.mark.parametrize("enhanced", [False, True])
@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless], ids=lambda syntax: syntax.name)
def test_compressed_images_give_the_same_values(study: Any, syntax: Any, enhanced: bool) -> None:
    voxels = study.voxels(COMPRESSIBLE)
    study.write(voxels=voxels, form=DicomForm(enhanced))
    _require_encoder(syntax)
    study.edit(lambda image: image.compress(syntax, generate_instance_uid=False))
    np.testing.assert_array_equal(study.read().voxels[..., 0], voxels)


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless], ids=lambda syntax: syntax.name)
def test_compressed_signed_images_give_the_same_values(study: Any, syntax: Any) -> None:
    voxels = study.voxels(COMPRESSIBLE) % 1000
    study.write(voxels=voxels)
    study.edit(signed)
    _require_encoder(syntax)
    study.edit(lambda image: image.compress(syntax, generate_instance_uid=False))
    np.testing.assert_array_equal(study.read().voxels[..., 0], voxels.astype(int) - 200)


@pytest.mark.parametrize("is_signed", [False, True])
@pytest.mark.parametrize("enhanced", [False, True])
def test_lossless_jpeg_is_read_without_any_codec(study: Any, enhanced: bool, is_signed: bool) -> None:
    study.write(form=DicomForm(enhanced))
    if is_signed:
        study.edit(signed)
    study.edit(to_lossless_jpeg)
    np.testing.assert_array_equal(study.read().voxels[..., 0], study.voxels().astype(int) - 200 * is_signed)


def test_lossless_jpeg_of_8_bits_is_read(study: Any) -> None:
    def store(image: Any) -> None:
        image.PixelData = image.pixel_array.astype(np.uint8).tobytes()
        image.BitsAllocated, image.BitsStored, image.HighBit = 8, 8, 7

    study.write(voxels=study.voxels() % 256)
    study.edit(store)
    study.edit(to_lossless_jpeg)
    np.testing.assert_array_equal(study.read().voxels[..., 0], study.voxels() % 256)


def test_damaged_lossless_jpeg_is_refused(study: Any) -> None:
    def damage(image: Any) -> None:
        frame = pydicom.encaps.get_frame(image.PixelData, 0, number_of_frames=1).rstrip(b"\0")
        image.PixelData = pydicom.encaps.encapsulate([frame[:-10] + b"\xff\0" * 4 + frame[-2:]])

    study.write()
    study.edit(to_lossless_jpeg)
    study.edit(damage, 2)
    assert "0003.dcm: cannot be decoded as DICOM" in study.refusal()


def test_big_endian_images_give_the_same_values(study: Any) -> None:
    def turn(image: Any) -> None:
        image.PixelData = image.pixel_array.astype(">u2").tobytes()
        image["PixelData"].VR = "OW"
        image.file_meta.TransferSyntaxUID = ExplicitVRBigEndian

    for path in study.write().iterdir():
        image = pydicom.dcmread(path)
        turn(image)
        pydicom.dcmwrite(path, image, little_endian=False, implicit_vr=False)
    np.testing.assert_array_equal(study.read().voxels[..., 0], study.voxels())


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless], ids=lambda syntax: syntax.name)
def test_a_frame_larger_than_its_header_says_is_refused_before_it_is_decoded(study: Any, syntax: Any) -> None:
    def claim_less(image: Any) -> None:
        image.Rows, image.Columns = 40, 50
        image.PixelData = np.random.default_rng(1).integers(0, 4096, (40, 50), dtype=np.uint16).tobytes()
        image.compress(syntax, generate_instance_uid=False)
        image.Rows, image.Columns = 4, 5

    study.write()
    _require_encoder(syntax)
    study.edit(claim_less)
    assert "frame 1 is not of 4 x 5 pixels once decoded" in study.refusal()


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless], ids=lambda syntax: syntax.name)
def test_an_incomplete_frame_is_refused(study: Any, syntax: Any) -> None:
    def cut(image: Any) -> None:
        image.compress(syntax, generate_instance_uid=False)
        frame = pydicom.encaps.get_frame(image.PixelData, 0, number_of_frames=1)
        image.PixelData = pydicom.encaps.encapsulate([frame[: len(frame) // 2]])

    study.write(voxels=study.voxels(COMPRESSIBLE))
    _require_encoder(syntax)
    study.edit(cut)
    assert "frame 1 is incomplete" in study.refusal()


@pytest.mark.parametrize("is_signed", [False, True])
def test_a_frame_and_a_header_that_differ_about_signs_are_refused(study: Any, is_signed: bool) -> None:
    def compress(image: Any) -> None:
        image.PixelRepresentation = int(is_signed)
        image.compress(JPEG2000Lossless, generate_instance_uid=False)
        image.PixelRepresentation = int(not is_signed)

    study.write(voxels=study.voxels(COMPRESSIBLE) % 1000)
    _require_encoder(JPEG2000Lossless)
    study.edit(compress)
    assert "frame 1 and its header differ in whether values have a sign; decompress it first" in study.refusal()


@pytest.mark.parametrize("syntax", [None, RLELossless, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize("is_signed", [False, True])
def test_values_beyond_the_bits_told_of_are_refused(study: Any, syntax: Any, is_signed: bool) -> None:
    def compress(image: Any) -> None:
        image.PixelRepresentation = int(is_signed)
        image.BitsStored, image.HighBit = 12, 11
        if syntax:
            image.compress(syntax, generate_instance_uid=False)
        image.BitsStored, image.HighBit = 8, 7
        image.add_new((0x6000, 0x0102), "US", 15)

    study.write(voxels=study.voxels(COMPRESSIBLE) % 1000)
    if syntax:
        _require_encoder(syntax)
    study.edit(compress)
    assert "has values from 0 to 999, and 8 bits by its header; it is damaged" in study.refusal()


@pytest.mark.parametrize("said", [ImplicitVRLittleEndian, ExplicitVRLittleEndian], ids=lambda syntax: syntax.name)
def test_pixels_are_found_where_the_transfer_syntax_is_wrong_about_value_representations(study: Any, said: Any) -> None:
    """Bytes before the pixels, taken for some of them, would move the image."""
    for path in study.write().iterdir():
        image = pydicom.dcmread(path)
        image.file_meta.TransferSyntaxUID = said
        is_implicit = said == ExplicitVRLittleEndian
        pydicom.dcmwrite(path, image, implicit_vr=is_implicit, little_endian=True, force_encoding=True)
    np.testing.assert_array_equal(study.read().voxels[..., 0], study.voxels())


@pytest.mark.parametrize("frame_bytes", [80, 96, 104])
def test_compressed_pixels_said_to_be_plain_are_refused(study: Any, frame_bytes: int) -> None:
    """Even where frames, with what stands around them, are as many bytes as the pixels would be: the second."""

    def compress(image: Any) -> None:
        image.PixelData = pydicom.encaps.encapsulate([bytes(frame_bytes)], has_bot=False)
        image["PixelData"].VR, image["PixelData"].is_undefined_length = "OB", True
        image.file_meta.TransferSyntaxUID = RLELossless

    study.write()
    study.edit(compress)
    for path in study.root.rglob("*.dcm"):
        content = path.read_bytes()
        assert content.count(b"1.2.840.10008.1.2.5\0") == 1
        path.write_bytes(content.replace(b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.1.2.1\0"))
    said = study.refusal()
    assert "bytes of pixels, and by its header 112" in said
    assert ("has 112 bytes" in said) == (frame_bytes == 96)


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [0, 1, 2, 3, 4, 4]])
def test_a_table_of_frames_must_be_right(study: Any, order: list[int]) -> None:
    def store(image: Any) -> None:
        image.compress(RLELossless, generate_instance_uid=False)
        frames = list(pydicom.encaps.generate_frames(image.PixelData, number_of_frames=6))
        image.PixelData, offsets, lengths = pydicom.encaps.encapsulate_extended(frames)
        begins, sizes = np.frombuffer(offsets, "<u8"), np.frombuffer(lengths, "<u8")
        image.ExtendedOffsetTable = begins[order].tobytes()
        image.ExtendedOffsetTableLengths = sizes[order].tobytes()

    study.write(form=ENHANCED)
    study.edit(store)
    if order == sorted(set(order)):
        np.testing.assert_array_equal(study.read().voxels[..., 0], study.voxels())
    else:
        assert "its table of frames is not where its frames are" in study.refusal()


def test_an_odd_number_of_bytes_is_padded(study: Any) -> None:
    def store(image: Any) -> None:
        image.PixelData = image.pixel_array.astype(np.uint8).tobytes() + b"\0"
        image.BitsAllocated = image.BitsStored = 8
        image.HighBit = 7

    study.write(voxels=study.voxels((3, 7, 9)))
    study.edit(store)
    np.testing.assert_array_equal(study.read().voxels[..., 0], study.voxels((3, 7, 9)))


@pytest.mark.parametrize("syntax", [MPEG2MPML, HTJ2KLossless, JPEGBaseline8Bit], ids=lambda syntax: syntax.name)
def test_pixels_that_are_not_what_their_syntax_says_are_refused(study: Any, syntax: Any) -> None:
    def claim(image: Any) -> None:
        image.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8 no image"])
        image["PixelData"].VR, image["PixelData"].is_undefined_length = "OB", True
        image.file_meta.TransferSyntaxUID = syntax

    study.write()
    study.edit(claim)
    said = study.refusal()
    assert "not of 7 x 8 pixels" in said or "which is not read; decompress it first" in said


def test_a_missing_codec_is_named_with_the_command_that_brings_it(study: Any) -> None:
    folder = study.write()
    _require_encoder(JPEGLSLossless)
    study.edit(lambda image: image.compress(JPEGLSLossless, generate_instance_uid=False))
    program = f"""
import sys
sys.modules.update(dict.fromkeys(("gdcm", "jpeg_ls", "pylibjpeg", "libjpeg")))
from pathlib import Path
from tumortrace_runtime.errors import InputError
from tumortrace_runtime.io import find_cases, read_case
try:
    read_case(find_cases(Path({str(folder)!r}))[0], with_truth=False)
except InputError as problem:
    print(problem)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "is compressed as JPEG-LS Lossless" in done.stdout
    assert "pip install 'tumortrace[dicom-codecs]'" in done.stdout


def test_a_missing_library_is_named_with_the_command_that_brings_it(study: Any) -> None:
    folder = study.write()
    program = f"""
import sys
sys.modules["pydicom"] = None
from pathlib import Path
from tumortrace_runtime.errors import InputError
from tumortrace_runtime.io import find_cases
try:
    find_cases(Path({str(folder)!r}))
except InputError as problem:
    print(problem)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "pydicom is not installed: pip install 'tumortrace[dicom]'\n"


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless], ids=lambda syntax: syntax.name)
def test_a_codestream_tells_its_size(study: Any, syntax: Any) -> None:
    image = pydicom.dcmread(next(study.write(voxels=study.voxels(COMPRESSIBLE)).iterdir()))
    _require_encoder(syntax)
    image.compress(syntax)
    encoded = pydicom.encaps.get_frame(image.PixelData, 0, number_of_frames=1)
    assert frame_header(encoded) == (32, 40, 1, False if syntax == JPEG2000Lossless else None)
    for length in range(12):
        assert frame_header(encoded[:length]) is None


def to_lossless_jpeg(image: Any) -> None:
    """Compresses an image as ITU-T T.81, annex H, has it: first predictor, codes of five bits for sizes 0 to 16."""
    bits_stored = int(image.BitsStored)
    frames = image.pixel_array.reshape(-1, image.Rows, image.Columns).astype(int) & ((1 << bits_stored) - 1)
    image.PixelData = pydicom.encaps.encapsulate([lossless_jpeg(frame, bits_stored) for frame in frames])
    image["PixelData"].VR, image["PixelData"].is_undefined_length = "OB", True
    image.file_meta.TransferSyntaxUID = JPEGLosslessSV1


def lossless_jpeg(frame: Any, precision: int) -> bytes:
    predicted = np.roll(frame, 1, axis=1)
    predicted[1:, 0] = frame[:-1, 0]
    predicted[0, 0] = 1 << (precision - 1)
    bits = ""
    for difference in (frame - predicted).ravel().tolist():
        size = abs(difference).bit_length()
        value = difference if difference > 0 else difference + (1 << size) - 1
        bits += f"{size:05b}" + (f"{value:0{size}b}" if size else "")
    bits += "1" * (-len(bits) % 8)
    entropy = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    return (
        b"\xff\xd8\xff\xc3\0\x0b"
        + struct.pack(">BHH", precision, *frame.shape)
        + b"\x01\x01\x11\0\xff\xc4\0\x24\0\0\0\0\0\x11"
        + bytes(11)
        + bytes(range(17))
        + b"\xff\xda\0\x08\x01\x01\0\x01\0\0"
        + entropy
        + b"\xff\xd9"
    )


def item(**values: Any) -> pydicom.Dataset:
    dataset = pydicom.Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def _require_encoder(syntax: Any) -> None:
    if not pydicom.pixels.get_encoder(syntax).is_available:
        pytest.skip(f"nothing here writes {syntax.name}: pip install 'tumortrace[dicom-codecs]'")
