"""The way onto the network's grid and back, against the plain reading of its definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tumortrace_runtime.errors import ScanError
from tumortrace_runtime.preprocess import Placement, Preprocessing, from_grid, place, to_grid
from tumortrace_runtime.preprocess.grid import resize

from .plain import placement_slowly, resize_slowly

SIDES = st.integers(1, 14)
SIZES = st.tuples(SIDES, SIDES)
GRIDS = st.tuples(st.integers(16, 80), st.integers(16, 80))
SLICE_SIZES = st.tuples(st.integers(1, 200), st.integers(1, 200))


def images(size_px: tuple[int, int], seed: int = 0, count: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, *size_px)).astype(np.float32)


def spec(grid_px: tuple[int, int], fit: str) -> Preprocessing:
    return Preprocessing(("flair",), grid_px=grid_px, fit=fit)


@given(before=SIZES, after=SIZES, seed=st.integers(0, 9))
@example(before=(240, 3), after=(97, 3), seed=0)
def test_resampling_is_what_the_definition_says(before: tuple[int, int], after: tuple[int, int], seed: int) -> None:
    given_images = images(before, seed)
    kept = given_images.copy()

    resized = resize(given_images, after)

    assert resized.dtype == np.float32
    np.testing.assert_array_equal(resized, [resize_slowly(image, after) for image in given_images])
    np.testing.assert_array_equal(given_images, kept)


@given(before=SIZES, after=SIZES, value=st.floats(-100, 100, width=32))
def test_a_constant_stays(before: tuple[int, int], after: tuple[int, int], value: float) -> None:
    np.testing.assert_allclose(resize(np.full((1, *before), value, np.float32), after), value, rtol=1e-6, atol=1e-30)


@given(size_px=SIZES)
def test_the_same_size_is_the_identity(size_px: tuple[int, int]) -> None:
    np.testing.assert_array_equal(resize(images(size_px), size_px), images(size_px))


@given(row=st.integers(6, 33), column=st.integers(6, 33))
def test_a_single_bright_pixel_does_not_vanish_between_samples(row: int, column: int) -> None:
    image = np.zeros((1, 40, 40), np.float32)
    image[0, row, column] = 1

    reduced = resize(image, (10, 10))

    assert reduced.sum() * 16 == pytest.approx(1, abs=1e-5)


def test_a_ramp_stays_a_ramp_in_between() -> None:
    ramp = np.broadcast_to(np.arange(12, dtype=np.float32), (1, 5, 12))

    doubled = resize(ramp, (5, 24))

    np.testing.assert_allclose(doubled[0, 0, 1:-1], np.arange(0.25, 11, 0.5), rtol=1e-6)


@given(scan_px=SLICE_SIZES, grid_px=GRIDS)
def test_resized_slices_just_fit_in_the_middle_of_the_grid(scan_px: tuple[int, int], grid_px: tuple[int, int]) -> None:
    placement = place(scan_px, spec(grid_px, "resize"))

    assert (placement.scaled_px, placement.offset_px) == placement_slowly(scan_px, spec(grid_px, "resize"))
    free = [grid - scaled for grid, scaled in zip(grid_px, placement.scaled_px, strict=True)]
    assert min(free) == 0
    for size, scaled, offset, left in zip(scan_px, placement.scaled_px, placement.offset_px, free, strict=True):
        assert offset in (left / 2, (left - 1) / 2)
        factor = max(a / b for a, b in zip(placement.scaled_px, scan_px, strict=True))
        assert scaled <= factor * size + 0.5


@given(data=st.data(), grid_px=GRIDS)
def test_padding_and_cropping_is_the_identity(data: st.DataObject, grid_px: tuple[int, int]) -> None:
    scan_px = (data.draw(st.integers(1, grid_px[0])), data.draw(st.integers(1, grid_px[1])))
    placement = place(scan_px, spec(grid_px, "pad"))
    slices = images(scan_px)

    on_grid = to_grid(slices, placement, -7.5)

    assert on_grid.shape == (2, *grid_px)
    assert (on_grid == -7.5).sum() == on_grid.size - slices.size
    np.testing.assert_array_equal(from_grid(on_grid, placement), slices)


def test_the_odd_pixel_lies_below_and_to_the_right() -> None:
    placement = place((19, 16), spec((20, 17), "pad"))

    assert placement == Placement((19, 16), (19, 16), (0, 0), (20, 17))


@pytest.mark.parametrize("scan_px", [(25, 20), (20, 25), (400, 400)])
def test_slices_larger_than_the_grid_are_refused_with_pad(scan_px: tuple[int, int]) -> None:
    told = rf"slices of {scan_px[0]}x{scan_px[1]} px; this model takes at most 24x24 px"
    with pytest.raises(ScanError, match=told):
        place(scan_px, spec((24, 24), "pad"))


@pytest.mark.parametrize("scan_px", [(16, 24), (48, 33), (240, 240), (1, 300)])
def test_resized_slices_come_back_in_their_own_size(scan_px: tuple[int, int]) -> None:
    placement = place(scan_px, spec((32, 32), "resize"))
    y, x = np.ogrid[0 : 1 : scan_px[0] * 1j, 0 : 1 : scan_px[1] * 1j]
    smooth = (np.sin(2 * x) + y).astype(np.float32)[None]

    back = from_grid(to_grid(smooth, placement, 0.0), placement)

    assert back.shape == smooth.shape
    assert back.flags.c_contiguous
    np.testing.assert_allclose(back, smooth, atol=0.05)


@given(layout=st.sampled_from([(slice(None), slice(None, None, -1)), (slice(None, None, 2), slice(None))]))
def test_memory_order_does_not_matter(layout: tuple[slice, slice]) -> None:
    view = np.asfortranarray(images((20, 18)))[(slice(None), *layout)]
    placement = place(view.shape[1:], spec((26, 24), "resize"))

    on_grid = to_grid(view, placement, 0.0)

    np.testing.assert_array_equal(on_grid, to_grid(view.copy(), placement, 0.0))
    np.testing.assert_array_equal(
        from_grid(on_grid.swapaxes(1, 2), place((18, 20), spec((24, 26), "resize"))),
        from_grid(on_grid.swapaxes(1, 2).copy(), place((18, 20), spec((24, 26), "resize"))),
    )


@given(step=hnp.array_shapes(min_dims=0, max_dims=3, max_side=3))
def test_logits_may_have_any_axes_before_rows_and_columns(step: tuple[int, ...]) -> None:
    placement = place((20, 30), spec((16, 16), "resize"))
    logits = np.random.default_rng(0).standard_normal((*step, 16, 16)).astype(np.float32)

    back = from_grid(logits, placement)

    assert back.shape == (*step, 20, 30)
    one_by_one = [from_grid(image[None], placement)[0] for image in logits.reshape(-1, 16, 16)]
    np.testing.assert_array_equal(back.reshape(-1, 20, 30), one_by_one)
