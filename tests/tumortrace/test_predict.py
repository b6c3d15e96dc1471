from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tumortrace.checkpoint import Checkpoint, load_checkpoint
from tumortrace.index import load_index, open_case
from tumortrace.predict import CheckpointPredictor, ensemble_network
from tumortrace_runtime.errors import SpecError
from tumortrace_runtime.inference import predict_mask
from tumortrace_runtime.io.scan import Scan
from tumortrace_runtime.postprocess import Postprocessing


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint: Path) -> Checkpoint:
    return replace(load_checkpoint(tiny_checkpoint), postprocessing=Postprocessing())


@pytest.fixture(scope="module")
def scan(tiny_data: Path) -> Scan:
    index = load_index(tiny_data / "index.json")
    return open_case(index, max(index.cases, key=lambda case: case.tumour_voxels).case_id)


def that_finds_nothing(checkpoint: Checkpoint) -> Checkpoint:
    """The same network with all its logits far below 0."""
    weights = dict(checkpoint.weights)
    weights["head.bias"] = weights["head.bias"] - 1000
    return replace(checkpoint, weights=weights)


def ensemble_mask(checkpoints: list[Checkpoint], scan: Scan, threshold: float) -> npt.NDArray[np.uint8]:
    network = ensemble_network(checkpoints)
    return predict_mask(network, scan, checkpoints[0].preprocessing, Postprocessing(threshold=threshold))


def test_an_ensemble_of_equals_is_each_of_them(checkpoint: Checkpoint, scan: Scan) -> None:
    alone = CheckpointPredictor(checkpoint)(scan)

    assert alone.any()
    np.testing.assert_array_equal(ensemble_mask([checkpoint] * 3, scan, 0.5), alone)


def test_an_ensemble_takes_the_mean_of_probabilities(checkpoint: Checkpoint, scan: Scan) -> None:
    pair = [checkpoint, that_finds_nothing(checkpoint)]

    assert not ensemble_mask(pair, scan, 0.5).any()
    np.testing.assert_array_equal(ensemble_mask(pair, scan, 0.25), CheckpointPredictor(checkpoint)(scan))


def test_an_ensemble_that_sees_scans_in_two_ways_is_refused(checkpoint: Checkpoint) -> None:
    other = replace(checkpoint, preprocessing=replace(checkpoint.preprocessing, foreground="not-border"))
    with pytest.raises(SpecError, match="prepared in different ways"):
        ensemble_network([checkpoint, other])
