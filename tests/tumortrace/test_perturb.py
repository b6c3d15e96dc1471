"""Spoiled scans are what their names say, on the grid of the scan itself."""

from __future__ import annotations

import numpy as np
import pytest

from tumortrace.perturb import on_grid, ways_to_spoil, wrong_orders

CHANNELS = ("t1", "flair", "t1ce")


@pytest.fixture
def planes() -> np.ndarray:
    """A scan whose background is -2, and whose last sequence is missing."""
    planes = np.full((3, 3, 8, 8), -2.0, np.float32)
    planes[:, :2, 2:5, 1:6] = np.random.default_rng(0).standard_normal((3, 2, 3, 5))
    planes[:, 2] = 0
    return planes


def spoil(way: str, planes: np.ndarray, seed: int = 0) -> np.ndarray:
    return ways_to_spoil(CHANNELS)[way](planes, np.random.default_rng(seed))


@pytest.mark.parametrize("way", ways_to_spoil(CHANNELS))
def test_a_copy_has_the_scans_shape_and_range_and_leaves_it_alone(way: str, planes: np.ndarray) -> None:
    before = planes.copy()
    copy = spoil(way, planes)
    np.testing.assert_array_equal(planes, before)
    assert (copy.shape, copy.dtype) == (planes.shape, np.float32)
    assert not np.array_equal(copy, planes)
    assert planes.min() <= copy.min()
    assert copy.max() <= planes.max()


def test_an_order_names_what_stands_in_the_place_of_each_channel(planes: np.ndarray) -> None:
    np.testing.assert_array_equal(spoil("order flair t1 t1ce", planes), planes[:, [1, 0, 2]])
    np.testing.assert_array_equal(spoil("order flair t1ce t1", planes), planes[:, [1, 2, 0]])


@pytest.mark.parametrize(("channels", "count"), [(("flair",), 0), (("t1", "flair"), 1), (CHANNELS, 4)])
def test_every_wrong_order_misplaces_the_flair(channels: tuple[str, ...], count: int) -> None:
    orders = wrong_orders(channels)
    assert len(set(orders)) == len(orders) == count
    place = channels.index("flair")
    assert all(sorted(order) == list(range(len(channels))) and order[place] != place for order in orders)


def test_turning_left_and_right_are_opposites(planes: np.ndarray) -> None:
    left = spoil("turned left", planes)
    np.testing.assert_array_equal(left, np.rot90(planes, 1, axes=(2, 3)))
    np.testing.assert_array_equal(spoil("turned right", left), planes)
    np.testing.assert_array_equal(spoil("upside down", planes), planes[:, :, ::-1])


def test_noise_is_as_strong_as_it_says_and_leaves_missing_sequences_missing(planes: np.ndarray) -> None:
    wide = np.zeros((2, 3, 64, 64), np.float32)
    wide[0, :2], wide[1, :2] = -50, 50  # so that nothing is clipped
    wide[:, :2, 8:56, 8:56] = 0

    noise = (spoil("noise 0.5", wide) - wide)[:, :2, 8:56, 8:56]

    assert noise.std() == pytest.approx(0.5, rel=0.05)
    assert (spoil("noise 1", planes)[:, 2] == 0).all()
    np.testing.assert_array_equal(spoil("noise 1", planes, 3), spoil("noise 1", planes, 3))
    assert (spoil("noise 1", planes, 3) != spoil("noise 1", planes, 4)).any()


def test_a_turned_scan_is_cut_and_padded_around_its_centre() -> None:
    planes = np.arange(1, 9, dtype=np.float32).reshape(1, 1, 2, 4)
    np.testing.assert_array_equal(on_grid(planes, (4, 2))[0, 0], [[1, 1], [2, 3], [6, 7], [1, 1]])
    np.testing.assert_array_equal(on_grid(planes, (2, 4)), planes)
