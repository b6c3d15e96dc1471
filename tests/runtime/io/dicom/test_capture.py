"""Secondary captures: the picture, what marks it, and what it refers to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom import dcmread

from tumortrace.phantom import DicomForm
from tumortrace_runtime.io import write_overlay
from tumortrace_runtime.overlay import mark

from .truth import ALGORITHM, PATIENT, name_patient


def picture(rows: int = 540, columns: int = 768) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 255, (rows, columns, 3), np.uint8)


def test_the_picture_is_there_with_words_above_it(study: Any, tmp_path: Path) -> None:
    study.write()
    png, capture = write_overlay(study.read(), picture(), tmp_path / "out", ALGORITHM)
    np.testing.assert_array_equal(np.array(Image.open(png)), picture())
    pixels = dcmread(capture).pixel_array
    np.testing.assert_array_equal(pixels[-540:], picture())
    np.testing.assert_array_equal(pixels, mark(picture(), "Research output, not a medical device"))


def test_its_tags_say_that_it_is_research_and_names_nobody_in_its_pixels(study: Any, tmp_path: Path) -> None:
    study.write(form=DicomForm(enhanced=True))
    study.edit(name_patient)
    scan = study.read()
    header = dcmread(write_overlay(scan, picture(), tmp_path / "out", ALGORITHM)[1])
    assert list(header.ImageType)[:2] == ["DERIVED", "SECONDARY"]
    assert header.BurnedInAnnotation == "NO"
    assert header.DerivationDescription.startswith("Research output, not a medical device.")
    assert header.PatientOrientation == ["L", "P"]
    assert [item.ReferencedSOPInstanceUID for item in header.SourceImageSequence] == [
        scan.geometry.source.slices[0].sop_instance_uid
    ]
    assert {keyword: str(header[keyword].value) for keyword in PATIENT} == PATIENT
    assert header.StudyInstanceUID == scan.geometry.source.study_uid


def test_the_same_picture_is_the_same_instance_and_another_is_not(study: Any, tmp_path: Path) -> None:
    study.write()
    pictures = {"first": picture(), "again": picture(), "other": picture() // 2}
    files = {
        name: write_overlay(study.read(), each, tmp_path / name, ALGORITHM)[1].read_bytes()
        for name, each in pictures.items()
    }
    assert files["first"] == files["again"]
    uids = [dcmread(tmp_path / name / "overlay.dcm").SOPInstanceUID for name in pictures]
    assert uids[0] == uids[1] != uids[2]
