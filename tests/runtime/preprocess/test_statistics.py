"""Statistics against the plain reading of their definition, on any storage, and on the traps of real data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tumortrace_runtime.errors import ScanError
from tumortrace_runtime.io import find_cases, read_case
from tumortrace_runtime.preprocess import Preprocessing, channel_statistics, normalise

from .plain import normalise_slowly, statistics_slowly

INTEGERS = ["u1", "i1", ">u2", "<u2", ">i2", "<i2", ">i4", "<u4", "<i8", "<u8"]
FLOATS = ["<f4", ">f4", "<f8", ">f8"]
SHAPES = hnp.array_shapes(min_dims=3, max_dims=3, max_side=11)
ABOVE_BORDER = Preprocessing(("flair",))
NOT_BORDER = Preprocessing(("flair",), foreground="not-border")
EVERYTHING = (0.0, 100.0)

SPECS = st.builds(
    Preprocessing,
    channels=st.just(("flair",)),
    foreground=st.sampled_from(["above-border", "not-border"]),
    foreground_fraction=st.sampled_from([0.05, 0.1, 0.5]),
    clip_percentiles=st.sampled_from([EVERYTHING, (0.5, 99.5), (5, 90)]),
)


def float_arrays(dtype: str) -> st.SearchStrategy[np.ndarray]:
    any_float32 = st.floats(-(2.0**126), 2.0**126, width=32)
    return hnp.arrays(dtype, SHAPES, elements=st.one_of(any_float32, st.integers(-99, 99).map(lambda level: level / 8)))


def integer_arrays(dtype: str) -> st.SearchStrategy[np.ndarray]:
    limits = np.iinfo(dtype)
    few = st.integers(max(limits.min, -9), 9)
    return hnp.arrays(dtype, SHAPES, elements=st.one_of(few, st.integers(int(limits.min), int(limits.max))))


SLICES = st.one_of(st.sampled_from(INTEGERS).flatmap(integer_arrays), st.sampled_from(FLOATS).flatmap(float_arrays))


def head(seed: int = 0, background: tuple[int, int] = (77, 83), brain: tuple[int, int] = (130, 250)) -> np.ndarray:
    """(5, 40, 36) uint8: tissue amid a background that is nowhere zero; values in both ranges, ends included."""
    random = np.random.default_rng(seed)
    slices = random.integers(background[0], background[1] + 1, (5, 40, 36), dtype=np.uint8)
    slices[:, 10:30, 9:27] = random.integers(brain[0], brain[1] + 1, (5, 20, 18), dtype=np.uint8)
    slices[0, 20, 18], slices[1, 20, 18] = brain
    return slices


@given(slices=SLICES, spec=SPECS)
def test_statistics_are_what_the_definition_says(slices: np.ndarray, spec: Preprocessing) -> None:
    wanted = statistics_slowly(slices, spec)
    if wanted is None:
        with pytest.raises(ScanError, match="foreground"):
            channel_statistics(slices, spec)
        return

    statistics = channel_statistics(slices, spec)

    assert astuple(statistics) == tuple(map(float, wanted))
    normalised = normalise(slices, statistics)
    assert normalised.dtype == np.float32
    np.testing.assert_array_equal(normalised, normalise_slowly(slices, wanted))


@given(seed=st.integers(0, 99), step=st.sampled_from([(1, -1, 1), (-1, 1, -1), (1, -1, -1)]))
def test_neither_memory_order_nor_the_order_of_voxels_matters(seed: int, step: tuple[int, int, int]) -> None:
    slices = head(seed)
    wide = np.full((10, 40, 72, 3), 255, np.uint8)
    wide[::2, :, ::2, 1] = slices
    views = [
        np.asfortranarray(slices),
        slices[tuple(slice(None, None, sign) for sign in step)],
        wide[::2, :, ::2, 1],
        np.random.default_rng(seed).permutation(slices),
        slices.astype(">u2"),
    ]

    assert {channel_statistics(view, ABOVE_BORDER) for view in views} == {channel_statistics(slices, ABOVE_BORDER)}
    wide.flags.writeable = False
    np.testing.assert_array_equal(
        normalise(wide[::2, :, ::2, 1], channel_statistics(slices, ABOVE_BORDER)),
        normalise(slices, channel_statistics(slices, ABOVE_BORDER)),
    )


@pytest.mark.parametrize("dtypes", [INTEGERS[2:], FLOATS], ids=["integers", "floats"])
def test_the_stored_dtype_does_not_matter(dtypes: list[str]) -> None:
    slices = head().astype(np.float32) / (1 if dtypes is not FLOATS else 7)

    found = {channel_statistics(slices.astype(dtype), ABOVE_BORDER) for dtype in dtypes}

    assert len(found) == 1


def test_float_storage_comes_close_to_integers() -> None:
    of_integers = astuple(channel_statistics(head(), ABOVE_BORDER))
    of_floats = astuple(channel_statistics(head().astype(np.float32), ABOVE_BORDER))

    np.testing.assert_allclose(of_floats, of_integers, rtol=1e-4)


@pytest.mark.parametrize("span", [65535, 65536])
def test_integers_are_their_own_levels_as_long_as_16_bits_can_count_them(span: int) -> None:
    slices = np.random.default_rng(0).integers(-9, span - 9, (2, 10, 10), dtype=np.int32)
    slices[0, 0, :2] = -9, span - 9

    assert astuple(channel_statistics(slices, NOT_BORDER)) == tuple(map(float, statistics_slowly(slices, NOT_BORDER)))


def test_the_border_is_four_pixels_wide() -> None:
    edge = np.minimum(np.arange(20), np.arange(20)[::-1])
    rings = np.minimum.outer(edge, edge)[None]  # of 76, 68, 60 and 52 pixels, and so on

    assert channel_statistics(rings, NOT_BORDER).background == 1


@pytest.mark.parametrize("background", [(0, 4), (57, 63), (97, 103)])
def test_a_background_is_no_foreground_wherever_it_lies(background: tuple[int, int]) -> None:
    statistics = channel_statistics(head(background=background), replace(ABOVE_BORDER, clip_percentiles=EVERYTHING))

    assert background[0] <= statistics.background <= background[1]
    assert (statistics.low, statistics.high) == (130, 250)


def test_a_skull_stripped_scan_keeps_its_negative_and_zero_voxels() -> None:
    slices = np.full((3, 24, 24), -0.75, np.float32)
    brain = np.random.default_rng(0).standard_normal((3, 12, 12)).astype(np.float32)
    brain[0, 0, :4] = 0
    slices[:, 6:18, 6:18] = brain

    statistics = channel_statistics(slices, replace(NOT_BORDER, clip_percentiles=EVERYTHING))

    assert statistics.background == pytest.approx(-0.75, abs=1e-4)
    assert (statistics.low, statistics.high) == pytest.approx((brain.min(), brain.max()), abs=1e-4)
    assert statistics.mean == pytest.approx(brain.mean(), abs=1e-4)
    assert 1 / statistics.scale == pytest.approx(brain.std(), rel=1e-3)


def test_the_foreground_is_standardised() -> None:
    slices = head()
    standardised = normalise(slices, channel_statistics(slices, ABOVE_BORDER))[:, 10:30, 9:27]

    assert standardised.mean(dtype=np.float64) == pytest.approx(0, abs=1e-5)
    assert standardised.std(dtype=np.float64) == pytest.approx(1, abs=1e-5)


def test_one_stray_voxel_moves_nothing_but_its_own_value() -> None:
    slices = head().astype(np.uint16)
    before = channel_statistics(slices, ABOVE_BORDER)
    slices[2, 20, 20] = 65535

    after = channel_statistics(slices, ABOVE_BORDER)

    np.testing.assert_allclose(astuple(after), astuple(before), rtol=2e-3)
    assert normalise(slices, after).max() < 3


@pytest.mark.parametrize("spec", [ABOVE_BORDER, NOT_BORDER], ids=["above-border", "not-border"])
@pytest.mark.parametrize("dtype", ["u1", "<i2", "<f4"])
def test_a_constant_channel_is_refused(spec: Preprocessing, dtype: str) -> None:
    with pytest.raises(ScanError, match="no foreground"):
        channel_statistics(np.full((3, 20, 20), 7, dtype), spec)


@pytest.mark.parametrize("spec", [ABOVE_BORDER, NOT_BORDER], ids=["above-border", "not-border"])
def test_a_foreground_of_one_value_is_refused(spec: Preprocessing) -> None:
    slices = np.zeros((3, 20, 20), np.int16)
    slices[:, 5:15, 5:15] = 120

    with pytest.raises(ScanError, match="one value, 120"):
        channel_statistics(slices, spec)


@pytest.mark.parametrize("patient", ["FG_5962", "FG_7637", "FG_A4MU"])
def test_lgg_patients_with_a_bright_background(patient: str, real_data: Callable[[str], Path]) -> None:
    (files,) = (case for case in find_cases(real_data("kaggle_3m")) if patient in case.case_id)
    pre_contrast = read_case(files, with_truth=False).select(("t1",))[..., 0]

    assert (pre_contrast > 50).mean() > 0.9

    statistics = channel_statistics(pre_contrast, replace(ABOVE_BORDER, clip_percentiles=EVERYTHING))

    assert 60 <= statistics.background <= 105
    assert statistics.low > statistics.background + 3  # beyond the background's noise
    assert 0.1 < (pre_contrast >= statistics.low).mean() < 0.4


def test_a_z_scored_brats_case(real_data: Callable[[str], Path]) -> None:
    folder = real_data("brats") / "brats_2013_pat0005_1"
    flair = np.asanyarray(nibabel.load(folder / "Flair_subtrMeanDivStd.nii.gz").dataobj)
    brain = np.asanyarray(nibabel.load(folder / "brainmask.nii.gz").dataobj) > 0
    assert flair.min() < -1

    statistics = channel_statistics(flair, replace(NOT_BORDER, clip_percentiles=EVERYTHING))

    assert statistics.mean == pytest.approx(flair[brain].mean(dtype=np.float64), abs=0.01)
    assert 1 / statistics.scale == pytest.approx(flair[brain].std(dtype=np.float64), rel=0.01)
