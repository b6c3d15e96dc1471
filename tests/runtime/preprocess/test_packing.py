"""Batches of integers: bit by bit what NumPy makes of the definition, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tumortrace_runtime.errors import SpecError
from tumortrace_runtime.preprocess import IntegerInput, network_batch, packed_batch, packed_shape
from tumortrace_runtime.settings import from_dict, to_dict

Floats = npt.NDArray[np.float32]

SPEC = IntegerInput("int8", 0.5, 0, 2)
OUTERMOST = float(np.finfo(np.float32).max)
TINY = float(np.finfo(np.float32).tiny)


def dither(shape: tuple[int, ...]) -> Floats:
    """What is added to each value of planes before it is rounded, in steps."""
    slices, channels, rows, columns = shape
    planes = np.arange(slices * channels).reshape(slices, channels, 1, 1)
    places = planes * 2654435769 + np.arange(rows)[:, None] * 2447445414 + np.arange(columns) * 3242174889
    return places.astype(np.uint32).view(np.int32).astype(np.float32) / np.float32(2**32)


def packed_plainly(planes: Floats, start: int, stop: int, context: int, spec: IntegerInput) -> npt.NDArray[Any]:
    batch = network_batch(planes, start, stop, context)
    n, channels, rows, columns = batch.shape
    block, limits = spec.block_px, np.iinfo(spec.dtype)
    with np.errstate(over="ignore"):
        rounded = np.rint(batch / np.float32(spec.scale) + network_batch(dither(planes.shape), start, stop, context))
    integers = np.clip(rounded + np.float32(spec.zero_point), limits.min, limits.max).astype(spec.dtype)
    blocks: npt.NDArray[Any] = integers.reshape(n, channels, rows // block, block, columns // block, block)
    return blocks.transpose(0, 2, 4, 1, 3, 5).reshape(n, rows // block, columns // block, -1)


@st.composite
def specs(draw: st.DrawFn) -> IntegerInput:
    scale = draw(st.floats(TINY, OUTERMOST, width=32) | st.sampled_from([1.0, 0.5, 0.02]))
    block_px = draw(st.sampled_from([1, 2, 4]))
    if draw(st.booleans()):
        return IntegerInput("int8", scale, draw(st.integers(-128, 127)), block_px)
    return IntegerInput("uint8", scale, draw(st.integers(0, 255)), block_px)


@st.composite
def scans(draw: st.DrawFn) -> tuple[Floats, IntegerInput]:
    """Planes whose quotients are anything: ties, zeros of both signs, denormals, and far beyond the integers."""
    spec = draw(specs())
    slices, channels = draw(st.tuples(st.integers(1, 6), st.integers(1, 4)))
    rows, columns = (spec.block_px * draw(st.integers(1, 9)) for _ in range(2))
    shape = (slices, channels, rows, columns)
    generator = np.random.default_rng(draw(st.integers(0, 999)))
    quotients = generator.normal(scale=draw(st.sampled_from([1, 60, 1e6])), size=shape)
    if draw(st.booleans()):
        quotients = np.rint(2 * quotients) / 2
    with np.errstate(over="ignore"):
        planes = np.clip(quotients * spec.scale, -OUTERMOST, OUTERMOST).astype(np.float32)
    special = draw(st.lists(st.floats(width=32, allow_nan=False), max_size=planes.size))
    planes.flat[: len(special)] = special
    return planes, spec


@given(scan=scans(), context=st.integers(0, 3), ends=st.tuples(st.integers(0, 6), st.integers(0, 6)))
@example(
    scan=(np.array([[[[-0.0, 0.5, 1.5, 2.5]]]], np.float32), replace(SPEC, scale=1.0, block_px=1)),
    context=1,
    ends=(0, 1),
)
def test_integers_are_bit_by_bit_what_numpy_says(
    scan: tuple[Floats, IntegerInput], context: int, ends: tuple[int, int]
) -> None:
    planes, spec = scan
    start, stop = sorted(min(end, len(planes)) for end in ends)
    if start == stop:
        start, stop = 0, len(planes)

    batch = packed_batch(planes, start, stop, context, spec)

    channels = planes.shape[1] * (2 * context + 1)
    assert batch.shape == packed_shape(stop - start, channels, planes.shape[2:], spec)
    assert batch.dtype == spec.dtype
    np.testing.assert_array_equal(batch, packed_plainly(planes, start, stop, context, spec))


@pytest.mark.parametrize("zero_point", [0, 128, 255])
def test_every_tie_and_its_neighbours_are_rounded_as_numpy_says(zero_point: int) -> None:
    ties = np.arange(-300, 301, dtype=np.float32) / 2
    values = np.concatenate([ties, np.nextafter(ties, np.float32(-np.inf)), np.nextafter(ties, np.float32(np.inf))])
    planes = values.reshape(1, 1, 1, -1)
    spec = IntegerInput("uint8", 1.0, zero_point, 1)
    np.testing.assert_array_equal(packed_batch(planes, 0, 1, 0, spec), packed_plainly(planes, 0, 1, 0, spec))


def test_channels_are_those_of_pixel_unshuffle() -> None:
    torch = pytest.importorskip("torch")
    planes = np.arange(-64, 64, dtype=np.float32).reshape(2, 1, 8, 8)
    rounded = np.rint(planes + dither(planes.shape))
    unshuffled = torch.nn.PixelUnshuffle(2)(torch.from_numpy(network_batch(rounded, 0, 2, 1)))
    batch = packed_batch(planes, 0, 2, 1, IntegerInput("int8", 1.0, 0, 2))
    np.testing.assert_array_equal(batch, unshuffled.permute(0, 2, 3, 1).numpy())


def test_nan_becomes_the_lowest_integer() -> None:
    planes = np.full((1, 1, 2, 2), np.nan, np.float32)
    assert packed_batch(planes, 0, 1, 0, SPEC).tolist() == [[[[-128] * 4]]]


def test_a_grid_that_does_not_divide_is_refused() -> None:
    with pytest.raises(SpecError, match=r"grid_px is \(6, 7\); multiples of 2 px wanted"):
        packed_batch(np.zeros((1, 1, 6, 7), np.float32), 0, 1, 0, SPEC)


def test_settings_travel_through_json() -> None:
    assert from_dict(IntegerInput, to_dict(SPEC)) == SPEC
    assert to_dict(SPEC) == {"dtype": "int8", "scale": 0.5, "zero_point": 0, "block_px": 2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "int16"}, "one of int8, uint8 wanted"),
        ({"scale": 0.0}, "scale is 0.0; a positive, normal float32 wanted"),
        ({"scale": 1e-39}, "scale is 1e-39"),
        ({"scale": 1e39}, r"scale is 1e\+39"),
        ({"scale": float("nan")}, "finite number wanted"),
        ({"zero_point": 128}, "zero_point is 128; -128 to 127 wanted"),
        ({"zero_point": 0.0}, "int wanted"),
        ({"dtype": "uint8", "zero_point": -1}, "zero_point is -1; 0 to 255 wanted"),
        ({"block_px": 3}, "block_px is 3; 1, 2 or 4 wanted"),
    ],
)
def test_settings_that_mean_nothing_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        from_dict(IntegerInput, to_dict(SPEC) | change)
