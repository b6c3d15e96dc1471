"""Runs of scans from files to files, candidate after candidate in turn."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from tumortrace_runtime.bench.candidates import Outcome, Runner
from tumortrace_runtime.bench.reference import Reference
from tumortrace_runtime.bench.results import ENGINE, Candidate, Sample, Start
from tumortrace_runtime.errors import InputError, ScanError
from tumortrace_runtime.files import write_json
from tumortrace_runtime.flow import timed
from tumortrace_runtime.io import Scan, write_mask
from tumortrace_runtime.metrics import CaseMetrics, measure_case

_SHARED_MEMORY = Path("/dev/shm")

Read = Callable[[], Scan]


def measure(
    runners: Sequence[Runner],
    cases: Mapping[str, Read],
    starts: Mapping[str, Start | None],
    *,
    rounds: int,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[Candidate, ...]:
    """Run every case with every candidate, A B A B, `rounds` times, and score the masks.

    Each turn is two runs of which the second counts: engines leave threads behind that spin for a while, and caches
    full of their own data. The first round's first runs warm up. Files are written to memory where Linux has a folder
    there, for a disk's time wanders by the half from minute to minute; what is read is in its cache, too.

    Args:
        runners: the candidates.
        cases: reads each case's files, with truth.
        starts: by candidate's name, what `measure_start` found.
        rounds: over all cases, at least 1.
        progress: told what is done, line by line.

    Raises:
        InputError: there is no candidate, case or round.
        ScanError: a case cannot be read, or has no truth.
        BackendError: an engine failed.
    """
    if not runners or not cases or rounds < 1:
        raise InputError(f"bench: {len(runners)} candidates, {len(cases)} cases, {rounds} rounds; 1 of each wanted.")
    reference = Reference()
    samples: dict[str, list[Sample]] = {runner.name: [] for runner in runners}
    scores: dict[str, list[CaseMetrics]] = {runner.name: [] for runner in runners}
    with tempfile.TemporaryDirectory(prefix="tumortrace-", dir=_memory_folder()) as folder:
        for number in range(rounds):
            for case_id, read in cases.items():
                progress(f"round {number + 1} of {rounds}: {case_id}")
                for runner in runners:
                    sample, outcome, scan = _turn(runner, read, reference, number, Path(folder))
                    samples[runner.name].append(sample)
                    if number == 0:
                        scores[runner.name].append(_score(outcome, scan))
    return tuple(
        _candidate(runner, starts.get(runner.name), scores[runner.name], samples[runner.name]) for runner in runners
    )


def _memory_folder() -> Path | None:
    return _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else None


def _turn(runner: Runner, read: Read, reference: Reference, number: int, out: Path) -> tuple[Sample, Outcome, Scan]:
    reference.run()
    spent: dict[str, float] = {"reference": 0.0}
    with timed(spent, "reference"):
        reference.run()
    _pass_through(runner, read, out)
    stages_ms, outcome, scan = _pass_through(runner, read, out)
    total_ms = stages_ms.pop("total")
    return Sample(scan.case_id, number, spent["reference"], stages_ms, total_ms), outcome, scan


def _pass_through(runner: Runner, read: Read, out: Path) -> tuple[dict[str, float], Outcome, Scan]:
    """Read a case, segment it, and write its mask and lesions."""
    spent = dict.fromkeys(("decode", "encode", "total"), 0.0)
    with timed(spent, "total"):
        with timed(spent, "decode"):
            scan = read()
        outcome = runner.segment(scan)
        with timed(spent, "encode"):
            write_mask(scan, np.asarray(outcome.mask != 0, np.uint8), out)
            write_json(out / "result.json", {"lesions": outcome.lesions})
    return spent | dict(outcome.stages_ms), outcome, scan


def _score(outcome: Outcome, scan: Scan) -> CaseMetrics:
    if scan.truth is None:
        raise ScanError(f"{scan.case_id}: has no truth mask to measure against.")
    return measure_case(scan.case_id, outcome.mask, scan.truth > 0, scan.geometry.spacing_mm)


def _candidate(
    runner: Runner, start: Start | None, cases: Sequence[CaseMetrics], samples: Sequence[Sample]
) -> Candidate:
    return Candidate(
        name=runner.name,
        kind=runner.kind,
        backend=runner.backend,
        precision=runner.precision,
        device=runner.device,
        threads=runner.threads,
        version=runner.version,
        executed_precision=runner.executed_precision,
        int8_mac_share=runner.int8_mac_share,
        size_bytes=runner.size_bytes,
        start=start if runner.kind == ENGINE else None,
        cases=tuple(cases),
        samples=tuple(samples),
    )
