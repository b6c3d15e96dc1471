from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from tumortrace.phantom import generate_case
from tumortrace_runtime.io import find_cases, read_case, write_case

Program = Callable[..., Any]


@pytest.fixture(scope="module")
def nifti_case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_case("nifti", generate_case(1, 2, size_px=64), tmp_path_factory.mktemp("nifti"))


def test_a_scan_without_masks_gets_masks_overlay_and_result(
    tumortrace: Program, tiny_bundle: Path, tiny_data: Path, tmp_path: Path
) -> None:
    source = sorted((tiny_data / "phantoms").iterdir())[1]
    scan = tmp_path / source.name
    shutil.copytree(source, scan, ignore=shutil.ignore_patterns("*_mask.tif"))
    ended = tumortrace("segment", tiny_bundle, scan, "-o", tmp_path / "out")
    assert (ended.code, ended.err) == (0, "")
    out = tmp_path / "out" / scan.name
    result = json.loads((out / "result.json").read_text())
    slices = len(list(scan.iterdir()))
    masks = [np.array(Image.open(out / name)) for name in result["masks"]]
    assert result["shape"] == [slices, 64, 64]
    assert len(masks) == slices
    assert sum(int((mask == 255).sum()) for mask in masks) == sum(item["voxels"] for item in result["lesions"]) > 0
    assert {int(value) for mask in masks for value in np.unique(mask)} == {0, 255}
    assert Image.open(out / "overlay.png").size[0] >= 512
    assert set(result["timings_ms"]) == {"decode", "preprocess", "infer", "postprocess", "total", "encode"}
    assert result["executed_precision"] == "int8"
    assert {notice["code"] for notice in result["warnings"]} >= {"unknown-spacing"}


def test_a_nifti_mask_lies_where_the_scan_lies(
    tumortrace: Program, tiny_bundle: Path, nifti_case: Path, tmp_path: Path
) -> None:
    assert tumortrace("segment", tiny_bundle, nifti_case, "-o", tmp_path / "out").code == 0
    out = tmp_path / "out" / nifti_case.name
    result = json.loads((out / "result.json").read_text())
    mask = nibabel.load(out / result["masks"][0])
    image = nibabel.load(next(nifti_case.glob("*_flair.nii*")))
    assert mask.shape == image.shape
    np.testing.assert_array_equal(mask.affine, image.affine)
    assert (mask.header["sform_code"], mask.header["qform_code"]) == (
        image.header["sform_code"],
        image.header["qform_code"],
    )
    volume_ml = float(np.asarray(mask.dataobj).astype(bool).sum()) * np.prod(image.header.get_zooms()) / 1000
    assert sum(item["volume_ml"] for item in result["lesions"]) == pytest.approx(volume_ml, rel=1e-5)


def test_a_sequence_that_the_model_does_not_see_is_not_read(
    tumortrace: Program, tiny_bundle: Path, nifti_case: Path, tmp_path: Path
) -> None:
    scan = tmp_path / nifti_case.name
    shutil.copytree(nifti_case, scan)
    (scan / f"{scan.name}_t2.nii.gz").write_text("not an image")
    assert tumortrace("segment", tiny_bundle, scan, "-o", tmp_path / "out").code == 0


def test_both_engines_give_the_same_mask_at_fp32(
    tumortrace: Program, tiny_bundle: Path, tiny_data: Path, tmp_path: Path
) -> None:
    scan = sorted((tiny_data / "phantoms").iterdir())[1]
    for backend in ("openvino", "onnxruntime"):
        options = ("--backend", backend, "--precision", "fp32", "-o", tmp_path / backend)
        assert tumortrace("segment", tiny_bundle, scan, *options).code == 0
    first, second = (
        np.stack([np.array(Image.open(path)) for path in sorted((tmp_path / name / scan.name).glob("*_mask.tif"))])
        for name in ("openvino", "onnxruntime")
    )
    assert (first != second).mean() < 1e-4


