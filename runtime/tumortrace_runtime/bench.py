"""Times measured so that they can be compared: candidates take turns, and each keeps its own median."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tumortrace_runtime.backends.backend import mac_share
from tumortrace_runtime.errors import InputError, ScanError
from tumortrace_runtime.io.scan import Scan
from tumortrace_runtime.metrics import dice
from tumortrace_runtime.segmenter import Segmenter


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


@dataclass(frozen=True)
class BundleTiming:
    """What one engine at one precision made of a set of scans.

    Attributes:
        backend, precision: as they were asked for.
        executed_precision: what most multiply-accumulates really ran in.
        int8_mac_share: the share of them that ran in INT8, 0 to 1.
        size_bytes: of the model's files.
        dice: mean over scans.
        slice_ms: inference alone, per slice.
        scan_ms: from voxels to labelled lesions, per scan.
    """

    backend: str
    precision: str
    executed_precision: str
    int8_mac_share: float
    size_bytes: int
    dice: float
    slice_ms: Timing
    scan_ms: Timing


def bench_segmenters(segmenters: Sequence[Segmenter], scans: Sequence[Scan], *, repeats: int = 3) -> list[BundleTiming]:
    """Segment every scan with every segmenter, in turn, `repeats` times after one warm-up on the first scan.

    Args:
        segmenters: to compare.
        scans: with truth, held in memory, so that reading them is not measured.
        repeats: rounds over all scans.

    Raises:
        InputError: there is no segmenter, scan or round.
        ScanError: a scan has no truth.
    """
    if not segmenters or not scans or repeats < 1:
        raise InputError(f"bench: {len(segmenters)} segmenters, {len(scans)} scans, {repeats} repeats; 1 each wanted.")
    if bare := [scan.case_id for scan in scans if scan.truth is None]:
        raise ScanError(f"{bare[0]}: has no truth mask to measure against.")
    for segmenter in segmenters:
        segmenter.segment(scans[0])
    outcomes: list[list[tuple[float, float, float]]] = [[] for _ in segmenters]
    for scan in (scan for _ in range(repeats) for scan in scans):
        for segmenter, outcome in zip(segmenters, outcomes, strict=True):
            outcome.append(_segment(segmenter, scan))
    return [_bundle_timing(*pair) for pair in zip(segmenters, outcomes, strict=True)]


def _segment(segmenter: Segmenter, scan: Scan) -> tuple[float, float, float]:
    """Dice, inference in ms per slice, and all in ms, of one scan with truth."""
    result = segmenter.segment(scan)
    assert scan.truth is not None
    score = dice(result.mask, scan.truth > 0)
    return score, result.timings_ms["infer"] / len(result.mask), result.timings_ms["total"]


def _bundle_timing(segmenter: Segmenter, outcome: list[tuple[float, float, float]]) -> BundleTiming:
    scores, slice_ms, scan_ms = (list(values) for values in zip(*outcome, strict=True))
    backend = segmenter.backend
    return BundleTiming(
        backend=backend.name,
        precision=segmenter.precision,
        executed_precision=backend.executed_precision,
        int8_mac_share=mac_share(backend.layers, "int8"),
        size_bytes=segmenter.bundle.model_bytes(backend.name, segmenter.precision),
        dice=float(np.mean(scores)),
        slice_ms=summarise_times(slice_ms),
        scan_ms=summarise_times(scan_ms),
    )


def _elapsed_ms(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3
