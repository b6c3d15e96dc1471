from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from tumortrace.losses import LOSSES, bce_loss, boundary_loss, build_loss, dice_loss, jaccard_loss, tversky_loss
from tumortrace_runtime.errors import SpecError

SHAPES = hnp.array_shapes(min_dims=4, max_dims=4, min_side=1, max_side=5)


def tensor(*slices: list[float]) -> Tensor:
    """Slices of one class and one row."""
    return torch.tensor(slices)[:, None, None, :]


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


@st.composite
def batches(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    shape = draw(SHAPES)
    logits = draw(hnp.arrays(np.float32, shape, elements=st.floats(-30, 30, width=32)))
    truth = draw(hnp.arrays(np.bool_, shape))
    return torch.from_numpy(logits), torch.from_numpy(truth).float()


def test_values_by_hand() -> None:
    # Probability 1/2 on four pixels, two of them true: overlap 1, sizes 2 + 2, smoothing 1.
    logits, truth = tensor([0.0, 0.0, 0.0, 0.0]), tensor([1.0, 1.0, 0.0, 0.0])

    assert bce_loss(logits, truth).item() == pytest.approx(math.log(2))
    assert dice_loss(logits, truth).item() == pytest.approx(1 - (2 * 1 + 1) / (4 + 1))
    assert jaccard_loss(logits, truth).item() == pytest.approx(1 - (1 + 1) / (3 + 1))
    assert tversky_loss(logits, truth).item() == pytest.approx(1 - (1 + 1) / (1 + 0.7 + 0.3 + 1))
    # Signed distances -2, -1, 1, 2 cancel out under one probability.
    assert boundary_loss(logits, truth).item() == pytest.approx(0)


def test_tversky_minds_misses_more_than_false_pixels() -> None:
    truth = tensor([1.0] * 50 + [0.0] * 50)
    missed, false = tensor([40.0] * 40 + [-40.0] * 60), tensor([40.0] * 60 + [-40.0] * 40)
    assert tversky_loss(missed, truth).item() == pytest.approx(1 - 41 / (40 + 0.7 * 10 + 1))
    assert tversky_loss(false, truth).item() == pytest.approx(1 - 51 / (50 + 0.3 * 10 + 1))


def test_the_boundary_loss_grows_with_distance_and_falls_inside() -> None:
    truth = torch.zeros(1, 1, 16, 16)
    truth[..., 4:12, 4:12] = 1

    def one_pixel(row: int, column: int) -> float:
        logits = torch.full_like(truth, -80.0)
        logits[..., row, column] = 80.0
        return boundary_loss(logits, truth).item() * truth.numel() * 16

    assert one_pixel(8, 0) == pytest.approx(4)
    assert one_pixel(8, 3) == pytest.approx(1)
    assert one_pixel(8, 4) == pytest.approx(-1)
    assert one_pixel(7, 7) == pytest.approx(-4)


def test_the_boundary_loss_is_silent_where_nothing_is_true() -> None:
    logits = torch.randn(2, 1, 8, 8)
    assert boundary_loss(logits, torch.zeros_like(logits)).item() == 0


def test_binary_cross_entropy_by_hand() -> None:
    logits, truth = tensor([logit(0.8), logit(0.3)]), tensor([1.0, 0.0])
    assert bce_loss(logits, truth).item() == pytest.approx((-math.log(0.8) - math.log(0.7)) / 2)


def test_the_overlap_is_summed_over_the_batch() -> None:
    # An empty slice with probability 0.1 on 10 pixels beside a slice that is found: together overlap 10, sizes 21.
    logits = tensor([logit(0.1)] * 10, [40.0] * 10)
    truth = tensor([0.0] * 10, [1.0] * 10)

    assert dice_loss(logits, truth).item() == pytest.approx(1 - 21 / 22)
    assert jaccard_loss(logits, truth).item() == pytest.approx(1 - 11 / 12)


def test_classes_count_alike_whatever_their_size() -> None:
    truth = torch.zeros(1, 2, 1, 100)
    truth[0, 0] = 1
    truth[0, 1, 0, 0] = 1
    logits = torch.full_like(truth, -40.0)
    logits[0, 0] = 40.0

    found, missed = 0.0, 1 - 1 / (1 + 1)
    assert dice_loss(logits, truth).item() == pytest.approx((found + missed) / 2, abs=1e-6)
    assert jaccard_loss(logits, truth).item() == pytest.approx((found + missed) / 2, abs=1e-6)


@given(batches())
def test_bounds(batch: tuple[Tensor, Tensor]) -> None:
    for name, loss in LOSSES.items():
        value = loss(*batch).item()
        assert math.isfinite(value), name
        assert value >= (-5 if name == "boundary" else -1e-6), name
    assert dice_loss(*batch).item() <= 1
    assert jaccard_loss(*batch).item() <= 1


@given(batches())
def test_jaccard_is_never_below_dice(batch: tuple[Tensor, Tensor]) -> None:
    assert jaccard_loss(*batch).item() >= dice_loss(*batch).item() - 1e-6


@given(hnp.arrays(np.bool_, SHAPES))
def test_a_perfect_prediction_costs_nothing(truth: np.ndarray) -> None:
    wanted = torch.from_numpy(truth).float()
    for name, loss in LOSSES.items():
        if name == "boundary":  # which only falls, the deeper inside the truth
            assert loss(wanted * 80 - 40, wanted).item() <= 1e-6
            continue
        assert loss(wanted * 80 - 40, wanted).item() == pytest.approx(0, abs=1e-5), name


@given(batches())
def test_gradients_are_finite(batch: tuple[Tensor, Tensor]) -> None:
    logits = batch[0].requires_grad_()
    build_loss(dict.fromkeys(LOSSES, 1.0))(logits, batch[1]).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_a_weighted_sum() -> None:
    logits, truth = tensor([0.5, -1.0, 2.0]), tensor([1.0, 0.0, 0.0])
    expected = 0.5 * bce_loss(logits, truth) + 2 * jaccard_loss(logits, truth)
    assert build_loss({"bce": 0.5, "jaccard": 2})(logits, truth).item() == pytest.approx(expected.item())


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ({"boundary": 1.0}, "loss is 'boundary'; another beside it"),
        ({"focal": 1.0}, "loss is 'focal'; one of bce, dice, jaccard, tversky, boundary wanted"),
        ({}, "loss is {}; at least one wanted"),
        ({"bce": 0.0}, r"loss\.bce is 0\.0; a positive weight wanted"),
        ({"bce": 1.0, "dice": -1.0}, r"loss\.dice is -1\.0"),
    ],
)
def test_a_sum_that_does_not_hold_is_refused(weights: dict[str, float], told: str) -> None:
    with pytest.raises(SpecError, match=told):
        build_loss(weights)
