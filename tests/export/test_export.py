from __future__ import annotations

import hashlib
import json
import math
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tumortrace.checkpoint import Checkpoint
from tumortrace.index import Index, open_case
from tumortrace.predict import CheckpointPredictor
from tumortrace.split import Split
from tumortrace_export.export import PYTORCH, PYTORCH_NHWC, Settings, export
from tumortrace_runtime.bundle import MANIFEST, SEAL, Bundle, open_bundle
from tumortrace_runtime.errors import DatasetError, OutputError, SpecError
from tumortrace_runtime.files import canonical_json, read_json, sha256_bytes, sha256_file
from tumortrace_runtime.golden import load_golden, self_test
from tumortrace_runtime.segmenter import Segmenter
from tumortrace_runtime.settings import to_dict

MODELS = {
    ("onnxruntime", "fp32"): "model.onnx",
    ("onnxruntime", "fp16"): "model.fp16.onnx",
    ("onnxruntime", "int8"): "model.int8.onnx",
    ("openvino", "fp32"): "model.onnx",
    ("openvino", "fp16"): "openvino/model.fp16.xml",
    ("openvino", "int8"): "openvino/model.int8.xml",
}
OTHERS = {"openvino/model.fp16.bin", "openvino/model.int8.bin", "golden/phantom-1.npz", "golden/phantom-2.npz"}
QUICK = Settings(int8=False, formats=("onnx",), max_drop=1.0)


@pytest.fixture(scope="module")
def bundle(by_program: Any) -> Bundle:
    return open_bundle(by_program.bundle)


