from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from tumortrace.augment import Augmentation, augment
from tumortrace_runtime.errors import SpecError

OFF = Augmentation(flip=0, rotation_degrees=0, scaling=0, noise=0, intensity=0, bias_field=0, drop_sequence=0)
DROPPABLE = (0, 2)
SEEDS = st.integers(0, 2**31)


def sample(seed: int = 0, shape: tuple[int, ...] = (3, 3, 3, 24, 32)) -> tuple[Tensor, Tensor]:
    """A batch (n, neighbours, sequences, rows, columns) with a blob that the truth marks."""
    generator = Generator().manual_seed(seed)
    n, _, _, rows, columns = shape
    return torch.randn(shape, generator=generator), disc(rows, columns, radius=6).expand(n, 1, rows, columns).clone()


def disc(rows: int, columns: int, radius: float) -> Tensor:
    row, column = torch.meshgrid(torch.arange(rows) + 0.5, torch.arange(columns) + 0.5, indexing="ij")
    return ((row - rows / 2) ** 2 + (column - columns / 2) ** 2 <= radius**2).float()


def vary(batch: Tensor, truth: Tensor, how: Augmentation = OFF, seed: int = 0) -> tuple[Tensor, Tensor]:
    droppable = tuple(sequence for sequence in DROPPABLE if sequence < batch.shape[2])
    return augment(batch, truth, how, droppable, Generator().manual_seed(seed))


@given(SEEDS)
@settings(max_examples=15)
def test_the_generator_decides_everything(seed: int) -> None:
    batch, truth = sample()
    first, again, other = (vary(batch, truth, Augmentation(), each) for each in (seed, seed, seed + 1))

    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_the_batch_that_is_given_stays_as_it_is() -> None:
    batch, truth = sample()
    copies = batch.clone(), truth.clone()
    vary(batch, truth, Augmentation())
    assert torch.equal(batch, copies[0])
    assert torch.equal(truth, copies[1])


@given(SEEDS)
@settings(max_examples=15)
def test_shapes_stay_and_the_truth_stays_binary(seed: int) -> None:
    batch, truth = sample()
    varied, moved = vary(batch, truth, Augmentation(), seed)

    assert (varied.shape, varied.dtype) == (batch.shape, batch.dtype)
    assert (moved.shape, moved.dtype) == (truth.shape, truth.dtype)
    assert set(moved.unique().tolist()) <= {0.0, 1.0}
    assert moved.any()
    assert torch.isfinite(varied).all()


def test_switched_off_nothing_changes() -> None:
    batch, truth = sample()
    varied, same = vary(batch, truth)
    torch.testing.assert_close(varied, batch, atol=2e-5, rtol=0)
    assert torch.equal(same, truth)


@given(SEEDS)
@settings(max_examples=15)
def test_a_missing_sequence_stays_missing(seed: int) -> None:
    batch, truth = sample()
    batch[1, :, 2] = 0
    varied, _ = vary(batch, truth, replace(Augmentation(), drop_sequence=0), seed)

    assert not varied[1, :, 2].any()
    assert varied[0].flatten(2).any(-1).all()


@given(SEEDS)
@settings(max_examples=25)
def test_image_and_truth_move_together(seed: int) -> None:
    geometry = replace(OFF, flip=0.5, rotation_degrees=180, scaling=0.3)
    truth = torch.zeros(2, 1, 40, 56)
    truth[:, :, 12:22, 20:26] = 1
    truth[:, :, 19:22, 20:36] = 1  # an L, which no rotation turns into its mirror image
    batch = truth[:, :, None].expand(2, 3, 2, 40, 56).clone()
    varied, moved = vary(batch, truth, geometry, seed)

    assert moved.any()
    unequal = (varied >= 0.5).float() != moved[:, :, None]
    assert unequal.float().mean() < 1e-4  # a pixel may lie exactly on the threshold


