"""Intensity statistics of one channel of a whole scan, and the normalisation that follows from them.

All statistics come from two histograms of integer levels, one of the scan and one of its border, and every sum over
them is exact. So the result does not depend on the order of summation, and a threaded native pass gives the same bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.errors import ScanError
from tumortrace_runtime.preprocess.spec import Preprocessing

BORDER_PX = 4
BRIGHT_PERCENTILE = 99.5
LEVELS = 65536
FLOAT32_MAX = float(np.finfo(np.float32).max)

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ChannelStatistics:
    """What normalises one channel, each value exactly representable as float32, in the units of the stored voxels.

    Attributes:
        background: the border's median.
        low, high: where values are clipped.
        mean: mean of the clipped foreground.
        scale: one over the standard deviation of the clipped foreground.
    """

    background: float
    low: float
    high: float
    mean: float
    scale: float


def channel_statistics(slices: npt.NDArray[np.generic], spec: Preprocessing) -> ChannelStatistics:
    """The statistics of one channel.

    Args:
        slices: (slices, rows, columns), any real dtype, finite.
        spec: the foreground's rule and the percentiles.

    Raises:
        ScanError: there is no foreground, or all of it has one value.
    """
    levels, origin, step = _levels(slices)
    counts = _count(levels)
    background = _nearest_rank(_count(_border(levels)), 50.0)
    foreground = _foreground(counts, background, spec)
    if not foreground.any():
        raise ScanError("no foreground: the whole channel looks like background.")
    low, high = (_nearest_rank(foreground, percentile) for percentile in spec.clip_percentiles)
    mean, deviation = _moments(foreground, low, high)
    if step * deviation * FLOAT32_MAX < 1:
        raise ScanError(f"the foreground has one value, {origin + step * low:g}.")
    return ChannelStatistics(
        background=_float32(origin + step * background),
        low=_float32(origin + step * low),
        high=_float32(origin + step * high),
        mean=_float32(origin + step * mean),
        scale=_float32(1.0 / (step * deviation)),
    )


def normalise(slices: npt.NDArray[np.generic], statistics: ChannelStatistics) -> npt.NDArray[np.float32]:
    """Clip and standardise: (min(max(x, low), high) - mean) x scale, each step rounded to float32.

    Args:
        slices: any shape and real dtype.
        statistics: of the channel.

    Returns:
        float32 of the same shape.
    """
    values = slices.astype(np.float32)
    np.clip(values, np.float32(statistics.low), np.float32(statistics.high), out=values)
    values -= np.float32(statistics.mean)
    values *= np.float32(statistics.scale)
    return values


def _levels(slices: npt.NDArray[np.generic]) -> tuple[npt.NDArray[np.integer], float, float]:
    """Integer levels from 0, and the (origin, step) that turn a level into a value: origin + step x level."""
    if slices.dtype.kind in "iu" and int(slices.max()) - int(slices.min()) < LEVELS:
        lowest = slices.min()
        return np.subtract(slices, lowest, dtype=np.int64), float(lowest), 1.0
    values = slices.astype(np.float32).astype(np.float64)
    origin, top = float(values.min()), float(values.max())
    if top == origin:
        return np.zeros(slices.shape, np.int32), origin, 1.0
    step = (top - origin) / (LEVELS - 1)
    return np.floor((values - origin) / step + 0.5).astype(np.int32), origin, step


def _count(levels: npt.NDArray[np.integer]) -> Counts:
    return np.bincount(levels.ravel())


def _border(levels: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
    """The pixels of every slice's outer frame, `BORDER_PX` wide."""
    inner = np.zeros(levels.shape[1:], bool)
    inner[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX] = True
    return levels[:, ~inner]


def _foreground(counts: Counts, background: int, spec: Preprocessing) -> Counts:
    """The histogram of the foreground alone."""
    foreground = counts.copy()
    if spec.foreground == "not-border":
        foreground[background] = 0
        return foreground
    bright = _nearest_rank(counts, BRIGHT_PERCENTILE)
    threshold = background + spec.foreground_fraction * (bright - background)
    foreground[: math.floor(threshold) + 1] = 0
    return foreground


def _nearest_rank(counts: Counts, percentile: float) -> int:
    """The smallest level with at least ceil(percentile / 100 x n) values at or below it."""
    cumulative = np.cumsum(counts)
    rank = max(1, math.ceil(percentile * int(cumulative[-1]) / 100))
    return int(np.searchsorted(cumulative, rank))


def _moments(counts: Counts, low: int, high: int) -> tuple[float, float]:
    """Mean and population standard deviation, in levels, of values clipped to [low, high]."""
    offsets = np.clip(np.arange(len(counts)), low, high) - low
    total, first, second = int(counts.sum()), int(counts @ offsets), int(counts @ offsets**2)
    return low + first / total, math.sqrt((total * second - first * first) / (total * total))


def _float32(value: float) -> float:
    return float(np.float32(value))
