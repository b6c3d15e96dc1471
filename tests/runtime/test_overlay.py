"""Pictures: their size, where outlines stand, and which slices are shown."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumortrace_runtime.overlay import (
    PREDICTION,
    TRUTH,
    draw_montage,
    draw_overlay,
    intensity_window,
    largest_slice,
    mark,
    spread_slices,
)


def has(picture, colour):
    return (picture == np.array(colour, np.uint8)).all(axis=-1)


def box(shape, rows, columns):
    mask = np.zeros(shape, np.uint8)
    mask[rows, columns] = 1
    return mask


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32, np.float64])
def test_outlines_stand_on_the_edge_of_the_masks(dtype):
    image = np.arange(64 * 80).reshape(64, 80).astype(dtype)
    prediction = box((64, 80), slice(10, 20), slice(30, 50))
    truth = box((64, 80), slice(40, 60), slice(5, 25))

    picture = draw_overlay(image, prediction, truth)[: 64 * 7]

    assert picture.shape == (448, 560, 3)
    for colour, (top, bottom, left, right) in {PREDICTION: (70, 139, 210, 349), TRUTH: (280, 419, 35, 174)}.items():
        rows, columns = np.nonzero(has(picture, colour))
        np.testing.assert_allclose(
            (rows.min(), rows.max(), columns.min(), columns.max()), (top, bottom, left, right), atol=1
        )
        assert not has(picture, colour)[top + 4 : bottom - 4, left + 4 : right - 4].any()


def test_the_image_below_is_grey_and_keeps_its_order():
    image = np.tile(np.linspace(-3, 3, 128, dtype=np.float32), (128, 1))

    picture = draw_overlay(image, np.zeros_like(image))[:512]

    assert (picture == picture[..., :1]).all()
    assert (np.diff(picture[100, :, 0].astype(int)) >= 0).all()
    assert (picture[..., 0].min(), picture[..., 0].max()) == (0, 255)


def test_without_truth_there_is_no_truth_in_the_legend():
    image = mask = np.zeros((512, 512), np.uint8)

    assert not has(draw_overlay(image, mask), TRUTH).any()
    assert has(draw_overlay(image, mask, mask), TRUTH).any()


def test_a_large_image_is_not_enlarged():
    image = np.zeros((600, 400), np.int16)

    assert draw_overlay(image, image).shape == (628, 400, 3)


def test_a_flat_image_or_one_with_infinities_is_drawn():
    image = np.full((32, 32), 7.0)
    image[0, :2] = np.inf, -np.inf

    assert intensity_window(image) == (7.0, 7.0)
    assert draw_overlay(image, np.zeros((32, 32), bool)).dtype == np.uint8


def test_a_montage_shows_slices_with_lesions():
    scan = np.random.default_rng(0).integers(0, 900, (20, 64, 64), dtype=np.uint16)
    prediction, truth = np.zeros_like(scan), np.zeros_like(scan)
    prediction[5:9, 10:20, 10:20] = 1
    truth[7:10, 10:20, 10:20] = 1

    assert spread_slices([prediction, truth], 6) == [5, 6, 7, 8, 9]
    assert draw_montage(scan, prediction, truth).shape == (2 * 512 + 28, 3 * 512, 3)


def test_slices_that_are_not_shown_change_nothing():
    scan = np.random.default_rng(0).integers(0, 900, (20, 64, 64), dtype=np.uint16)
    prediction = np.zeros_like(scan)
    prediction[5:9, 10:20, 10:20] = 1
    brighter = scan.copy()
    brighter[12:] *= 50

    np.testing.assert_array_equal(draw_montage(brighter, prediction), draw_montage(scan, prediction))


@given(areas=st.lists(st.integers(0, 4), min_size=1, max_size=40), count=st.integers(1, 9))
def test_spread_slices_rise_and_show_lesions(areas, count):
    mask = np.array([[[area > column for column in range(4)]] for area in areas])
    shown = spread_slices([mask], count)

    wanted = sum(area > 0 for area in areas) or len(areas)
    assert len(shown) == min(count, wanted)
    assert shown == sorted(set(shown))
    assert not any(areas) or all(areas[index] for index in shown)


def test_the_largest_slice_counts_the_union():
    a, b = np.zeros((5, 4, 4), np.uint8), np.zeros((5, 4, 4), np.uint8)
    a[1, :2] = b[3, 0] = a[3, 1:] = 1

    assert largest_slice(a, b) == 3
    assert largest_slice(b) == 3
    assert largest_slice(np.zeros((5, 4, 4))) == 2


@pytest.mark.parametrize("columns", [1, 30, 468, 469, 2000])
def test_words_stand_above_a_picture_that_is_wide_enough_for_them(columns):
    picture = np.full((7, columns, 3), 99, np.uint8)
    marked = mark(picture, "Research output, not a medical device")
    np.testing.assert_array_equal(marked[28:, :columns], picture)
    assert not marked[28:, columns:].any()
    letters = marked[:28].any(axis=(0, 2))
    assert letters.any()
    assert not letters[:10].any()
    assert not letters[-10:].any()
    np.testing.assert_array_equal(
        np.trim_zeros(letters),
        np.trim_zeros(mark(picture[:, :1], "Research output, not a medical device")[:28].any(axis=(0, 2))),
    )
