"""What a handful of cases says about all cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BOOTSTRAP_RESAMPLES = 10_000
BOOTSTRAP_SEED = 0
CONFIDENCE_PERCENT = 95.0


@dataclass(frozen=True)
class Summary:
    """Mean and median over cases, each with its bootstrap interval.

    Attributes:
        mean, median: over the cases that count; None where none does.
        mean_interval, median_interval: (low, high) 95 % bootstrap interval; None where fewer than two cases count, for
            one says nothing of how far others lie from it.
        cases: how many count.
        not_applicable: how many do not, because the measure has no meaning for them.
    """

    mean: float | None
    median: float | None
    mean_interval: tuple[float, float] | None
    median_interval: tuple[float, float] | None
    cases: int
    not_applicable: int


def summarise_values(values: Sequence[float | None]) -> Summary:
    """Summarise one measure over cases; None stands for "not applicable" and is counted apart.

    The interval is Efron's percentile bootstrap (Efron and Tibshirani 1993, chapter 13): cases are drawn with
    replacement 10,000 times, and the interval runs from the 2.5th to the 97.5th percentile of what they give. Equal
    values give equal intervals.
    """
    counted = np.array([value for value in values if value is not None], np.float64)
    if not counted.size:
        return Summary(None, None, None, None, 0, len(values))
    mean, median = float(counted.mean()), float(np.median(counted))
    if counted.size == 1:
        return Summary(mean, median, None, None, 1, len(values) - 1)
    drawn = np.random.default_rng(BOOTSTRAP_SEED).integers(
        counted.size, size=(BOOTSTRAP_RESAMPLES, counted.size), dtype=np.int32
    )
    resamples = counted[drawn]
    return Summary(
        mean=mean,
        median=median,
        mean_interval=_interval(resamples.mean(axis=1)),
        median_interval=_interval(np.median(resamples, axis=1)),
        cases=counted.size,
        not_applicable=len(values) - counted.size,
    )


def _interval(estimates: npt.NDArray[np.float64]) -> tuple[float, float]:
    tail = (100.0 - CONFIDENCE_PERCENT) / 2
    low, high = np.percentile(estimates, (tail, 100.0 - tail)).tolist()
    return low, high
