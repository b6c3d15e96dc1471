"""Whole scans onto the grid and into batches: the golden arrays, the plain reading, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tumortrace_runtime.errors import ScanError
from tumortrace_runtime.io.scan import CaseFiles, Geometry, Scan
from tumortrace_runtime.preprocess import (
    Preprocessing,
    from_grid,
    network_batch,
    preprocess,
    replaced_channels,
)
from tumortrace_runtime.settings import from_dict

from .plain import GOLDEN, SEQUENCES, batch_slowly, from_grid_slowly, head, preprocess_slowly

SPEC = Preprocessing(SEQUENCES, grid_px=(24, 20))


def scan(seed: int = 0, shape: tuple[int, int, int] = (3, 22, 18)) -> np.ndarray:
    """(slices, rows, columns, 3) uint8."""
    return head(np.random.default_rng(seed), shape, background=30, brain=120, skull=200).clip(0, 255).astype(np.uint8)


def test_golden_arrays() -> None:
    golden = np.load(GOLDEN)
    specs = [from_dict(Preprocessing, values) for values in json.loads(str(golden["specs"]))]
    assert len(specs) >= 7
    for number, spec in enumerate(specs):
        voxels = golden[f"voxels_{number}"]
        prepared = preprocess(voxels, spec)
        np.testing.assert_array_equal(prepared.planes, golden[f"planes_{number}"], err_msg=str(spec))
        back = from_grid(golden[f"logits_{number}"], prepared.placement)
        np.testing.assert_array_equal(back, golden[f"back_{number}"], err_msg=str(spec))


def test_golden_arrays_hold_every_case_that_a_native_version_must_match() -> None:
    golden = np.load(GOLDEN)
    specs = [from_dict(Preprocessing, values) for values in json.loads(str(golden["specs"]))]
    voxels = [golden[f"voxels_{number}"] for number in range(len(specs))]

    assert {each.dtype.name for each in voxels} == {"uint8", "int16", "uint16", "float32"}
    assert {spec.foreground for spec in specs} == {"above-border", "not-border"}
    assert any(replaced_channels(each, SEQUENCES) for each in voxels)
    growth = {(spec.fit, np.sign(spec.grid_px[0] - each.shape[1])) for spec, each in zip(specs, voxels, strict=True)}
    assert {("pad", 1), ("pad", 0), ("resize", 1), ("resize", -1)} <= growth


@settings(max_examples=25)
@given(
    seed=st.integers(0, 999),
    size_px=st.tuples(st.integers(9, 24), st.integers(9, 20)),
    fit=st.sampled_from(["pad", "resize"]),
    dtype=st.sampled_from(["u1", ">i2", "<u2", "<i4", ">f4", "<f8"]),
    copy=st.sampled_from([None, 0, 2]),
)
@example(seed=0, size_px=(31, 40), fit="resize", dtype=">i2", copy=0)
def test_planes_are_what_the_definition_says(
    seed: int, size_px: tuple[int, int], fit: str, dtype: str, copy: int | None
) -> None:
    voxels = scan(seed, (2, *size_px)).astype(dtype)
    if copy is not None:
        voxels[..., copy] = voxels[..., 1]
    spec = replace(SPEC, fit=fit)

    prepared = preprocess(voxels, spec)

    assert prepared.planes.dtype == np.float32
    np.testing.assert_array_equal(prepared.planes, preprocess_slowly(voxels, spec))
    logits = prepared.planes[:, 1] * np.float32(1.7)
    np.testing.assert_array_equal(
        from_grid(logits, prepared.placement), from_grid_slowly(logits, voxels.shape[1:3], spec)
    )


def test_what_the_slices_leave_free_looks_like_background() -> None:
    voxels = scan()
    voxels[:, :4], voxels[:, -4:], voxels[:, :, :4], voxels[:, :, -4:] = 30, 30, 30, 30

    planes = preprocess(voxels, SPEC).planes

    np.testing.assert_array_equal(planes[:, :, 0, 0], planes[:, :, 1, 1])
    assert planes[0, 0, 1, 1] == planes.min(axis=(0, 2, 3))[0]


def test_a_replaced_channel_becomes_zeros_and_is_named() -> None:
    voxels = scan()
    voxels[..., 2] = voxels[..., 1]

    prepared = preprocess(voxels, SPEC)

    assert prepared.replaced == ("t1ce",)
    assert not prepared.planes[:, 2].any()
    np.testing.assert_array_equal(prepared.planes[:, :2], preprocess(scan(), SPEC).planes[:, :2])


def test_both_sequences_may_be_replaced() -> None:
    voxels = np.repeat(scan()[..., 1:2], 3, axis=-1)

    assert preprocess(voxels, SPEC).replaced == ("t1", "t1ce")


def test_one_voxel_that_differs_makes_a_sequence_of_its_own() -> None:
    voxels = np.repeat(scan()[..., 1:2], 3, axis=-1)
    voxels[-1, -1, -1, 0] += 1

    assert replaced_channels(voxels, SEQUENCES) == ("t1ce",)


def test_without_flair_nothing_counts_as_replaced() -> None:
    voxels = np.repeat(scan()[..., :1], 2, axis=-1)

    prepared = preprocess(voxels, replace(SPEC, channels=("t1", "t2")))

    assert prepared.replaced == ()
    assert prepared.planes.any(axis=(0, 2, 3)).all()


def test_what_the_reader_found_replaced_stays_so_without_flair() -> None:
    files = CaseFiles("case", "patient", "", "lgg", Path("folder/case"), ())
    whole = Scan(files, SEQUENCES, scan(), Geometry(), replaced=("t1",))

    prepared = preprocess(whole, replace(SPEC, channels=("t1ce", "t1")))

    assert prepared.replaced == ("t1",)
    assert prepared.planes[:, 0].any()
    assert not prepared.planes[:, 1].any()


def test_a_scan_is_named_in_what_is_said_of_it() -> None:
    files = CaseFiles("case", "patient", "", "lgg", Path("folder/case"), ())

    with pytest.raises(ScanError, match=r"^folder/case: channel t1: "):
        preprocess(Scan(files, SEQUENCES, np.zeros_like(scan()) + np.arange(3, dtype=np.uint8), Geometry()), SPEC)


@pytest.mark.parametrize("dtype", ["u1", ">i2", "<i2", ">u2", "<i4", "<u8", "<f2", ">f4", "<f4", ">f8", "<f8"])
def test_any_stored_dtype_in_any_memory_order_works(dtype: str) -> None:
    stored = np.asfortranarray(scan().astype(dtype))
    stored.flags.writeable = False

    planes = preprocess(stored, SPEC).planes

    assert planes.flags.c_contiguous
    np.testing.assert_array_equal(planes, preprocess(stored.copy(order="C"), SPEC).planes)
    np.testing.assert_allclose(planes, preprocess(scan(), SPEC).planes, atol=1e-3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8"])
def test_values_that_are_not_finite_in_float32_are_refused(dtype: str, value: float) -> None:
    voxels = scan().astype(dtype)
    with np.errstate(over="ignore"):
        voxels[1, 2, 3, 0] = voxels[0, 0, 0, 2] = value

    with pytest.raises(ScanError, match="2 voxels are NaN, infinite or beyond float32"):
        preprocess(voxels, SPEC)


@pytest.mark.parametrize(
    "shape", [(3, 22, 18), (22, 18, 3), (3, 22, 18, 2), (3, 22, 18, 4), (3, 22, 18, 0), (0, 22, 18, 3), (3, 0, 18, 3)]
)
def test_another_shape_is_refused_with_the_one_that_is_wanted(shape: tuple[int, ...]) -> None:
    with pytest.raises(ScanError, match=r"\(slices, rows, columns, 3: t1, flair, t1ce\) wanted"):
        preprocess(np.zeros(shape, np.uint8), SPEC)


@pytest.mark.parametrize("dtype", ["?", "c8", "M8[s]", "O", "U1"])
def test_values_that_are_no_real_numbers_are_refused(dtype: str) -> None:
    with pytest.raises(ScanError, match="integers or floats wanted"):
        preprocess(np.zeros((3, 22, 18, 3), dtype), SPEC)


@pytest.mark.parametrize("blank", [0, 9, 255])
def test_a_constant_channel_is_named(blank: int) -> None:
    voxels = scan()
    voxels[..., 2] = blank

    with pytest.raises(ScanError, match="channel t1ce: no foreground"):
        preprocess(voxels, SPEC)


def test_slices_larger_than_the_grid_are_refused_with_pad_and_scaled_with_resize() -> None:
    voxels = scan(shape=(2, 48, 40))

    with pytest.raises(ScanError, match="slices of 48x40 px"):
        preprocess(voxels, SPEC)
    assert preprocess(voxels, replace(SPEC, fit="resize")).planes.shape == (2, 3, 24, 20)


@given(slices=st.integers(1, 5), context=st.integers(0, 3), data=st.data())
def test_a_batch_holds_each_slice_among_its_neighbours(slices: int, context: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, slices - 1))
    stop = data.draw(st.integers(start + 1, slices))
    planes = np.arange(slices * 2 * 3 * 2, dtype=np.float32).reshape(slices, 2, 3, 2)

    batch = network_batch(planes, start, stop, context)

    assert batch.shape == (stop - start, (2 * context + 1) * 2, 3, 2)
    assert batch.flags.c_contiguous
    np.testing.assert_array_equal(batch, batch_slowly(planes, start, stop, context))


def test_beyond_the_ends_the_end_slice_is_repeated() -> None:
    planes = np.arange(3, dtype=np.float32).reshape(3, 1, 1, 1)

    assert network_batch(planes, 0, 3, 2).reshape(3, 5).tolist() == [[0, 0, 0, 1, 2], [0, 0, 1, 2, 2], [0, 1, 2, 2, 2]]


def test_a_batch_is_the_callers_own() -> None:
    planes = np.zeros((3, 1, 2, 2), np.float32)

    network_batch(planes, 0, 3, 0)[:] = 1

    assert not planes.any()


def test_a_scan_is_not_changed() -> None:
    voxels = scan().astype(np.float32)
    kept = voxels.copy()

    preprocess(voxels, SPEC)

    np.testing.assert_array_equal(voxels, kept)