def test_bad_scans_are_named_and_the_rest_goes_on(
    tumortrace: Program, tiny_bundle: Path, tiny_data: Path, tmp_path: Path
) -> None:
    good, bad, last = sorted((tiny_data / "phantoms").iterdir())[:3]
    broken = tmp_path / bad.name
    shutil.copytree(bad, broken)
    image = next(path for path in sorted(broken.glob("*.tif")) if "_mask" not in path.name)
    image.write_bytes(image.read_bytes()[:300])
    empty = tmp_path / "empty"
    empty.mkdir()
    ended = tumortrace("segment", tiny_bundle, good, broken, empty, last, "-o", tmp_path / "out", "--json")
    assert ended.code == 5
    assert image.name in ended.err
    assert str(empty) in ended.err
    assert [Path(item["folder"]).name for item in json.loads(ended.out)["results"]] == [good.name, last.name]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [good.name, last.name]


def test_only_bad_scans_end_with_two(tumortrace: Program, tiny_bundle: Path, tmp_path: Path) -> None:
    ended = tumortrace("segment", tiny_bundle, tmp_path / "nothing-here", "-o", tmp_path / "out")
    assert ended.code == 2
    assert "nothing-here" in ended.err
    assert not (tmp_path / "out").exists()


def test_a_result_that_is_there_is_not_replaced(
    tumortrace: Program, tiny_bundle: Path, tiny_data: Path, tmp_path: Path
) -> None:
    source = sorted((tiny_data / "phantoms").iterdir())[0]
    scan = tmp_path / source.name
    shutil.copytree(source, scan)
    before = {path.name: path.read_bytes() for path in scan.iterdir()}
    ended = tumortrace("segment", tiny_bundle, scan, "-o", tmp_path)
    assert ended.code == 2
    assert "already exists" in ended.err
    assert {path.name: path.read_bytes() for path in scan.iterdir()} == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--backend", "tensorflow"), "tensorflow"),
        (("--device", "GPU.7"), "GPU.7"),
        (("--precision", "int4"), "int4"),
        (("--backend", "onnxruntime", "--precision", "bf16"), "bf16"),
        (("--threads", "1025"), "1025 given; 1 to 1024 wanted"),
        (("--precision", "fp32", "--crop"), "runs slices of one size alone"),
    ],
)
def test_an_engine_that_is_not_to_be_had_is_refused(
    tumortrace: Program, tiny_bundle: Path, tiny_data: Path, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    ended = tumortrace("segment", tiny_bundle, tiny_data / "phantoms", "-o", tmp_path / "out", *options)
    assert ended.code == 2
    assert said in ended.err
    assert "Traceback" not in ended.err
    assert not (tmp_path / "out").exists()


def test_a_missing_sequence_is_refused_by_name(
    tumortrace: Program, tiny_bundle: Path, nifti_case: Path, tmp_path: Path
) -> None:
    scan = tmp_path / nifti_case.name
    shutil.copytree(nifti_case, scan, ignore=shutil.ignore_patterns("*_t1ce*"))
    ended = tumortrace("segment", tiny_bundle, scan, "-o", tmp_path / "out")
    assert ended.code == 2
    assert "t1ce" in ended.err
    assert not (tmp_path / "out").exists()


def test_the_masks_read_back_as_the_truth_of_a_case(
    tumortrace: Program, tiny_bundle: Path, tiny_data: Path, tmp_path: Path
) -> None:
    source = sorted((tiny_data / "phantoms").iterdir())[1]
    assert tumortrace("segment", tiny_bundle, source, "-o", tmp_path / "out").code == 0
    scan = tmp_path / source.name
    shutil.copytree(source, scan, ignore=shutil.ignore_patterns("*_mask.tif"))
    for mask in (tmp_path / "out" / source.name).glob("*_mask.tif"):
        shutil.copy(mask, scan)
    (files,) = find_cases(scan)
    result = json.loads((tmp_path / "out" / source.name / "result.json").read_text())
    truth = read_case(files).truth
    assert truth is not None
    assert int(truth.sum()) == sum(item["voxels"] for item in result["lesions"])
