"""What makes no volume in a certain place is refused, with the reason."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tumortrace.phantom.dicom import SEQUENCES, DicomForm, stored_affine, write_series
from tumortrace.phantom.dicom_headers import SeriesHeader
from tumortrace_runtime.errors import InputError, ScanError
from tumortrace_runtime.io import ChannelMapping, find_cases, read_case, write_case

Change = Callable[[Any], object]


def put(**values: Any) -> Change:
    """Sets elements; None deletes one."""

    def change(image: Any) -> None:
        for keyword, value in values.items():
            if value is None:
                del image[keyword]
            else:
                setattr(image, keyword, value)

    return change


def moved(by_mm: float, axis: int = 2) -> Change:
    """Moves a slice."""

    def change(image: Any) -> None:
        position = [float(value) for value in image.ImagePositionPatient]
        position[axis] += by_mm
        image.ImagePositionPatient = position

    return change


def remove(image: Any) -> bool:
    return False


CORONAL = [1, 0, 0, 0, 0, -1]

CLASSIC: dict[str, tuple[Change, tuple[int, ...], str]] = {
    "a slice is missing": (remove, (2,), "lacks 1 slice after (-2.62, -1.50, -4.50) mm"),
    "two slices are missing": (remove, (1, 2), "lacks 2 slices, the first after (-2.62, -1.50, -7.50) mm"),
    "uneven spacing": (moved(0.7), (3,), "has slices 2.300 to 3.700 mm apart; evenly spaced ones are wanted"),
    "one position twice": (moved(3.0), (2,), "has several slices at one position ((-2.62, -1.50, 1.50) mm)"),
    "a slice beside the others": (moved(0.3, axis=0), (4,), "beside the normal through the first"),
    "orientations are mixed": (put(ImageOrientationPatient=CORONAL), (3,), "several orientations"),
    "directions of no length": (put(ImageOrientationPatient=[0, 0, 0, 0, 0, 0]), (), "two directions at right angles"),
    "directions aslant": (put(ImageOrientationPatient=[1, 0, 0, 0.5, 0.87, 0]), (), "two directions at right angles"),
    "directions too long": (put(ImageOrientationPatient=[2, 0, 0, 0, 2, 0]), (), "two directions at right angles"),
    "five direction cosines": (put(ImageOrientationPatient=[1, 0, 0, 0, 1]), (), "ImageOrientationPatient is not 6"),
    "no orientation": (put(ImageOrientationPatient=None), (), "has no ImageOrientationPatient"),
    "no position": (put(ImagePositionPatient=None), (1,), "has no ImagePositionPatient"),
    "a position of two numbers": (put(ImagePositionPatient=[1, 2]), (1,), "ImagePositionPatient is not 3 numbers"),
    "a position of 1e30 mm": (put(ImagePositionPatient=["1e30", "0", "0"]), (1,), "or one is absurd"),
    "no pixel spacing": (put(PixelSpacing=None), (), "has no PixelSpacing"),
    "an empty pixel spacing": (put(PixelSpacing=""), (), "has no PixelSpacing"),
    "a pixel spacing of 0": (put(PixelSpacing=[0, 1]), (), "PixelSpacing is not positive"),
    "a negative pixel spacing": (put(PixelSpacing=[-1, 1]), (), "PixelSpacing is not positive"),
    "a pixel spacing of 1 km": (put(PixelSpacing=[1, 1e5]), (), "0.01 to 100 mm a side are wanted"),
    "pixel spacings are mixed": (put(PixelSpacing=[0.6, 0.75]), (1,), "several pixel spacings"),
    "frames of reference are mixed": (put(FrameOfReferenceUID="1.2.3"), (1,), "another FrameOfReferenceUID"),
    "no frame of reference": (put(FrameOfReferenceUID=None), (), "FrameOfReferenceUID is missing"),
    "series are mixed": (put(SeriesNumber=7), (1,), "has another SeriesNumber than"),
    "echo times are mixed": (put(EchoTime=12), (4, 5), "has another EchoTime than"),
    "inversion times are mixed": (put(InversionTime=None), (5,), "has another InversionTime than"),
    "contrast is mixed": (put(ContrastBolusAgent="Gd"), (5,), "has another ContrastBolusAgent than"),
    "descriptions are mixed": (put(SeriesDescription="FLAIR +C"), (5,), "has another SeriesDescription than"),
    "a derived image among the slices": (put(ImageType=["DERIVED", "PRIMARY"]), (5,), "has another ImageType than"),
    "frames of an image that has none": (
        lambda image: setattr(image, "PerFrameFunctionalGroupsSequence", [pydicom.Dataset()]),
        (),
        "tells of frames, and is an MR image of one slice by its class",
    ),
    "sequences are mixed": (put(ScanningSequence="GR"), (5,), "has another ScanningSequence than"),
    "sizes are mixed": (put(Rows=6), (1,), "has another Rows than"),
    "patients are mixed": (put(PatientID="other"), (1,), "has another PatientID than"),
    "names are mixed": (put(PatientName="Other^Name"), (1,), "has another PatientName than"),
    "one of them is known": (put(PatientBirthDate="19700101"), (1,), "has another PatientBirthDate than"),
    "bit depths are mixed": (put(BitsStored=16, HighBit=15), (1,), "has another BitsStored than"),
    "a secondary capture": (put(SOPClassUID="1.2.840.10008.5.1.4.1.1.7"), (), "is a secondary capture"),
    "a multi-frame secondary capture": (put(SOPClassUID="1.2.840.10008.5.1.4.1.1.7.4"), (), "is a secondary capture"),
    "a capture among the slices": (put(SOPClassUID="1.2.840.10008.5.1.4.1.1.7"), (3,), "is a secondary capture"),
    "in colour": (put(SamplesPerPixel=3, PhotometricInterpretation="RGB"), (), "is in colour"),
    "with a palette": (put(PhotometricInterpretation="PALETTE COLOR"), (), "is not grey"),
    "a CT": (put(Modality="CT", SOPClassUID="1.2.840.10008.5.1.4.1.1.2"), (), "is of modality CT, not MR"),
    "no modality": (put(Modality=None), (), "is of unknown modality, not MR"),
    "raw data": (put(SOPClassUID="1.2.840.10008.5.1.4.1.1.66"), (), "is no MR image"),
    "no size": (put(Rows=None), (), "does not tell how its pixels are stored"),
    "no pixels": (put(PixelData=None), (), "has no PixelData"),
    "fewer pixels than told": (put(PixelData=b"\0" * 50), (4,), "has 50 bytes of pixels, and by its header 112"),
    "more pixels than told": (put(PixelData=b"\0" * 114), (4,), "has 114 bytes of pixels, and by its header 112"),
    "fewer rows than there are": (put(Rows=6), (), "has 112 bytes of pixels, and by its header 96"),
    "one slice larger than all memory": (put(Rows=65535, Columns=65535), (), "1 to 268435456 voxels wanted"),
    "no rows": (put(Rows=0), (), "1 to 268435456 voxels wanted"),
    "more bits than there are": (put(BitsStored=20, HighBit=19), (), "has 20 bits up to bit 19 of 16"),
    "bits that are not the lowest": (put(HighBit=15), (), "has 12 bits up to bit 15 of 16; the lowest of"),
    "a slope of 0": (put(RescaleSlope=0, RescaleIntercept=0), (), "RescaleSlope is 0"),
    "a table of values": (put(ModalityLUTSequence=[pydicom.Dataset()]), (), "has a table of values"),
    "a path for a series": (put(SeriesInstanceUID="../../etc/passwd"), (), "SeriesInstanceUID is not a UID"),
    "a path for a study": (put(StudyInstanceUID="/tmp/x"), (), "StudyInstanceUID is not a UID"),
    "a UID of 70 digits": (put(StudyInstanceUID="1." + 68 * "2"), (), "StudyInstanceUID is not a UID"),
    "a path for an image": (put(SOPInstanceUID="1.2/../3"), (1,), "SOPInstanceUID is not a UID"),
    "no study": (put(StudyInstanceUID=None), (), "StudyInstanceUID is missing"),
    "frames that are not told of": (put(NumberOfFrames=2), (), "tells of frames, and is an MR image of one slice"),
    "two numbers of rows": (put(Rows=[7, 7]), (), "cannot be decoded as DICOM (TypeError)"),
    "one image twice": (put(SOPInstanceUID="1.2.3"), (1, 2), "have one SOPInstanceUID; remove the copy"),
}


@pytest.mark.filterwarnings("ignore")  # pydicom's, of values that are meant to be wrong
@pytest.mark.parametrize(("change", "numbers", "reason"), CLASSIC.values(), ids=CLASSIC)
def test_a_series_that_makes_no_volume_is_refused(
    study: Any, change: Change, numbers: tuple[int, ...], reason: str
) -> None:
    study.write()
    study.edit(change, *numbers)
    said = study.refusal(conditions={"flair": "SeriesDescription~FLAIR"})
    assert reason in said
    assert len(said.splitlines()) == 1


def frame(number: int, group: str, **values: Any) -> Change:
    return lambda image: put(**values)(getattr(image.PerFrameFunctionalGroupsSequence[number], group)[0])


ENHANCED: dict[str, tuple[Change, str]] = {
    "a frame is missing": (frame(2, "PlanePositionSequence", ImagePositionPatient=[0, 0, 99]), "mm apart"),
    "a frame is untold": (lambda image: image.PerFrameFunctionalGroupsSequence.pop(), "has 6 frames and tells of 5"),
    "no number of frames": (put(NumberOfFrames=None), "has 0 frames and tells of 6"),
    "a frame without a place": (
        lambda image: image.PerFrameFunctionalGroupsSequence[1].pop("PlanePositionSequence"),
        "frame 2: has no ImagePositionPatient",
    ),
    "no spacing": (
        lambda image: image.SharedFunctionalGroupsSequence[0].pop("PixelMeasuresSequence"),
        "has no PixelSpacing",
    ),
    "in colour": (put(SOPClassUID="1.2.840.10008.5.1.4.1.1.4.3"), "is in colour"),
    "echoes in one series": (
        frame(3, "PlanePositionSequence", ImagePositionPatient=[-2.625, -1.5, -7.5]),
        "has several slices at one position",
    ),
}


@pytest.mark.parametrize(("change", "reason"), ENHANCED.values(), ids=ENHANCED)
def test_an_enhanced_image_that_makes_no_volume_is_refused(study: Any, change: Change, reason: str) -> None:
    study.write(form=DicomForm(enhanced=True))
    study.edit(change)
    assert reason in study.refusal(conditions={"flair": "SeriesNumber=1"})


@pytest.mark.parametrize("keep", [0.02, 0.3, 0.6, 0.9])
def test_a_truncated_file_is_refused(study: Any, keep: float) -> None:
    path = sorted(study.write().iterdir())[3]
    content = path.read_bytes()
    path.write_bytes(content[: max(140, int(len(content) * keep))])
    assert path.name in study.refusal(conditions={"flair": "SeriesNumber=1"})


def test_a_hostile_length_takes_no_memory(study: Any) -> None:
    path = sorted(study.write().iterdir())[0]
    content = path.read_bytes()
    place = content.index(b"\x08\x00\x70\x00LO") + 6  # Manufacturer becomes 4 GB of unlimited text
    path.write_bytes(content[: place - 2] + b"UT\0\0" + b"\xf0\xff\xff\xff" + content[place + 2 :])
    assert path.name in study.refusal(conditions={"flair": "SeriesNumber=1"})


def test_a_deflated_header_is_refused_before_it_is_inflated(study: Any) -> None:
    folder = study.write()
    bomb = zlib.compress(b"\0" * (1 << 24), wbits=-15)
    for path in folder.iterdir():
        image = pydicom.dcmread(path)
        image.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
        image.save_as(path)
        path.write_bytes(path.read_bytes()[:400] + bomb)
    assert "is deflated" in study.refusal()


def test_a_folder_with_files_that_only_begin_like_dicom_is_refused(study: Any) -> None:
    (study.root / "image").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 200)
    assert "image: " in study.refusal()


def test_the_layout_has_no_masks_and_writes_no_study(study: Any, tmp_path: Path) -> None:
    study.write()
    (files,) = find_cases(study.root)
    with pytest.raises(ScanError, match="has no masks to compare with"):
        read_case(files)
    with pytest.raises(ScanError, match="no study is written in the dicom layout"):
        write_case("dicom", read_case(files, with_truth=False), tmp_path)


def test_series_of_other_frames_of_reference_are_refused(study: Any) -> None:
    study.write("flair", number=1)
    study.edit(put(FrameOfReferenceUID="1.2.3"), folder=study.write("t1", number=2))
    said = study.refusal(["t1", "flair"])
    assert "series 2 (SE, TR 520, TE 12, 6 slices): has another frame of reference than series 1" in said


@pytest.mark.parametrize("keyword", ["PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex"])
@pytest.mark.parametrize("value", ["M", ""])
def test_series_of_several_patients_are_refused(study: Any, keyword: str, value: str) -> None:
    """As two studies that were given one UID are."""
    study.write("flair", number=1)
    study.edit(put(**{keyword: "F"}))
    study.edit(put(**{keyword: value}), folder=study.write("t1", number=2))
    said = study.refusal(["t1", "flair"])
    assert f"6 slices): has another {keyword} than series " in said
    assert study.read(["t1"]).channels == ("t1",)


def test_empty_parts_of_a_name_make_no_other_patient(study: Any) -> None:
    study.write("flair", number=1)
    study.edit(put(PatientName="Doe^Jane^^^"))
    study.edit(put(PatientName="Doe^Jane"), folder=study.write("t1", number=2))
    assert study.read(["t1", "flair"]).channels == ("t1", "flair")


def test_a_series_that_covers_little_of_the_scan_is_refused(study: Any) -> None:
    study.write("flair", number=1)
    affine = np.diag((3.0, 0.5, 0.75, 1.0))[:, [2, 1, 0, 3]]
    affine[:3, 3] = (100, 0, 0)
    study.write("t1", number=2, affine=affine)
    assert "covers 0% of the grid that it is resampled onto; 50% are wanted" in study.refusal(["t1", "flair"])


def test_nothing_that_is_said_names_the_patient(study: Any) -> None:
    study.write("t1", number=1)
    study.write("t1", number=2)
    study.edit(put(PatientName="Doe^Jane", PatientID="4711", SeriesDescription="T1 Jane Doe"))
    for said in (study.refusal(), study.refusal(["flair"]), study.refusal(conditions={"t1": "SeriesNumber=9"})):
        assert not any(word in said for word in ("Doe", "Jane", "4711"))
    study.edit(put(ScanningSequence="DOE^JANE", Modality="DOE^JANE"))
    assert "is of unknown modality, not MR" in (said := study.refusal())
    assert "JANE" not in said


@given(
    enhanced=st.booleans(),
    place=st.integers(128, 2500),
    removed=st.integers(0, 6),
    put_in=st.binary(max_size=6),
)
@settings(max_examples=60)
def test_damage_anywhere_is_refused_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, enhanced: bool, place: int, removed: int, put_in: bytes
) -> None:
    """Whatever bytes change, nothing but a typed error comes of it, in a line, and no warning that quotes the file."""
    root = tmp_path_factory.mktemp("damaged")
    shape, spacing_mm = (3, 4, 5), (3.0, 0.5, 0.7)
    form = DicomForm(enhanced)
    header = SeriesHeader("case", ("study",), 1, SEQUENCES["flair"], "1.2.3")
    voxels = np.arange(60, dtype=np.uint16).reshape(shape)
    write_series(root / "flair", voxels, stored_affine(shape, spacing_mm, form), header, enhanced)
    path = sorted((root / "flair").iterdir())[0]
    content = path.read_bytes()
    path.write_bytes(content[:place] + put_in + content[place + removed :])
    mapping = ChannelMapping({"flair": "Modality~."})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            scans = [read_case(files, mapping, channels=["flair"], with_truth=False) for files in find_cases(root)]
    except InputError as problem:
        assert len(str(problem).splitlines()) == 1
    else:
        assert {scan.voxels.ndim for scan in scans} == {4}
