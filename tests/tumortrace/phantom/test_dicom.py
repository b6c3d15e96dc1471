"""`tumortrace phantom --layout dicom`: studies that say what they are, in any orientation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from click.testing import CliRunner

from tumortrace.commands.phantom import command
from tumortrace.phantom import DicomForm
from tumortrace_runtime.errors import SpecError
from tumortrace_runtime.io import find_cases, read_case
from tumortrace_runtime.io.dicom import DicomGeometry


def run(out: Path, *options: str) -> Any:
    arguments = ["-o", str(out), "--cases", "1", "--seed", "3", "--size-px", "32", "--layout", "dicom", "--json"]
    result = CliRunner().invoke(command, [*arguments, *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["cases"][0]


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--enhanced"],
        ["--orientation", "sagittal", "--tilt", "5", "-10", "15"],
        ["--enhanced", "--orientation", "coronal"],
        ["--orientation", "RAS"],
    ],
    ids=" ".join,
)
def test_lesions_lie_where_it_says(tmp_path: Path, options: list[str]) -> None:
    made = run(tmp_path / "out", *options)
    (files,) = find_cases(tmp_path / "out")
    scan = read_case(files, with_truth=False)
    assert scan.channels == ("t1", "flair", "t1ce")
    assert scan.geometry.spacing_mm == pytest.approx(made["spacing_mm"])
    assert isinstance(scan.geometry, DicomGeometry)
    assert made["lesions"]
    for lesion in made["lesions"]:
        place = scan.geometry.affine[:3] @ (*lesion["centroid_px"], 1)
        np.testing.assert_allclose(place, lesion["centroid_mm"], atol=1e-3)


def test_the_same_arguments_give_the_same_files(tmp_path: Path) -> None:
    for name in ("first", "second"):
        run(tmp_path / name)
    first, second = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.dcm")}
        for name in ("first", "second")
    )
    assert first == second
    assert len(first) > 60


def test_studies_of_other_forms_have_other_uids(tmp_path: Path) -> None:
    run(tmp_path / "axial")
    run(tmp_path / "sagittal", "--orientation", "sagittal")
    studies = [find_cases(tmp_path / name)[0].case_id for name in ("axial", "sagittal")]
    assert len(set(studies)) == 2


def test_an_enhanced_study_is_one_image_a_series(tmp_path: Path) -> None:
    run(tmp_path / "out", "--enhanced")
    images = [pydicom.dcmread(path) for path in sorted((tmp_path / "out").rglob("*.dcm"))]
    assert len(images) == 3
    assert {image.SOPClassUID.name for image in images} == {"Enhanced MR Image Storage"}
    assert (
        len({image.FrameOfReferenceUID for image in images}) == len({image.StudyInstanceUID for image in images}) == 1
    )


@pytest.mark.parametrize("axes", ["LPI", "LPL", "LP", "LPX", "", "left"])
def test_axes_that_dicom_does_not_have_are_refused(axes: str) -> None:
    with pytest.raises(SpecError, match="axes"):
        DicomForm(axes=axes)


def test_a_tilt_beyond_the_nearest_axis_is_refused() -> None:
    with pytest.raises(SpecError, match="tilt"):
        DicomForm(tilt_degrees=(0, 50, 0))


def test_options_of_dicom_are_for_dicom(tmp_path: Path) -> None:
    arguments = ["-o", str(tmp_path / "out"), "--cases", "1", "--seed", "3", "--enhanced"]
    result = CliRunner().invoke(command, arguments)
    assert (result.exit_code, "--enhanced: is for --layout dicom" in result.output) == (2, True)
    assert not (tmp_path / "out").exists()
