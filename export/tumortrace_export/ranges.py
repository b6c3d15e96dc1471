"""How large a network's activations get on the calibration slices, and where INT8 clips them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from tumortrace_export.graph import LARGEST_INT8
from tumortrace_export.onnx_model import INPUT
from tumortrace_export.session import open_session
from tumortrace_runtime.errors import CheckpointError, DatasetError
from tumortrace_runtime.settings import require

Batch = npt.NDArray[np.float32]

BINS = 2048
KEPT_PER_MILLION = 999_990
"""The share of values that the percentile does not clip, 99.999 %.

With `unet-s` on LGG's validation patients, 126 pixels in a million flip against FP32 where nothing is clipped, 94 to
102 where 1 to 100 values in a million are, and 363 where 1000 are; this is the middle of the flat part.
"""

SMALLEST_SCALE = 2.0**-14
"""The smallest normal FP16 number: no engine, FP16 outside the integers or not, divides by 0 or by a subnormal."""

_FIRST_THRESHOLD = 128
_BLOCK = 1 << 15  # values that are counted at once; they stay in the processor's cache


@dataclass(frozen=True, eq=False)
class Histogram:
    """All values that a tensor took.

    Attributes:
        minimum: the smallest of them.
        maximum: the largest.
        counts: (`BINS`,) int64; how many have a magnitude in each of equal bins from 0 to `peak`, which is in the last.
    """

    minimum: float
    maximum: float
    counts: npt.NDArray[np.int64]

    @property
    def peak(self) -> float:
        """The largest magnitude."""
        return max(abs(self.minimum), abs(self.maximum))


def collect(source: Path, tensors: Sequence[str], batches: Callable[[], Iterator[Batch]]) -> dict[str, Histogram]:
    """Run an FP32 model over the calibration batches, once for the extremes and once for the histograms between them.

    Counts are whole numbers, and ONNX Runtime computes each value by itself, however many threads and slices there are:
    the same model and batches give the same histograms on the same kind of CPU. One batch's tensors are in memory.

    Args:
        source: ONNX model with one input.
        tensors: names of the values to look at: outputs of nodes, or the input.
        batches: begins the same network inputs anew, each (n, in_channels, rows, columns) float32; called twice.

    Raises:
        CheckpointError: a tensor has NaN or infinite values.
        DatasetError: there is no batch, or the second pass did not get the batches of the first.
    """
    session = _open(source, tensors)
    extents: dict[str, _Extent] = {}
    for name, values in _run(session, tensors, batches()):
        extent = extents.get(name, _Extent()).with_values(values)
        if not (math.isfinite(extent.minimum) and math.isfinite(extent.maximum)):
            raise CheckpointError(
                f"{source.name}: {name} has NaN or infinite values on the calibration slices; the network is damaged. "
                "Export another checkpoint."
            )
        extents[name] = extent
    if not extents:
        raise DatasetError("there is no slice to calibrate on.")
    return _histograms(extents, _run(session, tensors, batches()))


def amax(histogram: Histogram, method: str) -> float:
    """The magnitude that becomes 127: larger ones are clipped to it, smaller ones go to steps of `amax` / 127.

    - minmax: the largest magnitude seen; clips nothing.
    - percentile: what `KEPT_PER_MILLION` of a million magnitudes do not exceed, up to the width of a bin.
    - mse: the least mean squared error of rounding and clipping over the histogram, as in Sung, Shin and Hwang 2015,
      "Resiliency of deep neural networks under quantization" (arXiv:1511.06488), by trying the end of every bin.

    Methods and their alternatives are compared in Wu et al. 2020, "Integer quantization for deep learning inference"
    (arXiv:2004.09602).

    Returns:
        At least 127 x `SMALLEST_SCALE`, also where a tensor is all zeros.

    Raises:
        SpecError: the method is not in `METHODS`.
    """
    require(method in METHODS, "calibration method", method, f"one of {', '.join(METHODS)}")
    return max(_BINS_KEPT[method](histogram.counts) / BINS * histogram.peak, LARGEST_INT8 * SMALLEST_SCALE)


def _bins_in_percentile(counts: npt.NDArray[np.int64]) -> int:
    needed = -(-int(counts.sum()) * KEPT_PER_MILLION // 1_000_000)
    return 1 + int(np.searchsorted(np.cumsum(counts), needed))


def _bins_of_least_error(counts: npt.NDArray[np.int64]) -> int:
    return _FIRST_THRESHOLD + int(np.argmin(_squared_errors() @ counts.astype(np.float64)))


@cache
def _squared_errors() -> npt.NDArray[np.float64]:
    """(thresholds, bins): the squared error, in bins, of the middle of each bin when clipped at each threshold.

    Thresholds begin where a quantisation step is as wide as a bin: of narrower steps the histogram shows nothing.
    """
    steps = np.arange(_FIRST_THRESHOLD, BINS + 1)[:, None] / LARGEST_INT8
    middles = np.arange(BINS) + 0.5
    errors: npt.NDArray[np.float64] = np.minimum(np.rint(middles / steps), LARGEST_INT8) * steps - middles
    return np.square(errors)


_BINS_KEPT: Mapping[str, Callable[[npt.NDArray[np.int64]], int]] = {
    "minmax": lambda counts: BINS,
    "percentile": _bins_in_percentile,
    "mse": _bins_of_least_error,
}
METHODS = tuple(_BINS_KEPT)
"""The names of the ways to choose what is clipped."""


@dataclass(frozen=True)
class _Extent:
    minimum: float = math.inf
    maximum: float = -math.inf
    values: int = 0

    def with_values(self, values: Batch) -> _Extent:
        # NumPy's minimum and maximum hand NaN on; Python's do not
        return _Extent(
            float(np.minimum(self.minimum, values.min())),
            float(np.maximum(self.maximum, values.max())),
            self.values + values.size,
        )


def _histograms(extents: Mapping[str, _Extent], runs: Iterable[tuple[str, Batch]]) -> dict[str, Histogram]:
    histograms = {
        name: Histogram(extent.minimum, extent.maximum, np.zeros(BINS, np.int64)) for name, extent in extents.items()
    }
    seen = dict.fromkeys(extents, _Extent())
    for name, values in runs:
        seen[name] = seen[name].with_values(values)
        histograms[name].counts[:] += _count(values, histograms[name].peak)
    if seen != extents:
        raise DatasetError("the calibration slices changed while they were read; leave the data alone and try again.")
    return histograms


def _count(values: Batch, peak: float) -> npt.NDArray[np.int64]:
    """The values by bin of their magnitude; float64 divides float32 exactly enough for none to cross a bin's edge."""
    counts = np.zeros(BINS, np.int64)
    flat = values.reshape(-1)
    for start in range(0, flat.size, _BLOCK):
        bins = np.multiply(np.abs(flat[start : start + _BLOCK]), BINS, dtype=np.float64)
        bins /= peak or 1.0
        counts += np.bincount(np.minimum(bins, BINS - 1).astype(np.intp), minlength=BINS)
    return counts


def _open(source: Path, tensors: Sequence[str]) -> Any:
    """A session with the tensors as further outputs; one that is fused away otherwise is computed all the same."""
    model = onnx.load(source)
    given = {value.name for value in (*model.graph.input, *model.graph.output)}
    further = [name for name in tensors if name not in given]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in further)
    return open_session(model)


def _run(session: Any, tensors: Sequence[str], batches: Iterable[Batch]) -> Iterator[tuple[str, Batch]]:
    computed = [name for name in tensors if name != INPUT]
    for batch in batches:
        if INPUT in tensors:
            yield INPUT, batch
        yield from zip(computed, session.run(computed, {INPUT: batch}), strict=True)
