"""Calibration of a small checkpoint on phantoms: enough of them to learn from, and too few."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tumortrace.calibrate import calibrate, head_voxels
from tumortrace.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tumortrace.dataset import TrainingCase, prepare_case
from tumortrace.perturb import ways_to_spoil
from tumortrace.phantom import generate_case
from tumortrace.phantom.generate import replace_with_flair
from tumortrace.predict import CheckpointPredictor, TorchNetwork
from tumortrace_runtime.confidence import expected_calibration_error, probabilities
from tumortrace_runtime.errors import DatasetError
from tumortrace_runtime.inference import infer_with_statistics, segment_prepared
from tumortrace_runtime.metrics import dice
from tumortrace_runtime.preprocess import Preprocessing, preprocess

SPEC = Preprocessing(channels=("t1", "flair", "t1ce"), grid_px=(64, 64))
TRAINING, VALIDATION = range(1, 12), range(12, 15)


def case_of(number: int) -> TrainingCase:
    """A phantom of 64 px and 6 slices; number 4 has no contrast-enhanced sequence."""
    scan = generate_case(5, number, size_px=64)
    scan = replace_with_flair(scan, "t1ce") if number == 4 else scan
    assert scan.truth is not None
    first = max(0, int(scan.truth.sum(axis=(1, 2)).argmax()) - 3)
    kept = slice(first, first + 6)
    case = prepare_case(replace(scan, voxels=scan.voxels[kept], truth=scan.truth[kept]), SPEC)
    return replace(case, case_id=f"phantom-{number}")


@pytest.fixture(scope="module")
def training() -> list[TrainingCase]:
    return [case_of(number) for number in TRAINING]


@pytest.fixture(scope="module")
def validation() -> list[TrainingCase]:
    return [case_of(number) for number in VALIDATION]


@pytest.fixture(scope="module")
def trained(tiny_checkpoint: Path) -> Checkpoint:
    """The small checkpoint, as if it had been trained on these phantoms."""
    checkpoint = load_checkpoint(tiny_checkpoint)
    data = {
        "training_cases": [f"phantom-{number}" for number in TRAINING],
        "validation_cases": [f"phantom-{number}" for number in VALIDATION],
    }
    return replace(checkpoint, training={**checkpoint.training, "data": data})


@pytest.fixture(scope="module")
def calibrated(trained: Checkpoint, training: list[TrainingCase], validation: list[TrainingCase]) -> Checkpoint:
    return calibrate(trained, iter(training), validation)


def test_weights_and_provenance_stay(calibrated: Checkpoint, trained: Checkpoint) -> None:
    assert all(torch.equal(calibrated.weights[name], tensor) for name, tensor in trained.weights.items())
    assert {key: calibrated.training[key] for key in trained.training} == trained.training
    assert set(calibrated.training) - set(trained.training) == {"calibration"}


def test_the_report_tells_the_dice_of_what_was_chosen(
    calibrated: Checkpoint, trained: Checkpoint, validation: list[TrainingCase]
) -> None:
    network, report = CheckpointPredictor(calibrated).network, calibrated.training["calibration"]["postprocessing"]
    for spec, told in ((trained.postprocessing, "start_dice"), (calibrated.postprocessing, "dice")):
        found = [dice(segment_prepared(network, case.prepared, 1, 8, spec), case.truth) for case in validation]
        assert report[told] == pytest.approx(np.mean(found))
    assert report["postprocessing"] == dataclasses.asdict(calibrated.postprocessing)
    assert report["dice"] >= report["start_dice"]


def test_probabilities_mean_more_than_before(calibrated: Checkpoint, validation: list[TrainingCase]) -> None:
    assert calibrated.confidence is not None
    network, report = CheckpointPredictor(calibrated).network, calibrated.training["calibration"]["temperature"]
    heads = [head_voxels(case.prepared) for case in validation]
    outputs = [infer_with_statistics(network, case.prepared.planes, 1, 8)[0][:, 0] for case in validation]
    logits = np.concatenate([output[head] for output, head in zip(outputs, heads, strict=True)])
    truth = np.concatenate([case.grid_truth[head] for case, head in zip(validation, heads, strict=True)])

    assert report["voxels"] == len(logits)
    for temperature, told in ((1.0, "calibration_error_before"), (report["temperature"], "calibration_error")):
        assert report[told] == pytest.approx(expected_calibration_error(probabilities(logits, temperature), truth))
    assert report["temperature"] == calibrated.confidence.temperature

    def surprise(temperature: float) -> float:
        """The mean negative log-likelihood of the truth, which the temperature is chosen to make least."""
        likely = np.where(truth > 0, probabilities(logits, temperature), 1 - probabilities(logits, temperature))
        return float(-np.log(np.maximum(likely, 1e-7)).mean())

    assert surprise(report["temperature"]) <= surprise(1.0) + 1e-6


def test_turned_scans_are_less_familiar(calibrated: Checkpoint, validation: list[TrainingCase]) -> None:
    assert calibrated.confidence is not None
    reference = calibrated.confidence.ood
    assert reference is not None
    network = CheckpointPredictor(calibrated).network

    def score(planes: np.ndarray) -> float:
        return reference.score(infer_with_statistics(network, planes, 1, 8)[1])

    own = [score(case.prepared.planes) for case in validation]
    told = calibrated.training["calibration"]["ood"]
    assert list(told["validation_scores"].values()) == pytest.approx(own)
    assert (told["scans"], told["scans_without_a_sequence"]) == (10, 1)
    ways = ways_to_spoil(SPEC.channels)
    assert set(reference.ways) == set(ways)
    assert set(reference.absences) == {"t1", "t1ce", "t1 t1ce"}
    rng = np.random.default_rng(0)
    turned = [score(ways[way](case.prepared.planes, rng)) for way in ways if "turned" in way for case in validation]
    assert np.mean(turned) > np.mean(own)


def test_a_calibrated_checkpoint_comes_back_as_it_was(calibrated: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "calibrated", calibrated)
    loaded = load_checkpoint(tmp_path / "calibrated")
    assert replace(loaded, weights={}) == replace(calibrated, weights={})
    assert (tmp_path / "calibrated" / "checkpoint.json").stat().st_size < 200_000


def test_calibrating_again_begins_anew(
    calibrated: Checkpoint, training: list[TrainingCase], validation: list[TrainingCase]
) -> None:
    again = calibrate(calibrated, training, validation)
    assert replace(again, weights={}) == replace(calibrated, weights={})


def test_with_few_scans_there_is_no_reference_and_the_report_says_why(
    tiny_run: Callable[..., Any], tiny_checkpoint: Path
) -> None:
    run = tiny_run()
    found = calibrate(load_checkpoint(tiny_checkpoint), run.training, run.validation)
    assert found.confidence is not None
    assert found.confidence.ood is None
    told = found.training["calibration"]["ood"]
    assert 0 < told["scans"] < 10
    assert told["validation_scores"] == {}


def test_cases_with_another_part_are_refused(
    trained: Checkpoint, training: list[TrainingCase], validation: list[TrainingCase]
) -> None:
    with pytest.raises(DatasetError, match="phantom-1: is not among the validation cases"):
        calibrate(trained, training, training[:1])
    with pytest.raises(DatasetError, match="phantom-12: is not among the training cases"):
        calibrate(trained, validation, validation)
    with pytest.raises(DatasetError, match="no validation case given"):
        calibrate(trained, training, [])


def test_the_head_is_what_is_not_background() -> None:
    scan = generate_case(5, 1, size_px=64)
    voxels = scan.voxels[10:14, 4:60, 8:56]  # smaller than the grid

    head = head_voxels(preprocess(voxels, SPEC))

    assert head.shape == (4, 64, 64)
    assert not head[:, :4].any()
    assert not head[:, :, :8].any()
    bright = voxels[..., 1] > 0.5 * voxels[..., 1].max()
    assert head[:, 4:60, 8:56][bright].all()
    assert 0.1 < head.mean() < 0.9


@pytest.mark.parametrize("name", ["unet-xs", "classic"])
def test_statistics_are_of_what_the_decoder_takes_first(name: str) -> None:
    from tumortrace.model import FAMILY, ModelConfig, build_model

    torch.manual_seed(0)
    config = ModelConfig("classic", 9, 1, (16, 32), 1) if name == "classic" else FAMILY[name]
    network = build_model(config).eval()
    batch = np.random.default_rng(0).standard_normal((2, 9, 32, 32)).astype(np.float32)

    outputs = TorchNetwork(network).run_all(batch)

    assert list(outputs) == ["logits", "bottleneck"]
    np.testing.assert_array_equal(outputs["logits"], TorchNetwork(network).run(batch))
    with torch.no_grad():
        features = torch.from_numpy(batch)
        if name == "classic":
            features = network.encoder[1](network.pool(network.encoder[0](features)))
        else:
            features = network.space_to_depth(features)
            for level in network.encoder:
                features = level(features)
    exact = features.double().numpy()
    expected = np.concatenate([exact.mean(axis=(2, 3)), exact.std(axis=(2, 3))], axis=1)
    assert outputs["bottleneck"].shape == (2, 2 * config.widths[-1])
    np.testing.assert_allclose(outputs["bottleneck"], expected, atol=1e-5)
