from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumortrace.dataset import TrainingCase
from tumortrace_export.calibration import CASES, SLICES_PER_CASE, calibration_batches, choose_cases
from tumortrace_runtime.errors import DatasetError
from tumortrace_runtime.preprocess import network_batch


def names(count: int) -> list[str]:
    return [f"case_{number:03d}" for number in range(count)]


@given(st.integers(1, 200))
def test_cases_are_spread_over_all_of_them(count: int) -> None:
    chosen = choose_cases(names(count), [])
    numbers = [int(name.removeprefix("case_")) for name in chosen]

    assert len(numbers) == min(count, CASES)
    assert numbers[0] == 0
    assert numbers[-1] == count - 1 or count == 1
    gaps = np.diff(numbers)
    assert count <= 1 or (gaps.min() >= 1 and gaps.max() - gaps.min() <= 1)


def test_the_order_in_which_cases_are_given_does_not_matter() -> None:
    shuffled = list(np.random.default_rng(0).permutation(names(50)))
    assert choose_cases(shuffled, []) == choose_cases(names(50), [])


def test_a_case_that_scores_does_not_calibrate() -> None:
    with pytest.raises(DatasetError, match="case_007 would both calibrate and score"):
        choose_cases(names(20), ["case_090", "case_007"])


def test_without_training_cases_nothing_is_calibrated() -> None:
    with pytest.raises(DatasetError, match="no training case to calibrate on"):
        choose_cases([], names(3))


def test_half_of_a_cases_slices_show_tumour(prepared: Callable[[str], list[TrainingCase]]) -> None:
    case = lengthened(next(case for case in prepared("train") if case.truth.any()))
    batches = list(calibration_batches([case], context=1))
    drawn = [place_of(batch, case) for batch in batches]

    assert len(set(drawn)) == SLICES_PER_CASE
    assert sum(case.grid_truth[number].any() for number in drawn) == SLICES_PER_CASE // 2
    with_tumour = np.flatnonzero(case.grid_truth.any(axis=(1, 2)))
    assert {with_tumour[0], with_tumour[-1]} <= set(drawn)


def test_a_case_without_tumour_gives_the_other_half(prepared: Callable[[str], list[TrainingCase]]) -> None:
    case = lengthened(prepared("train")[0])
    free = replace(case, grid_truth=np.zeros_like(case.grid_truth))
    assert len(list(calibration_batches([free], context=0))) == SLICES_PER_CASE // 2


def test_a_short_case_gives_all_that_it_has(prepared: Callable[[str], list[TrainingCase]]) -> None:
    case = prepared("train")[0]
    short = replace(
        case, grid_truth=case.grid_truth[:2], prepared=replace(case.prepared, planes=case.prepared.planes[:2])
    )
    batches = list(calibration_batches([short, short], context=2))
    assert [batch.shape for batch in batches] == [(1, 15, 64, 64)] * 4


def lengthened(case: TrainingCase) -> TrainingCase:
    """The case and, below and above it, itself with no tumour."""
    planes = case.prepared.planes
    noise = np.random.default_rng(0).standard_normal((2, *planes.shape)).astype(np.float32)
    return replace(
        case,
        prepared=replace(case.prepared, planes=np.concatenate([noise[0], planes, noise[1]])),
        grid_truth=np.concatenate([np.zeros_like(case.grid_truth), case.grid_truth, np.zeros_like(case.grid_truth)]),
    )


def place_of(batch: np.ndarray, case: TrainingCase) -> int:
    (found,) = (
        number
        for number in range(len(case.grid_truth))
        if np.array_equal(batch, network_batch(case.prepared.planes, number, number + 1, 1))
    )
    return found
