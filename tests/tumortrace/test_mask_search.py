"""Which post-processing is chosen, on made-up logits for which the best is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tumortrace.mask_search import choose_postprocessing
from tumortrace_runtime.metrics import dice
from tumortrace_runtime.postprocess import Postprocessing
from tumortrace_runtime.postprocessor import Postprocessor

START = Postprocessing(fill_holes=True, min_lesion_voxels=20)
Case = tuple[np.ndarray, np.ndarray]


def case(seed: int, specks: int = 0, offset: float = 0.0, noise: float = 0.1) -> Case:
    """A block of tumour of 8 x 12 x 12 voxels; specks of 30 voxels beside it are none."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((10, 40, 40), np.uint8)
    truth[1:9, 14:26, 14:26] = 1
    logits = np.where(truth, 3.0, -3.0) + noise * rng.standard_normal(truth.shape)
    for number in range(specks):
        logits[1:6, 2:8, 2 + 6 * number] = 3.0
    return (logits + offset).astype(np.float32), truth


def mean_dice(cases: list[Case], spec: Postprocessing) -> float:
    postprocessor = Postprocessor(spec)
    return float(np.mean([dice(postprocessor.segment_logits(logits).mask, truth) for logits, truth in cases]))


def test_what_is_as_good_as_anything_stays() -> None:
    choice = choose_postprocessing([case(seed) for seed in range(4)], START)
    assert choice.postprocessing == START
    assert choice.dice == choice.start_dice == choice.best_dice == 1.0


def test_specks_are_removed_and_nothing_else_is_changed() -> None:
    cases = [case(seed, specks=2 + seed % 3) for seed in range(5)]

    choice = choose_postprocessing(cases, START)

    assert choice.postprocessing == replace(START, min_lesion_voxels=50)
    assert choice.dice == choice.best_dice == 1.0
    assert choice.left_out_gain == pytest.approx(choice.dice - choice.start_dice)
    assert choice.dice == pytest.approx(mean_dice(cases, choice.postprocessing))


def test_no_known_tumour_is_too_small_to_be_found() -> None:
    cases = [case(seed, specks=3) for seed in range(4)]
    assert choose_postprocessing(cases, START, tumours=[0, 59, 400]).postprocessing.min_lesion_voxels <= 29


def test_a_threshold_that_is_too_high_is_lowered() -> None:
    cases = [case(seed, offset=-3.4, noise=0.3) for seed in range(5)]
    choice = choose_postprocessing(cases, START)
    assert choice.postprocessing.threshold < START.threshold
    assert choice.dice > choice.start_dice


def test_one_case_that_gains_does_not_decide() -> None:
    cases = [case(seed) for seed in range(5)] + [case(5, specks=4)]
    choice = choose_postprocessing(cases, START)
    assert choice.postprocessing == START
    assert choice.best_dice > choice.dice


def test_a_single_case_decides_nothing() -> None:
    choice = choose_postprocessing([case(0, specks=4)], START)
    assert (choice.postprocessing, choice.left_out_gain) == (START, None)


@pytest.mark.parametrize("truth_is_empty", [False, True])
def test_every_dice_is_that_of_the_whole_post_processing(truth_is_empty: bool) -> None:
    """Settings that differ in the least lesion alone share components; the figures are those of each by itself."""
    rng = np.random.default_rng(7)
    cases = []
    for _ in range(3):
        logits = rng.standard_normal((6, 24, 24)).astype(np.float32)
        truth = np.zeros(logits.shape, np.uint8) if truth_is_empty else (logits > 0.3).astype(np.uint8)
        cases.append((logits, truth))
    start = Postprocessing(threshold=0.6, opening_px=1, connectivity=6, min_lesion_voxels=7)

    choice = choose_postprocessing(cases, start)

    for spec, told in ((start, choice.start_dice), (choice.postprocessing, choice.dice)):
        assert told == pytest.approx(mean_dice(cases, spec))
    assert choice.postprocessing.connectivity == 6
    assert choice.tried > 200