@pytest.fixture(scope="module")
def rows(by_program: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(by_program.stdout)["artefacts"]
    return rows


def files_of(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_every_file_is_there_listed_and_as_hashed(bundle: Bundle) -> None:
    files = files_of(bundle.path)
    assert set(files) == {*MODELS.values(), *OTHERS, MANIFEST, SEAL}
    listed = bundle.manifest["files"]
    assert set(listed) == set(files) - {MANIFEST, SEAL}
    for name, entry in listed.items():
        assert entry == {"sha256": hashlib.sha256(files[name]).hexdigest(), "size_bytes": len(files[name])}


def test_the_seal_is_checked_by_coreutils(bundle: Bundle) -> None:
    done = subprocess.run(["sha256sum", "--check", SEAL], cwd=bundle.path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{MANIFEST}: OK\n")


def test_the_manifest_says_what_the_network_takes_and_gives(bundle: Bundle, checkpoint: Checkpoint) -> None:
    manifest = bundle.manifest
    assert (manifest["format"], manifest["version"], manifest["name"]) == ("tumortrace-bundle", 1, "tiny")
    assert manifest["input"] == {
        "tensor": "input",
        "shape": ["batch", 9, 64, 64],
        "dtype": "float32",
        "preprocessing": to_dict(checkpoint.preprocessing),
    }
    assert manifest["output"] == {
        "tensor": "logits",
        "shape": ["batch", 1, 64, 64],
        "dtype": "float32",
        "classes": ["background", "tumour"],
        "postprocessing": to_dict(checkpoint.postprocessing),
    }
    assert bundle.preprocessing == checkpoint.preprocessing
    assert bundle.postprocessing == checkpoint.postprocessing
    assert manifest["model"] == to_dict(checkpoint.model)
    assert "Not a medical device" in manifest["intended_use"]
    assert len(manifest["limits"]) >= 2


def test_the_manifest_says_where_it_comes_from(
    bundle: Bundle, checkpoint: Checkpoint, index: Index, split: Split
) -> None:
    manifest = bundle.manifest
    assert manifest["training"] == json.loads(json.dumps(dict(checkpoint.training)))
    validation = split.part("val")
    assert manifest["validation"] == {
        "cases": validation,
        "index_sha256": index.sha256,
        "split_sha256": split.sha256,
    }
    calibration = manifest["calibration"]
    assert calibration["cases"] == split.part("train")
    assert not set(calibration["cases"]) & set(validation)
    assert calibration["cases_sha256"] == sha256_bytes(canonical_json(calibration["cases"]))
    assert (calibration["method"], calibration["slices_per_case"]) == ("minmax", 8)
    assert set(manifest["tools"]) == {"tumortrace", "torch", "onnx", "onnxruntime", "openvino", "numpy"}


def test_the_readme_specifies_every_field(bundle: Bundle) -> None:
    readme = (Path(__file__).resolve().parents[2] / "export" / "README.md").read_text()
    manifest = bundle.manifest
    measured = manifest["measurements"]
    parts = [manifest, manifest["input"], manifest["output"], manifest["calibration"], manifest["validation"], measured]
    parts += [manifest["input"]["preprocessing"], manifest["output"]["postprocessing"], manifest["model"]]
    parts += [manifest["artefacts"][0], manifest["artefacts"][0]["accuracy"], measured["cpu"]]
    parts += [next(iter(measured["ms_per_slice"].values())), next(iter(manifest["files"].values())), manifest["tools"]]
    named = set(re.findall(r"[a-z0-9_]+", readme))
    assert [key for part in parts for key in part if key not in named] == []


def test_every_artefact_is_measured(bundle: Bundle, rows: list[dict[str, Any]], checkpoint: Checkpoint) -> None:
    reference, _, *artefacts = bundle.manifest["artefacts"]
    assert {(item["backend"], item["precision"]): item["path"] for item in artefacts} == MODELS
    scores = list(checkpoint.training["validation_dice"].values())
    assert (reference["path"], reference["size_bytes"]) == ("", 0)
    assert reference["accuracy"]["dice"] == pytest.approx(np.mean(scores))
    assert reference["accuracy"]["worst_dice"] == pytest.approx(min(scores))

    for item in artefacts:
        accuracy = item["accuracy"]
        assert accuracy["drop"] == pytest.approx(reference["accuracy"]["dice"] - accuracy["dice"])
        assert accuracy["case_drop"] >= accuracy["drop"] - 1e-12
        assert accuracy["largest_logit_error"] < {"fp32": 1e-3, "fp16": 0.2, "int8": 3}[item["precision"]]
        assert sum(item["layer_precisions"].values()) == 11
        weights = item["path"].replace(".xml", ".bin")
        sizes = [(bundle.path / name).stat().st_size for name in {item["path"], weights}]
        assert item["size_bytes"] == sum(sizes)
    assert [item["accuracy"] for item in bundle.manifest["artefacts"]] == [row["accuracy"] for row in rows]
    openvino_int8 = next(item for item in artefacts if item["path"] == "openvino/model.int8.xml")
    assert openvino_int8["layer_precisions"] == {"int8": 11}


def test_speed_is_measured_beside_pytorch(bundle: Bundle, rows: list[dict[str, Any]]) -> None:
    measured = bundle.manifest["measurements"]
    names = {PYTORCH, PYTORCH_NHWC, *(f"{backend} {precision}" for backend, precision in MODELS)}
    assert set(measured["ms_per_slice"]) == set(measured["speedup_over_pytorch"]) == names
    reference = measured["ms_per_slice"][PYTORCH]["median_ms"]
    for name, timing in measured["ms_per_slice"].items():
        assert 0 < timing["min_ms"] <= timing["median_ms"] <= timing["p90_ms"]
        assert measured["speedup_over_pytorch"][name] == pytest.approx(reference / timing["median_ms"])
    assert measured["cpu"]["threads"] >= 1
    for row in rows:
        assert row["timing"] == measured["ms_per_slice"][f"{row['backend']} {row['precision']}"]


@pytest.mark.parametrize(("backend", "precision"), MODELS)
def test_a_bundle_segments_as_the_checkpoint_does(
    backend: str, precision: str, bundle: Bundle, checkpoint: Checkpoint, index: Index, split: Split
) -> None:
    with Segmenter(bundle, backend=backend, precision=precision) as segmenter:
        scores = self_test(segmenter)
        masks = [segmenter.segment(open_case(index, name)).mask for name in split.part("val")]

    assert scores == {"phantom-1.npz": 1.0, "phantom-2.npz": 1.0}
    predict = CheckpointPredictor(checkpoint)
    expected = [predict(open_case(index, name)) for name in split.part("val")]
    assert any(mask.any() for mask in expected)
    flipped = sum(int((mask != wanted).sum()) for mask, wanted in zip(masks, expected, strict=True))
    recorded = next(
        item["accuracy"]["flipped_per_million"]
        for item in bundle.manifest["artefacts"]
        if (item["backend"], item["precision"]) == (backend, precision)
    )
    assert math.isclose(1e6 * flipped / sum(mask.size for mask in masks), recorded)


def test_golden_masks_are_there_for_every_engine_and_precision(bundle: Bundle) -> None:
    cases = [load_golden(file) for file in sorted((bundle.path / "golden").iterdir())]
    names = {f"{backend} {precision}" for backend, precision in MODELS}
    assert [set(case.masks) for case in cases] == [names, names]
    assert any(mask.any() for case in cases for mask in case.masks.values())


def test_an_export_in_another_process_gives_the_same_files(
    bundle: Bundle, checkpoint: Checkpoint, index: Index, split: Split, tmp_path: Path
) -> None:
    """All but what was measured on the way: times, the date, and so the manifest's hash."""
    export(checkpoint, index, split, tmp_path / "tiny.bundle", Settings(int8=True, max_drop=1.0))
    ours, theirs = files_of(tmp_path / "tiny.bundle"), files_of(bundle.path)

    assert set(ours) == set(theirs)
    assert {name for name in ours if ours[name] != theirs[name]} == {MANIFEST, SEAL}
    manifests = [json.loads(files[MANIFEST]) for files in (ours, theirs)]
    assert manifests[0].pop("measurements") != manifests[1].pop("measurements")
    assert manifests[0] == manifests[1]


def test_another_split_is_refused(checkpoint: Checkpoint, index: Index, split: Split, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="trained on another split"):
        export(checkpoint, index, replace(split, seed=9), tmp_path / "tiny.bundle", QUICK)
    assert list(tmp_path.iterdir()) == []


def test_a_fold_whose_validation_was_trained_on_is_refused(
    checkpoint: Checkpoint, index: Index, split: Split, tmp_path: Path
) -> None:
    seen = set(split.part("train"))
    fold = next(number for number in range(2) if seen & set(split.part("val", number)))
    with pytest.raises(DatasetError, match="which would score it; give the fold it had"):
        export(checkpoint, index, split, tmp_path / "tiny.bundle", QUICK, fold=fold)
    with pytest.raises(SpecError, match="no fold 2"):
        export(checkpoint, index, split, tmp_path / "tiny.bundle", QUICK, fold=2)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_bundle_is_left_alone(bundle: Bundle, checkpoint: Checkpoint, index: Index, split: Split) -> None:
    before = sha256_file(bundle.path / MANIFEST)
    with pytest.raises(OutputError, match=r"tiny\.bundle: already exists"):
        export(checkpoint, index, split, bundle.path, QUICK)
    assert sha256_file(bundle.path / MANIFEST) == before
    assert read_json(bundle.path / MANIFEST)["name"] == "tiny"


def test_a_full_disk_leaves_nothing(
    checkpoint: Checkpoint, index: Index, split: Split, tmp_path: Path, files_of_at_most: Any
) -> None:
    with files_of_at_most(100_000), pytest.raises(OutputError, match=r"tiny\.bundle: cannot be written"):
        export(checkpoint, index, split, tmp_path / "tiny.bundle", QUICK)
    assert list(tmp_path.iterdir()) == []
