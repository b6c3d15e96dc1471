"""`tumortrace segment` on DICOM: masks lie where the lesions are, and the result says which series were taken."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest

from tumortrace.phantom import DicomForm, Phantom, write_phantom
from tumortrace_runtime.io import find_cases
from tumortrace_runtime.io.dicom import DicomGeometry

Program = Callable[..., Any]
EXACT_MM = 0.001
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
    assert (ended.code, ended.err) == (0, "")
    result = result_of(tmp_path / "out")
    (folder,) = (tmp_path / "out").iterdir()
    assert folder.name == result["case_id"] == find_cases(study)[0].case_id
    geometry = phantom.scan.geometry
    assert isinstance(geometry, DicomGeometry)
    assert result["spacing_mm"] == pytest.approx(geometry.spacing_mm)
    np.testing.assert_allclose(result["affine_lps"], geometry.affine, atol=EXACT_MM)

    assert {path.name for path in folder.iterdir()} == {*result["masks"], *result["overlays"], "result.json"}
    segmentation, nifti = (folder / name for name in result["masks"])
    image = nibabel.load(nifti)
    mask = geometry.source.to_scan(np.asarray(image.dataobj).T)
    truth = phantom.scan.truth
    assert truth is not None
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.3  # one threshold on FLAIR finds as much

    volume = highdicom.seg.segread(segmentation).get_volume(combine_segments=True)
    assert volume.array.sum() == mask.sum() == sum(lesion["voxels"] for lesion in result["lesions"]) > 0
    centroid = centroid_mm(geometry.affine, mask)
    np.testing.assert_allclose(centroid_mm(volume.affine, volume.array), centroid, atol=EXACT_MM)
    np.testing.assert_allclose(centroid_mm(image.affine, image.dataobj) * (-1, -1, 1), centroid, atol=EXACT_MM)


def centroid_mm(affine: Any, mask: Any) -> Any:
    return nibabel.affines.apply_affine(affine, np.argwhere(mask)).mean(axis=0)


def test_the_segmentation_names_the_bundle(tumortrace: Program, tiny_bundle: Path, tmp_path: Path) -> None:
    study, _ = written(tmp_path)
    assert tumortrace("segment", tiny_bundle, study, "-o", tmp_path / "out").code == 0
    result = result_of(tmp_path / "out")
    (segment,) = pydicom.dcmread(tmp_path / "out" / result["case_id"] / result["masks"][0]).SegmentSequence
    (made_by,) = segment.SegmentationAlgorithmIdentificationSequence
    assert (made_by.AlgorithmName, made_by.AlgorithmVersion) == (result["bundle"], result["bundle_sha256"])
    assert result["model_sha256"] in made_by.AlgorithmParameters


def test_a_patient_is_named_to_those_alone_who_ask(tumortrace: Program, tiny_bundle: Path, tmp_path: Path) -> None:
    study, _ = written(tmp_path)
    for path in study.rglob("*.dcm"):
        image = pydicom.dcmread(path)
        image.PatientName, image.PatientID, image.AccessionNumber = "Secret^Sam", "SECRET-1", "SECRET-2"
        image.save_as(path)
    ended = tumortrace("segment", tiny_bundle, study, "-o", tmp_path / "out", "--json")
    (out,) = (tmp_path / "out").iterdir()
    said = ended.out + ended.err + "".join(map(str, out.iterdir())) + (out / "result.json").read_text()
    assert ended.code == 0
    assert "secret" not in said.lower()
    asked = tumortrace("segment", tiny_bundle, study, "-o", tmp_path / "asked", "--json", "--with-identity")
    (result,) = json.loads(asked.out)["results"]
    assert (result["identity"]["PatientName"], result["identity"]["PatientID"]) == ("Secret^Sam", "SECRET-1")


def test_a_repeat_gives_the_same_files(tumortrace: Program, tiny_bundle: Path, tmp_path: Path) -> None:
    study, _ = written(tmp_path)
    first, again = tmp_path / "first", tmp_path / "again"
    for out in (first, again):
        assert tumortrace("segment", tiny_bundle, study, "-o", out).code == 0
    for path in first.glob("*/*"):
        if path.name != "result.json":  # which tells times
            assert path.read_bytes() == (again / path.relative_to(first)).read_bytes()


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
    codes = [notice["code"] for notice in result["warnings"]]
    assert codes[:2] == ["replaced-sequence"] * 2
    assert "named-otherwise" not in codes


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--channel", "flair"], "CHANNEL=TAG=VALUE or CHANNEL=TAG~PATTERN is wanted"),
        (["--channel", "flair=SeriesNumber=9"], "has no series with SeriesNumber=9"),
        (["--channel", "fliar=SeriesNumber=2"], "takes t1, flair, t1ce, not fliar"),
        (["--channel", "FLAIR=SeriesNumber=2"], "takes t1, flair, t1ce, not FLAIR"),
        (["--channel", "t2=SeriesNumber=2"], "takes t1, flair, t1ce, not t2"),
        (["--channel", "flair=SeriesNumber=2", "--layout", "lgg"], "takes no mapping"),
        (["--channel", "flair=SeriesNumber=2", "--mapping", "m.json"], "says what --channel says; give one of them"),
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
    assert not (tmp_path / "out").exists()


def test_series_that_the_caller_confused_are_told(tumortrace: Program, tiny_bundle: Path, tmp_path: Path) -> None:
    study, _ = written(tmp_path)
    confused = ["--channel=t1=SeriesNumber=2", "--channel=flair=SeriesNumber=1"]
    assert tumortrace("segment", tiny_bundle, study, "-o", tmp_path / "out", *confused).code == 0
    told = [notice for notice in result_of(tmp_path / "out")["warnings"] if notice["code"] == "named-otherwise"]
    assert [notice["message"].partition(" (")[0] for notice in told] == ["t1: series 2", "flair: series 1"]
    assert told[0]["message"].endswith(" was named; its header says flair.")


def test_a_sequence_that_shows_a_part_or_lacks_slices_is_told_once(
    tumortrace: Program, tiny_bundle: Path, tmp_path: Path
) -> None:
    study, _ = written(tmp_path)
    images = sorted((study / "1-t1").iterdir())
    for path in images[: len(images) // 4]:
        path.unlink()
    taken = [f"--channel={channel}=SeriesNumber=1" for channel in ("t1", "t1ce")]
    ended = tumortrace("segment", tiny_bundle, study, "-o", tmp_path / "out", *taken)
    assert ended.code == 0
    told = {notice["code"]: notice["message"] for notice in result_of(tmp_path / "out")["warnings"]}
    assert told["incomplete-series"].startswith("t1, t1ce: series 1 (")
    assert "covers 7" in told["partial-coverage"]
    assert ended.out.count("incomplete-series") == ended.out.count("partial-coverage") == 1


def test_a_mapping_file_names_series_too_and_is_held_to_the_model(
    tumortrace: Program, tiny_bundle: Path, tmp_path: Path
) -> None:
    study, _ = written(tmp_path)
    mapping = tmp_path / "m.json"
    command = ("segment", tiny_bundle, study, "-o", tmp_path / "out", "--layout", "dicom", "--mapping", mapping)
    mapping.write_text('{"channels": {"flair": "SeriesNumber=2", "fliar": "SeriesNumber=2"}}')
    ended = tumortrace(*command)
    assert (ended.code, "takes t1, flair, t1ce, not fliar" in ended.err) == (2, True)
    mapping.write_text('{"channels": {"flair": "SeriesNumber=2"}}')
    assert tumortrace(*command).code == 0


def test_a_study_that_is_refused_is_named_beside_those_that_are_not(
    tumortrace: Program, tiny_bundle: Path, tmp_path: Path
) -> None:
    studies = [written(tmp_path, number=number)[0] for number in (1, 2, 3, 4)]
    shutil.rmtree(studies[0] / "3-t1ce")
    next((studies[1] / "1-t1").iterdir()).write_bytes(bytes(128) + b"DICM")
    cut = sorted((studies[2] / "2-flair").iterdir())[3]
    cut.write_bytes(cut.read_bytes()[:-10])
    cases = [find_cases(study)[0].case_id for study in studies]
    ended = tumortrace("segment", tiny_bundle, tmp_path / "studies", "-o", tmp_path / "out", "--json")
    assert ended.code == 5
    said = json.loads(ended.out)
    assert [result["case_id"] for result in said["results"]] == [cases[3]]
    reasons = ["has no series that is t1ce", "no transfer syntax", "ends in the middle of a value"]
    for study, case_id, reason in zip(studies[:3], cases[:3], reasons, strict=True):
        (refused,) = (text for text in said["refused"] if case_id in text)
        assert str(study) in refused
        assert reason in refused


def test_a_place_that_cannot_be_written_is_told_before_anything_is_segmented(
    tumortrace: Program, tiny_bundle: Path, tmp_path: Path
) -> None:
    study, _ = written(tmp_path)
    (tmp_path / "out").write_text("")
    for out in (tmp_path / "out", tmp_path / "out" / "deeper"):
        ended = tumortrace("segment", tiny_bundle, study, "-o", out)
        assert ended.code == 2
        assert ended.err.startswith(f"Error: {out}: cannot be written (")
        assert len(ended.err.splitlines()) == 1
