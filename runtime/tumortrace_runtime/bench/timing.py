"""Times measured so that they can be compared: candidates take turns, and each keeps its own median."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from tumortrace_runtime.errors import InputError


@dataclass(frozen=True)
class Timing:
    """What one candidate took, in wall-clock milliseconds over `repeats` calls.

    Attributes:
        median_ms: half of the calls took at most this.
        p90_ms: nine of ten calls took at most this, interpolated between calls.
        min_ms: the fastest call.
        repeats: calls measured.
    """

    median_ms: float
    p90_ms: float
    min_ms: float
    repeats: int


def measure_interleaved(
    candidates: Mapping[str, Callable[[], object]], *, repeats: int, warmup: int = 1
) -> dict[str, Timing]:
    """Time every candidate `repeats` times, in turn (A B C, A B C, …).

    What slows the machine for a while then slows all alike, and ratios between candidates stay fair. A turn is two
    calls, and only the second counts: engines leave threads behind that spin for some milliseconds (ONNX Runtime's more
    than doubled the time of OpenVINO's next call), and the caches full of their own data.

    Args:
        candidates: name to what is timed; results are thrown away.
        repeats: measured rounds, at least 1.
        warmup: rounds before, not measured.

    Raises:
        InputError: there is no candidate, or fewer than one repeat or zero warm-up rounds.
    """
    if not candidates or repeats < 1 or warmup < 0:
        given = f"{len(candidates)} candidates, {repeats} repeats and {warmup} warm-up rounds"
        raise InputError(f"bench: {given} given; at least 1, 1 and 0 wanted.")
    for _ in range(warmup):
        for call in candidates.values():
            call()
    elapsed_ms: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, call in candidates.items():
            call()
            elapsed_ms[name].append(_elapsed_ms(call))
    return {name: summarise_times(times) for name, times in elapsed_ms.items()}


def summarise_times(times_ms: list[float]) -> Timing:
    """The timing that single calls in milliseconds add up to; at least one is wanted."""
    median, p90 = np.percentile(times_ms, (50, 90)).tolist()
    return Timing(median_ms=median, p90_ms=p90, min_ms=min(times_ms), repeats=len(times_ms))


def speedups(timings: Mapping[str, Timing], reference: str) -> dict[str, float]:
    """How many times as fast as `reference` each candidate is, by medians; `reference` itself is 1.

    Raises:
        InputError: `reference` was not measured.
    """
    if reference not in timings:
        raise InputError(f"bench: {reference!r} was not measured; measured were {', '.join(timings)}.")
    return {name: timings[reference].median_ms / timing.median_ms for name, timing in timings.items()}


def _elapsed_ms(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3
