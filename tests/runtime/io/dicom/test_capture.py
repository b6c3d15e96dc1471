"""Secondary captures: the picture, what marks it, and what it refers to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom import dcmread

from tumortrace_runtime.io.dicom.writing import write_overlay
from tumortrace_runtime.overlay import mark

from .stored import ALGORITHM, PATIENT, write_classic, write_enhanced


def picture(rows: int = 540, columns: int = 768) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 255, (rows, columns, 3), np.uint8)


def test_the_picture_is_there_with_words_above_it(tmp_path: Path) -> None:
    series = write_classic(tmp_path / "in")
    png, capture = write_overlay(series.scan, picture(), tmp_path / "out", ALGORITHM)
    np.testing.assert_array_equal(np.array(Image.open(png)), picture())
    pixels = dcmread(capture).pixel_array
    np.testing.assert_array_equal(pixels[-540:], picture())
    np.testing.assert_array_equal(pixels, mark(picture(), "Research output, not a medical device"))


def test_its_tags_say_that_it_is_research_and_names_nobody_in_its_pixels(tmp_path: Path) -> None:
    series = write_enhanced(tmp_path / "in")
    header = dcmread(write_overlay(series.scan, picture(), tmp_path / "out", ALGORITHM)[1])
    assert list(header.ImageType)[:2] == ["DERIVED", "SECONDARY"]
    assert header.BurnedInAnnotation == "NO"
    assert header.DerivationDescription.startswith("Research output, not a medical device.")
    assert header.PatientOrientation == ["L", "P"]
    assert [item.ReferencedSOPInstanceUID for item in header.SourceImageSequence] == ["2.25.6001"]
    assert {keyword: str(header[keyword].value) for keyword in PATIENT} == PATIENT
    assert header.StudyInstanceUID == "2.25.1"


def test_the_same_picture_is_the_same_instance_and_another_is_not(tmp_path: Path) -> None:
    series = write_classic(tmp_path / "in")
    pictures = {"first": picture(), "again": picture(), "other": picture() // 2}
    files = {
        name: write_overlay(series.scan, each, tmp_path / name, ALGORITHM)[1].read_bytes()
        for name, each in pictures.items()
    }
    assert files["first"] == files["again"]
    uids = [dcmread(tmp_path / name / "overlay.dcm").SOPInstanceUID for name in pictures]
    assert uids[0] == uids[1] != uids[2]
