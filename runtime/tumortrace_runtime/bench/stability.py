"""How far latencies can be trusted: ratios to the reference workload, their intervals, and how noisy a machine was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.bench.results import Candidate, Results

NOISY = 0.35
"""A machine whose reference workload spreads by more than this share of its median says nothing about latency."""

_RESAMPLES = 2000
_PERCENT = (2.5, 97.5)

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Ratio:
    """How many times as long something takes as it did, with its 95 % bootstrap interval.

    Attributes:
        value: the geometric mean over cases of the ratios of medians over rounds.
        low, high: the interval, over rounds drawn with replacement in each case.
        worst_case: the case with the greatest ratio.
    """

    value: float
    low: float
    high: float
    worst_case: str


def spread(values: Sequence[float]) -> float:
    """From the 10th to the 90th percentile, as a share of the median."""
    low, middle, high = np.percentile(values, (10, 50, 90)).tolist()
    return float((high - low) / middle)


def reference_ms(results: Results) -> float:
    """What the reference workload took, the median over a run of the benchmark."""
    return float(np.median(_references_ms(results)))


def machine_noise(results: Results) -> float:
    """The spread of the reference workload over a run of the benchmark."""
    return spread(_references_ms(results))


def _references_ms(results: Results) -> list[float]:
    return [sample.reference_ms for each in results.candidates for sample in each.samples]


def candidate_noise(candidate: Candidate) -> float:
    """The spread of a candidate's totals in units of the reference workload; the median over cases.

    Cases differ in size, so that each is looked at by itself.
    """
    return float(np.median([spread(values.tolist()) for values in relative_times(candidate, "total").values()]))


def relative_times(candidate: Candidate, stage: str) -> dict[str, Floats]:
    """By case, what a stage or "total" took in units of the reference workload just before; rounds in their order."""
    found: dict[str, list[float]] = {}
    for sample in candidate.samples:
        spent = sample.total_ms if stage == "total" else sample.stages_ms.get(stage)
        if spent is not None:
            found.setdefault(sample.case_id, []).append(spent / sample.reference_ms)
    return {case_id: np.array(values) for case_id, values in found.items()}


def time_ratio(new: Mapping[str, Floats], base: Mapping[str, Floats], cases: Sequence[str]) -> Ratio:
    """How many times as long as the baseline, over cases of `relative_times`; every case must be in both.

    The interval is Efron's percentile bootstrap (Efron and Tibshirani 1993, chapter 13).
    """
    random = np.random.default_rng(0)
    ratios = {case: float(np.median(new[case]) / np.median(base[case])) for case in cases}
    drawn = np.mean(
        [np.log(_medians(new[case], random)) - np.log(_medians(base[case], random)) for case in cases], axis=0
    )
    low, high = np.exp(np.percentile(drawn, _PERCENT)).tolist()
    value = float(np.exp(np.mean(np.log(list(ratios.values())))))
    return Ratio(value, low, high, max(ratios, key=ratios.__getitem__))


def _medians(values: Floats, random: np.random.Generator) -> Floats:
    drawn: Floats = np.median(values[random.integers(len(values), size=(_RESAMPLES, len(values)))], axis=1)
    return drawn
