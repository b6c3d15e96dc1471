from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from tumortrace.checkpoint import Checkpoint
from tumortrace_export.onnx_model import INPUT, OUTPUT
from tumortrace_export.ranges import BINS, METHODS, SMALLEST_SCALE, Histogram, amax, collect
from tumortrace_runtime.errors import CheckpointError, DatasetError, SpecError

Floats = npt.NDArray[np.float32]
TENSORS = [INPUT, "conv", "relu", "sum"]


@pytest.fixture(scope="module")
def whole_numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network whose values are whole numbers, and so the same in whatever order they are added up."""
    rng = np.random.default_rng(0)
    weights = rng.integers(-5, 6, (4, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", [INPUT, "w"], ["conv"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("Add", ["relu", "relu"], ["sum"]),
        helper.make_node("Conv", ["sum", "head"], [OUTPUT]),
    ]
    head = rng.integers(-5, 6, (1, 4, 1, 1)).astype(np.float32)
    return write_model(tmp_path_factory.mktemp("ranges") / "model.onnx", nodes, {"w": weights, "head": head})


def write_model(path: Path, nodes: list[onnx.NodeProto], constants: dict[str, Floats]) -> Path:
    shape: list[str | int | None] = ["batch", 3, 8, 8]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info(INPUT, onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, ["batch", None, 8, 8])],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def whole_batches() -> list[Floats]:
    """Multiples of 49, whose reciprocal no float is near enough to: many lie on the very edge of a bin."""
    rng = np.random.default_rng(1)
    return [49 * rng.integers(-16, 17, (1 + number % 3, 3, 8, 8)).astype(np.float32) for number in range(5)]


def begin_last(passes: list[list[Floats]]) -> Iterator[Floats]:
    return iter(passes.pop())


def slow_counts(values: Floats) -> list[int]:
    """Each value's bin by exact arithmetic."""
    magnitudes = [Fraction(abs(float(value))) for value in values.ravel()]
    peak = max(magnitudes)
    counted = Counter(min(int(value * BINS / peak), BINS - 1) for value in magnitudes)
    return [counted[number] for number in range(BINS)]


def histogram_of(values: npt.ArrayLike) -> Histogram:
    array = np.asarray(values, np.float64)
    counts = np.histogram(np.abs(array), BINS, (0, np.abs(array).max() or 1))[0]
    return Histogram(float(array.min()), float(array.max()), counts.astype(np.int64))


def quantised(values: npt.NDArray[np.float64], clip: float) -> npt.NDArray[np.float64]:
    step = clip / 127
    return np.clip(np.rint(values / step), -127, 127) * step


def test_histograms_are_those_of_all_values(whole_numbers: Path) -> None:
    batches = whole_batches()
    found = collect(whole_numbers, [*TENSORS, OUTPUT], lambda: iter(batches))
    values = {INPUT: np.concatenate([batch.ravel() for batch in batches])}
    by_hand: Any = ReferenceEvaluator(onnx.load(whole_numbers))
    for name in ("conv", "relu", "sum", OUTPUT):
        values[name] = np.concatenate([by_hand.run([name], {INPUT: batch})[0].ravel() for batch in batches])

    assert list(found) == [*TENSORS, OUTPUT]
    for name, histogram in found.items():
        assert (histogram.minimum, histogram.maximum) == (values[name].min(), values[name].max()), name
        assert histogram.counts.dtype == np.int64
        assert histogram.counts.tolist() == slow_counts(values[name]), name


def test_a_real_networks_logits_are_those_of_pytorch(
    onnx_file: Path, checkpoint: Checkpoint, calibration: Callable[[], Iterator[Floats]]
) -> None:
    network = checkpoint.network()
    with torch.inference_mode():
        logits = np.concatenate([network(torch.from_numpy(batch)).numpy().ravel() for batch in calibration()])
    histogram = collect(onnx_file, [OUTPUT], calibration)[OUTPUT]

    assert histogram.minimum == pytest.approx(logits.min(), abs=1e-3)
    assert histogram.maximum == pytest.approx(logits.max(), abs=1e-3)
    below = np.cumsum(histogram.counts) / logits.size
    edges = np.arange(1, BINS + 1) * histogram.peak / BINS
    wanted = np.searchsorted(np.sort(np.abs(logits)), edges) / logits.size
    np.testing.assert_allclose(below, wanted, atol=1e-3)


