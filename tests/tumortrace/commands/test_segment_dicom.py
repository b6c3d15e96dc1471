"""`tumortrace segment` on DICOM: masks lie where the lesions are, and the result says which series were taken."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from tumortrace.phantom import DicomForm, Phantom, write_phantom
from tumortrace_runtime.io import find_cases
from tumortrace_runtime.io.dicom import DicomGeometry

pydicom = pytest.importorskip("pydicom")

Program = Callable[..., Any]
FORMS = [
    DicomForm(),
    DicomForm(enhanced=True, axes="PIR"),
    DicomForm(axes="LIP", tilt_degrees=(8, -14, 5)),
]


def written(tmp_path: Path, form: DicomForm = FORMS[0], number: int = 2) -> tuple[Path, Phantom]:
    phantom = write_phantom(tmp_path / "studies", "dicom", 1, number, size_px=64, form=form)
    return tmp_path / "studies" / phantom.scan.case_id, phantom


def result_of(out: Path) -> dict[str, Any]:
    (folder,) = out.iterdir()
    return dict(json.loads((folder / "result.json").read_text()))


@pytest.mark.parametrize("form", FORMS, ids=["classic", "enhanced-sagittal", "oblique-coronal"])
def test_a_study_gets_a_mask_where_its_lesions_are(
    tumortrace: Program, tiny_bundle: Path, tmp_path: Path, form: DicomForm
) -> None:
    study, phantom = written(tmp_path, form)
    ended = tumortrace("segment", tiny_bundle, study, "-o", tmp_path / "out")
    assert (ended.code, ended.err) == (0, "segmenting\n")
    result = result_of(tmp_path / "out")
    (folder,) = (tmp_path / "out").iterdir()
    assert folder.name == result["case_id"] == find_cases(study)[0].case_id
    geometry = phantom.scan.geometry
    assert isinstance(geometry, DicomGeometry)
    assert result["spacing_mm"] == pytest.approx(geometry.spacing_mm)

    image = nibabel.load(folder / result["masks"][0])
    mask = np.asarray(image.dataobj)
    in_ras = np.diag((-1.0, -1.0, 1.0, 1.0)) @ geometry.affine
    np.testing.assert_allclose(image.affine, in_ras[:, [2, 1, 0, 3]], atol=1e-3)
    assert mask.sum() == sum(lesion["voxels"] for lesion in result["lesions"]) > 0
    truth = phantom.scan.truth
    assert truth is not None
    found = mask.T > 0
    assert 2 * (found & (truth > 0)).sum() / (found.sum() + truth.sum()) > 0.3  # one threshold on FLAIR finds as much


def test_the_result_says_which_series_were_taken_and_why(
    tumortrace: Program, tiny_bundle: Path, tmp_path: Path
) -> None:
    study, _ = written(tmp_path)
    assert tumortrace("segment", tiny_bundle, study, "-o", tmp_path / "out").code == 0
    t1, flair, t1ce = result_of(tmp_path / "out")["channels"]
    assert [each["channel"] for each in (t1, flair, t1ce)] == ["t1", "flair", "t1ce"]
    assert flair["series"].startswith("series 2 (SE/IR, TR 9000, TE 120, TI 2500")
    assert flair["reasons"] == ["its description names flair", "its parameters are those of flair"]
    assert "it names a contrast agent" in t1ce["reasons"]
    assert (t1["resampled"], t1["covered"]) == (None, 1.0)


def test_every_study_below_a_folder_is_a_case(tumortrace: Program, tiny_bundle: Path, tmp_path: Path) -> None:
    for number in (1, 2):
        written(tmp_path, number=number)
    ended = tumortrace("segment", tiny_bundle, tmp_path / "studies", "-o", tmp_path / "out", "--json")
    assert ended.code == 0
    assert len(json.loads(ended.out)["results"]) == len(list((tmp_path / "out").iterdir())) == 2


def test_a_missing_channel_is_refused_unless_it_is_mapped(
    tumortrace: Program, tiny_bundle: Path, tmp_path: Path
) -> None:
    study, _ = written(tmp_path)
    shutil.rmtree(study / "3-t1ce")
    ended = tumortrace("segment", tiny_bundle, study, "-o", tmp_path / "out")
    assert ended.code == 2
    assert "has no series that is t1ce. It has series 1 (" in ended.err
    assert not (tmp_path / "out").exists()

    taken = [f"--channel={channel}=SeriesDescription~FLAIR" for channel in ("t1", "flair", "t1ce")]
    assert tumortrace("segment", tiny_bundle, study, "-o", tmp_path / "out", *taken).code == 0
    result = result_of(tmp_path / "out")
    assert {each["series"][:8] for each in result["channels"]} == {"series 2"}
    assert [notice["code"] for notice in result["warnings"]][:2] == ["replaced-sequence"] * 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--channel", "flair"], "CHANNEL=TAG=VALUE or CHANNEL=TAG~PATTERN is wanted"),
        (["--channel", "flair=SeriesNumber=9"], "has no series with SeriesNumber=9"),
        (["--channel", "flair=SeriesNumber=2", "--layout", "lgg"], "takes no mapping"),
        (["--channel", "flair=SeriesNumber=2", "--mapping", "m.json"], "--channel for DICOM; give one of them"),
    ],
)
def test_a_channel_that_cannot_be_had_is_refused(
    tumortrace: Program, tiny_bundle: Path, tmp_path: Path, options: list[str], said: str
) -> None:
    (tmp_path / "m.json").write_text('{"channels": {"flair": "a.nii"}}')
    study, _ = written(tmp_path)
    options = [str(tmp_path / option) if option == "m.json" else option for option in options]
    ended = tumortrace("segment", tiny_bundle, study, "-o", tmp_path / "out", *options)
    assert ended.code == 2
    assert said in ended.err
