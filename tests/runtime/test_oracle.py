"""The best threshold is really the best one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tumortrace_runtime.errors import ScanError
from tumortrace_runtime.oracle import oracle_threshold_dice

SHAPE = (3, 4, 5)


def dice(mask: np.ndarray, truth: np.ndarray) -> float:
    return 2 * np.count_nonzero(mask & truth) / (np.count_nonzero(mask) + np.count_nonzero(truth))


@given(
    channel=arrays(np.int16, SHAPE, elements=st.integers(-5, 5)),
    truth=arrays(np.bool_, SHAPE).filter(lambda mask: mask.any()),
)
def test_equals_trying_every_threshold_on_both_sides(channel: np.ndarray, truth: np.ndarray) -> None:
    tried = [dice(side, truth) for value in np.unique(channel) for side in (channel >= value, channel <= value)]
    assert oracle_threshold_dice(channel, truth) == pytest.approx(max(tried))


@given(arrays(np.float32, SHAPE, elements=st.floats(-1, 1, width=32)), arrays(np.bool_, SHAPE))
def test_does_not_depend_on_sign_or_scale(channel: np.ndarray, truth: np.ndarray) -> None:
    score = oracle_threshold_dice(channel, truth)
    assert oracle_threshold_dice(channel * np.float32(-2), truth) == score


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_a_dark_lesion_is_found_as_well_as_a_bright_one(dtype: type) -> None:
    channel = np.array([[9, 9, 1], [8, 2, 7]], dtype=dtype)
    assert oracle_threshold_dice(channel, channel <= 2) == 1.0
    assert oracle_threshold_dice(channel, channel >= 8) == 1.0


def test_a_lesion_between_two_levels_is_not_separable() -> None:
    channel = np.array([0, 0, 5, 5, 9, 9], dtype=np.uint8)
    assert oracle_threshold_dice(channel, channel == 5) == pytest.approx(2 * 2 / (4 + 2))


def test_an_empty_truth_scores_one() -> None:
    assert oracle_threshold_dice(np.arange(6, dtype=np.uint8), np.zeros(6, np.uint8)) == 1.0


def test_refuses_what_cannot_be_compared() -> None:
    with pytest.raises(ScanError, match=r"\(3,\).*\(4,\)"):
        oracle_threshold_dice(np.zeros(3), np.zeros(4))
    with pytest.raises(ScanError, match="NaN"):
        oracle_threshold_dice(np.array([1.0, np.nan]), np.array([1, 0]))
