"""Confidence on its way from a checkpoint to a device: every engine judges a scan as PyTorch does."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tumortrace.checkpoint import Checkpoint
from tumortrace.dataset import TrainingCase
from tumortrace.index import Index, open_case
from tumortrace.ood import fit_reference
from tumortrace.predict import CheckpointPredictor
from tumortrace.split import Split
from tumortrace_export.export import export
from tumortrace_export.gate import Gate
from tumortrace_export.settings import Settings
from tumortrace_runtime.bundle import CONFIDENCE, Bundle, open_bundle
from tumortrace_runtime.confidence import Confidence, OodReference, probabilities
from tumortrace_runtime.files import sha256_file
from tumortrace_runtime.inference import infer_with_statistics
from tumortrace_runtime.segmenter import Segmenter

LENIENT = Gate(max_drop=1, max_case_drop=1)
TOLERANCE = {"fp32": 1e-3, "int8": 0.25}
"""Of a score; INT8's statistics are rounded by a few thousandths of their own size."""


@pytest.fixture(scope="module")
def reference(checkpoint: Checkpoint, prepared: Callable[[str], list[TrainingCase]]) -> OodReference:
    """Learned from single slices, as if each were a scan; being spoiled means that a third is added."""
    network = CheckpointPredictor(checkpoint).network
    slices = np.concatenate(
        [infer_with_statistics(network, case.prepared.planes, 1, 8)[1] for case in prepared("train")]
    ).astype(np.float64)
    return fit_reference(slices, {"brighter": slices / 3}, {"t1ce": np.zeros(slices.shape[1])}, [])


@pytest.fixture(scope="module")
def confident(checkpoint: Checkpoint, reference: OodReference) -> Checkpoint:
    return dataclasses.replace(checkpoint, confidence=Confidence(1.7, reference))


@pytest.fixture(scope="module")
def bundle(
    confident: Checkpoint, index: Index, split: Split, made_once: Callable[[str, Callable[[Path], object]], Path]
) -> Bundle:
    settings = Settings(precisions=["int8"], formats=["onnx", "openvino"], gate=LENIENT, calibration="minmax")
    return open_bundle(made_once("confident.bundle", lambda out: export(confident, index, split, out, settings)))


def test_a_bundle_carries_it_listed_and_hashed(bundle: Bundle, confident: Checkpoint) -> None:
    assert bundle.confidence == confident.confidence
    assert bundle.manifest["files"][CONFIDENCE]["sha256"] == sha256_file(bundle.path / CONFIDENCE)
    assert bundle.manifest["output"]["statistics"] == "bottleneck"


def test_the_readme_specifies_every_field(confident: Checkpoint, reference: OodReference) -> None:
    readme = (Path(__file__).resolve().parents[2] / "export" / "README.md").read_text()
    section = readme.split("### confidence.json")[1].split("\n### ")[0]
    parts = [confident.confidence, reference, reference.distance, *reference.ways.values()]
    fields = {field.name for part in parts for field in dataclasses.fields(part)}
    assert sorted(fields - set(re.findall(r"[a-z_]+", section))) == []


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_every_engine_judges_as_pytorch_does(
    backend: str,
    precision: str,
    bundle: Bundle,
    confident: Checkpoint,
    reference: OodReference,
    index: Index,
    split: Split,
    prepared: Callable[[str], list[TrainingCase]],
) -> None:
    network, found = CheckpointPredictor(confident).network, []
    with Segmenter(bundle, backend=backend, precision=precision) as segmenter:
        for name, case in zip(split.part("val"), prepared("val"), strict=True):
            result = segmenter.segment(open_case(index, name))

            output, statistics = infer_with_statistics(network, case.prepared.planes, 1, 8)
            expected = reference.score(statistics, case.prepared.replaced)
            assert result.ood_score == pytest.approx(expected, abs=TOLERANCE[precision])
            warned = "out-of-distribution" in [notice.code for notice in result.warnings]
            assert warned == (result.ood_score > 1)
            assert result.to_dict()["ood_score"] == result.ood_score
            inside = result.mask > 0
            told = sum(lesion.voxels * lesion.confidence for lesion in result.lesions if lesion.confidence is not None)
            logits = output[:, 0][(..., *case.prepared.placement.window)]
            assert told == pytest.approx(probabilities(logits[inside], 1.7).sum(), rel=TOLERANCE[precision])
            found.append(inside.any())
    assert any(found)


def test_a_scan_beyond_the_limit_is_flagged_with_what_it_looks_like(
    bundle: Bundle, reference: OodReference, index: Index, split: Split
) -> None:
    scan = open_case(index, split.part("val")[0])

    def message(**changes: object) -> str:
        strict = dataclasses.replace(reference, **changes)
        judged = dataclasses.replace(bundle, confidence=Confidence(1.0, strict))
        with Segmenter(judged, backend="onnxruntime", precision="fp32") as segmenter:
            notices = segmenter.segment(scan).warnings
        return next(notice.message for notice in notices if notice.code == "out-of-distribution")

    brighter = dataclasses.replace(reference.ways["brighter"], offset=90.0)
    assert "most like this mistake: brighter" in message(ways={"brighter": brighter})
    far = dataclasses.replace(reference.distance, offset=50.0)
    assert "in a way that was not foreseen" in message(distance=far)


def test_a_graph_that_gives_masks_gives_a_score_but_no_probabilities(
    confident: Checkpoint, index: Index, split: Split, tmp_path: Path
) -> None:
    settings = Settings(precisions=["fp32"], formats=["onnx"], gate=LENIENT, output="mask")
    export(confident, index, split, tmp_path / "masks.bundle", settings)

    with Segmenter(tmp_path / "masks.bundle", backend="onnxruntime", precision="fp32") as segmenter:
        result = segmenter.segment(open_case(index, split.part("val")[0]))

    assert result.ood_score is not None
    assert {lesion.confidence for lesion in result.lesions} == {None}
    assert result.lesions


def test_without_confidence_there_is_no_score(tiny_bundle: Path, index: Index, split: Split) -> None:
    with Segmenter(tiny_bundle, backend="onnxruntime", precision="fp32") as segmenter:
        result = segmenter.segment(open_case(index, split.part("val")[0]))

    assert result.ood_score is None
    assert {lesion.confidence for lesion in result.lesions} == {None}
    assert not (tiny_bundle / CONFIDENCE).exists()