def test_the_same_slices_give_the_same_bytes_however_they_are_batched(
    onnx_file: Path, calibration: Callable[[], Iterator[Floats]]
) -> None:
    names = [node.output[0] for node in onnx.load(onnx_file).graph.node if node.op_type in ("Conv", "Relu", "Add")]
    together = np.concatenate(list(calibration()))
    one_by_one = collect(onnx_file, names, calibration)
    for again in (collect(onnx_file, names, calibration), collect(onnx_file, names, lambda: iter([together]))):
        assert list(again) == names
        for name in names:
            assert again[name].counts.tobytes() == one_by_one[name].counts.tobytes(), name
            assert again[name].peak == one_by_one[name].peak, name


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_damaged_network_is_refused_by_the_tensors_name(value: float, tmp_path: Path) -> None:
    weights = np.ones((2, 3, 1, 1), np.float32)
    weights[1, 1] = value
    nodes = [helper.make_node("Conv", [INPUT, "w"], ["first"]), helper.make_node("Relu", ["first"], [OUTPUT])]
    path = write_model(tmp_path / "damaged.onnx", nodes, {"w": weights})
    healthy, blank = np.ones((1, 3, 8, 8), np.float32), np.zeros((1, 3, 8, 8), np.float32)
    for batches in ([healthy], [healthy, blank]):
        with pytest.raises(CheckpointError, match=r"damaged\.onnx: first has NaN or infinite values"):
            collect(path, [INPUT, "first"], partial(iter, batches))


def test_without_slices_there_are_no_ranges(whole_numbers: Path) -> None:
    with pytest.raises(DatasetError, match="no slice to calibrate on"):
        collect(whole_numbers, TENSORS, lambda: iter([]))


def test_slices_that_change_between_the_passes_are_refused(whole_numbers: Path) -> None:
    batches = whole_batches()
    for second in ([], batches[:-1], [*batches[:-1], batches[-1] * 100]):
        passes = [second, batches]
        with pytest.raises(DatasetError, match="changed while they were read"):
            collect(whole_numbers, TENSORS, partial(begin_last, passes))


def test_a_tensor_of_zeros_keeps_a_scale_that_can_be_divided_by(whole_numbers: Path) -> None:
    blank = np.zeros((2, 3, 8, 8), np.float32)
    histogram = collect(whole_numbers, ["relu"], lambda: iter([blank]))["relu"]
    assert (histogram.minimum, histogram.maximum, histogram.counts[0]) == (0, 0, 2 * 4 * 8 * 8)
    assert histogram.counts.sum() == histogram.counts[0]
    for method in METHODS:
        assert amax(histogram, method) / 127 == SMALLEST_SCALE == np.finfo(np.float16).smallest_normal


@given(st.lists(st.floats(-1e4, 1e4, width=32).filter(lambda value: value == 0 or abs(value) > 1), min_size=1))
def test_nothing_is_clipped_that_was_not_seen(values: list[float]) -> None:
    histogram = histogram_of([*values, 1.0])
    clips = {method: amax(histogram, method) for method in METHODS}
    assert clips["minmax"] == np.abs([*values, 1.0]).max()
    assert all(0 < clip <= clips["minmax"] for clip in clips.values())


heavy_tails = st.builds(
    lambda seed, degrees, share: np.where(
        np.random.default_rng(seed).random(20_000) < share,
        0.0,
        np.random.default_rng(seed + 1).standard_t(degrees, 20_000),
    ),
    st.integers(0, 1000),
    st.sampled_from([2, 3, 5, 100]),
    st.sampled_from([0.0, 0.5, 0.9]),
)


@given(heavy_tails)
def test_mse_errs_no_more_than_minmax(values: npt.NDArray[np.float64]) -> None:
    histogram = histogram_of(values)
    errors = {
        method: np.square(values - quantised(values, amax(histogram, method))).mean() for method in ("mse", "minmax")
    }
    bin_width = histogram.peak / BINS
    assert errors["mse"] <= errors["minmax"] + bin_width**2


@given(heavy_tails, st.floats(0.05, 1.0))
def test_no_other_threshold_errs_clearly_less_than_mse(values: npt.NDArray[np.float64], share: float) -> None:
    histogram = histogram_of(values)
    best = np.square(values - quantised(values, amax(histogram, "mse"))).mean()
    other = np.square(values - quantised(values, max(share, 128 / BINS) * histogram.peak)).mean()
    assert best <= 1.02 * other + (histogram.peak / BINS) ** 2


@given(heavy_tails, st.sampled_from(METHODS), st.integers(-4, 20))
def test_values_twice_as_large_are_clipped_twice_as_high(
    values: npt.NDArray[np.float64], method: str, power: int
) -> None:
    assert amax(histogram_of(values * 2.0**power), method) == amax(histogram_of(values), method) * 2.0**power


@pytest.mark.parametrize("large", [9, 11])
def test_the_percentile_clips_ten_values_in_a_million(large: int) -> None:
    counts = np.zeros(BINS, np.int64)
    counts[[0, 99, BINS - 1]] = 600_000, 400_000 - large, large
    clipped = amax(Histogram(0.0, float(BINS), counts), "percentile")
    assert clipped == (100 if large <= 10 else BINS)


def test_an_unknown_method_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SpecError, match="'entropy'; one of minmax, percentile, mse wanted"):
        amax(histogram_of([1.0]), "entropy")