def test_a_mirror_image_swaps_left_and_right() -> None:
    batch, _ = sample()
    truth = torch.zeros(3, 1, 24, 32)
    truth[..., 5:10, 3:9] = 1
    varied, moved = vary(batch, truth, replace(OFF, flip=1))

    torch.testing.assert_close(varied, batch.flip(-1), atol=2e-5, rtol=0)
    assert torch.equal(moved, truth.flip(-1))


@given(SEEDS)
@settings(max_examples=15)
def test_a_rotation_keeps_shapes_on_any_grid(seed: int) -> None:
    batch = torch.zeros(1, 1, 1, 32, 96)
    truth = disc(32, 96, radius=10)[None, None]
    _, moved = vary(batch, truth, replace(OFF, rotation_degrees=180, flip=0.5), seed)
    assert (moved != truth).sum() <= 0.1 * truth.sum()


@given(SEEDS)
@settings(max_examples=15)
def test_zoom_stays_within_its_bounds(seed: int) -> None:
    batch = torch.zeros(1, 1, 1, 64, 64)
    truth = disc(64, 64, radius=16)[None, None]
    _, moved = vary(batch, truth, replace(OFF, scaling=0.25), seed)
    assert 0.97 / 1.25**2 < moved.sum() / truth.sum() < 1.03 * 1.25**2


@given(SEEDS)
@settings(max_examples=15)
def test_a_patch_is_a_piece_of_the_slice(seed: int) -> None:
    truth = (torch.rand(2, 1, 24, 40, generator=Generator().manual_seed(seed)) < 0.5).float()
    batch = truth[:, :, None].expand(2, 3, 2, 24, 40).clone()
    varied, moved = vary(batch, truth, replace(OFF, patch_px=16), seed)

    assert varied.shape == (2, 3, 2, 16, 16)
    assert moved.shape == (2, 1, 16, 16)
    # Between pixels a piece is interpolated, so its mean lies between the least and the largest of all pieces.
    pieces = F.avg_pool2d(truth, 16, stride=1).flatten(1)
    assert (varied.mean(dim=(1, 2, 3, 4)) >= pieces.amin(1) - 0.1).all()
    assert (varied.mean(dim=(1, 2, 3, 4)) <= pieces.amax(1) + 0.1).all()


def test_patches_reach_every_corner() -> None:
    row, column = torch.meshgrid(torch.arange(24.0), torch.arange(32.0), indexing="ij")
    batch = torch.stack([row, column])[None, None].expand(400, 1, 2, 24, 32).clone()
    varied, _ = vary(batch, torch.zeros(400, 1, 24, 32), replace(OFF, patch_px=16))
    first = varied[:, 0, :, 0, 0]

    assert first[:, 0].min() < 0.5
    assert first[:, 0].max() > 24 - 16 - 0.5
    assert first[:, 1].min() < 0.5
    assert first[:, 1].max() > 32 - 16 - 0.5
    torch.testing.assert_close(varied[:, 0, 0, -1, 0] - first[:, 0], torch.full((400,), 15.0), atol=1e-3, rtol=0)


def test_a_patch_larger_than_the_slice_is_the_slice() -> None:
    batch, truth = sample()
    varied, moved = vary(batch, truth, replace(OFF, patch_px=64))
    torch.testing.assert_close(varied, batch, atol=2e-5, rtol=0)
    assert torch.equal(moved, truth)


@given(SEEDS)
@settings(max_examples=15)
def test_contrast_bends_between_floor_and_peak_and_keeps_the_order(seed: int) -> None:
    batch, truth = sample()
    varied, _ = vary(batch, truth, replace(OFF, gamma=0.5), seed)

    torch.testing.assert_close(varied.amin((3, 4)), batch.amin((3, 4)), atol=1e-4, rtol=0)
    torch.testing.assert_close(varied.amax((3, 4)), batch.amax((3, 4)), atol=1e-4, rtol=0)
    for number, neighbour, sequence in np.ndindex(3, 3, 3):
        order = batch[number, neighbour, sequence].flatten().argsort()
        assert (varied[number, neighbour, sequence].flatten()[order].diff() >= -1e-5).all()


