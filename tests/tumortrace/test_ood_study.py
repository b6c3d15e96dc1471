"""What is kept of training scans for the out-of-distribution reference, with a small checkpoint and phantoms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tumortrace.checkpoint import load_checkpoint
from tumortrace.dataset import TrainingCase, prepare_case
from tumortrace.model import channels_last
from tumortrace.ood import FEWEST_SCANS
from tumortrace.ood_study import Studied, learn_reference, study_case
from tumortrace.perturb import ways_to_spoil
from tumortrace.phantom import generate_case
from tumortrace.phantom.generate import replace_with_flair
from tumortrace.predict import TorchNetwork
from tumortrace_runtime.preprocess import Preprocessing, network_batch

SPEC = Preprocessing(channels=("t1", "flair", "t1ce"), grid_px=(64, 64))


@pytest.fixture(scope="module")
def network(tiny_checkpoint: Path) -> TorchNetwork:
    return TorchNetwork(channels_last(load_checkpoint(tiny_checkpoint).network()))


def case_of(*missing: str, slices: int = 12) -> TrainingCase:
    scan = generate_case(5, 1, size_px=64)
    for name in missing:
        scan = replace_with_flair(scan, name)
    assert scan.truth is not None
    return prepare_case(replace(scan, voxels=scan.voxels[8 : 8 + slices], truth=scan.truth[8 : 8 + slices]), SPEC)


@pytest.fixture(scope="module")
def whole(network: TorchNetwork) -> Studied:
    return study_case(network, case_of(), SPEC)


def test_a_whole_scan_is_seen_entire_spoiled_and_without_each_set_of_sequences(
    whole: Studied, network: TorchNetwork
) -> None:
    planes = case_of().prepared.planes
    statistics = [network.run_all(network_batch(planes, n, n + 1, SPEC.context))["bottleneck"] for n in range(12)]
    np.testing.assert_allclose(whole.mean, np.concatenate(statistics).mean(axis=0), rtol=1e-5, atol=1e-6)
    assert set(whole.changes) == set(ways_to_spoil(SPEC.channels))
    assert set(whole.absences) == {"t1", "t1ce", "t1 t1ce"}
    for change in (*whole.changes.values(), *whole.absences.values()):
        assert change.shape == whole.mean.shape
        assert np.abs(change).max() > 0


def test_an_absence_is_what_blanking_those_sequences_changes(whole: Studied, network: TorchNetwork) -> None:
    planes = case_of().prepared.planes
    blank = planes.copy()
    blank[:, 2] = 0
    own, without = (network.run_all(network_batch(each, 4, 5, SPEC.context))["bottleneck"] for each in (planes, blank))
    np.testing.assert_allclose(whole.absences["t1ce"], (without - own)[0], rtol=1e-4, atol=1e-5)  # slice 4 of 12 alone


def test_the_same_scan_is_spoiled_in_the_same_way_again(whole: Studied, network: TorchNetwork) -> None:
    again = study_case(network, case_of(), SPEC)
    for way, change in whole.changes.items():
        np.testing.assert_array_equal(again.changes[way], change)


def test_a_scan_without_a_sequence_has_a_mean_alone(network: TorchNetwork) -> None:
    studied = study_case(network, case_of("t1ce"), SPEC)
    assert (studied.replaced, studied.changes, studied.absences) == (("t1ce",), {}, {})
    assert np.isfinite(studied.mean).all()


def test_a_scan_of_one_slice_is_studied_too(network: TorchNetwork) -> None:
    assert np.isfinite(study_case(network, case_of(slices=1), SPEC).absences["t1"]).all()


def test_incomplete_scans_do_not_count_as_training(whole: Studied) -> None:
    incomplete = replace(whole, replaced=("t1",), changes={}, absences={})
    rng = np.random.default_rng(0)
    many = [replace(whole, mean=whole.mean + rng.standard_normal(whole.mean.shape)) for _ in range(FEWEST_SCANS)]
    assert learn_reference([*many[1:], *[incomplete] * FEWEST_SCANS], many[:1]) is None
    reference = learn_reference([*many, incomplete], many[:1])
    assert reference is not None
    assert reference.statistics == len(whole.mean)