def test_contrast_bends_on_about_half_of_the_samples() -> None:
    batch = torch.rand(200, 1, 1, 8, 8, generator=Generator().manual_seed(1))
    varied, _ = vary(batch, torch.zeros(200, 1, 8, 8), replace(OFF, gamma=1.0))
    bent = (varied - batch).abs().amax((1, 2, 3, 4)) > 1e-3
    assert 60 < int(bent.sum()) < 140


def test_some_resolution_is_always_left() -> None:
    batch, truth = sample(shape=(400, 1, 1, 8, 8))
    varied, _ = vary(batch, truth, replace(OFF, resolution=0.9999))
    assert torch.isfinite(varied).all()


def test_resolution_is_lost_on_about_a_quarter_of_the_samples() -> None:
    batch = torch.randn(200, 1, 1, 32, 32, generator=Generator().manual_seed(1))
    varied, _ = vary(batch, torch.zeros(200, 1, 32, 32), replace(OFF, resolution=0.75))
    spread = varied.flatten(1).std(dim=1)
    coarser = spread < 0.9
    assert 25 < int(coarser.sum()) < 80
    torch.testing.assert_close(varied[~coarser], batch[~coarser], atol=0.35, rtol=0)
    torch.testing.assert_close(varied.mean((1, 2, 3, 4)), batch.mean((1, 2, 3, 4)), atol=0.05, rtol=0)


def test_sequences_are_dropped_in_all_neighbours_and_never_the_flair() -> None:
    batch, truth = sample()
    varied, _ = vary(batch, truth, replace(OFF, drop_sequence=1))
    assert not varied[:, :, list(DROPPABLE)].any()
    torch.testing.assert_close(varied[:, :, 1], batch[:, :, 1], atol=2e-5, rtol=0)


def test_sequences_are_dropped_as_often_as_is_asked() -> None:
    batch, truth = torch.ones(400, 1, 3, 2, 2), torch.zeros(400, 1, 2, 2)
    varied, _ = vary(batch, truth, replace(OFF, drop_sequence=0.25))
    share = (varied == 0).flatten(3).all(-1).float().mean(dim=(0, 1))
    assert share[1] == 0
    assert share[[0, 2]].tolist() == pytest.approx([0.25, 0.25], abs=0.08)


def test_intensity_is_one_gain_and_one_offset_per_sequence() -> None:
    batch, truth = sample()
    varied, _ = vary(batch, truth, replace(OFF, intensity=0.2))
    for number, sequence in np.ndindex(3, 3):
        before, after = batch[number, :, sequence].flatten().numpy(), varied[number, :, sequence].flatten().numpy()
        gain, offset = np.polyfit(before, after, 1)
        np.testing.assert_allclose(after, before * gain + offset, atol=1e-4)
        assert 1 / 1.2 <= gain <= 1.2
        assert -0.2 <= offset <= 0.2


def test_noise_is_on_about_half_of_the_samples() -> None:
    batch = torch.randn(200, 1, 1, 8, 8, generator=Generator().manual_seed(1))
    varied, _ = vary(batch, torch.zeros(200, 1, 8, 8), replace(OFF, noise=0.5))
    strength = (varied - batch).flatten(1).std(dim=1)
    assert 60 < int((strength > 1e-4).sum()) < 140
    assert strength.max() < 0.75


@pytest.mark.parametrize(
    "change",
    [
        {"flip": 1.1},
        {"drop_sequence": -0.1},
        {"rotation_degrees": 181},
        {"scaling": 2.0},
        {"noise": -0.1},
        {"gamma": 2.5},
        {"resolution": 1.0},
        {"patch_px": -16},
        {"intensity": float("nan")},
    ],
)
def test_a_strength_out_of_range_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=next(iter(change))):
        replace(OFF, **change)
