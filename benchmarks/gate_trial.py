"""Whether the gate can be trusted: planted faults must raise its alarm, and nothing else may.

python benchmarks/gate_trial.py --runs 10   # about 40 minutes; ends with 4 where an alarm was missed or false

Each check measures, and measures again: its second measurement is the next one's first.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
from gate import GATES, alarms_twice, bundle_argument, measure, phantoms

from tumortrace.commands.bench import REGRESSED
from tumortrace_runtime.bench.candidates import EngineRunner, Outcome
from tumortrace_runtime.bench.compare import compare
from tumortrace_runtime.bench.gates import read_gates
from tumortrace_runtime.bench.results import Candidate, Results, Start
from tumortrace_runtime.bench.run import GROWTH_SLICES
from tumortrace_runtime.bench.start import observe
from tumortrace_runtime.bundle import Bundle, open_bundle
from tumortrace_runtime.command import run
from tumortrace_runtime.io import Scan
from tumortrace_runtime.result import Result
from tumortrace_runtime.segmenter import Segmenter
from tumortrace_runtime.table import format_table


class Slow(EngineRunner):
    """Takes a quarter longer, from files to files."""

    def segment(self, scan: Scan) -> Outcome:
        """Segment, and then wait; reading and writing are a fourth of the whole."""
        started = time.perf_counter()
        outcome = super().segment(scan)
        wait_ms = 1e3 * (time.perf_counter() - started) / 3
        _wait(wait_ms)
        stages_ms = dict(outcome.stages_ms)
        stages_ms["infer"] += wait_ms
        return dataclasses.replace(outcome, stages_ms=stages_ms)


class SlowStage(EngineRunner):
    """Takes twice as long for preprocessing."""

    def segment(self, scan: Scan) -> Outcome:
        """Segment, and then wait."""
        outcome = super().segment(scan)
        stages_ms = dict(outcome.stages_ms)
        _wait(stages_ms["preprocess"])
        stages_ms["preprocess"] *= 2
        return dataclasses.replace(outcome, stages_ms=stages_ms)


class Wrong(EngineRunner):
    """Loses a hundredth of Dice: one of fifty voxels of every lesion."""

    def segment(self, scan: Scan) -> Outcome:
        """Segment, and leave voxels out."""
        outcome = super().segment(scan)
        mask = np.array(outcome.mask)
        marked = np.flatnonzero(mask)
        mask.ravel()[marked[::50]] = 0
        return dataclasses.replace(outcome, mask=mask)


class Leaking(Segmenter):
    """Keeps a tenth of every mask: 6.5 kB of a slice of 256 x 256."""

    def segment(self, scan: Scan | npt.NDArray[np.generic]) -> Result:
        """Segment, and keep something."""
        result = super().segment(scan)
        _KEPT.append(result.mask[:, ::10].copy())
        return result


_KEPT: list[npt.NDArray[np.uint8]] = []


def measure_leaking(bundle: Bundle) -> Results:
    """What `measure` gives, and of each candidate the memory of a process that leaks."""
    results = measure(bundle, growth_slices=0, rounds=1)
    with phantoms(bundle) as data, tempfile.TemporaryDirectory(prefix="tumortrace-") as folder:
        scan = Path(folder, "scan.npy")
        np.save(scan, next(iter(data.cases.values()))().select(bundle.preprocessing.channels))
        candidates = [dataclasses.replace(each, start=_leak(bundle, each, scan)) for each in results.candidates]
    return dataclasses.replace(results, candidates=tuple(candidates))


def _leak(bundle: Bundle, candidate: Candidate, scan: Path) -> Start:
    assert candidate.start is not None
    asked = {
        "bundle": str(bundle.path),
        "scan": str(scan),
        "engine": {"backend": candidate.backend, "precision": candidate.precision, "device": candidate.device},
        "started": time.time(),
        "growth_slices": GROWTH_SLICES,
    }
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        told = process.submit(observe, asked, Leaking).result()
    return dataclasses.replace(candidate.start, growth_bytes=told["growth_bytes"], growth_slices=told["growth_slices"])


FAULTS: dict[str, tuple[str, Callable[[Bundle], Results]]] = {
    "nothing": ("", measure),
    "a quarter slower": ("total", partial(measure, load=Slow, growth_slices=0)),
    "a stage twice as long": ("preprocess", partial(measure, load=SlowStage, growth_slices=0)),
    "a hundredth of Dice": ("dice", partial(measure, load=Wrong, growth_slices=0, rounds=1)),
    "a leak": ("memory growth", measure_leaking),
}
"""What is planted: the measure that should raise the alarm, and what measures with it."""


@click.command()
@bundle_argument
@click.option("--runs", type=click.IntRange(min=1), default=10, show_default=True)
def command(bundle: Path, runs: int) -> int:
    """Measure again and again with and without planted faults: only these may raise the alarm."""
    opened, gates = open_bundle(bundle), read_gates(GATES)
    base = measure(opened)
    rows, right = [], 0
    for name, (wanted, planted) in FAULTS.items():
        results = [planted(opened) for _ in range(runs + 1)]
        alarms = [
            {measure for _, measure in alarms_twice(first, partial(_same, second), base)}
            for first, second in pairwise(results)
        ]
        at_once = [{each.measure for each in compare(first, base, gates).regressions} for first in results[:-1]]
        told, told_at_once = (sum(_is_right(alarm, wanted) for alarm in which) for which in (alarms, at_once))
        rows.append((name, wanted or "no alarm", f"{told} of {runs}", f"{told_at_once} of {runs}"))
        right += told
        click.echo(f"{name}: {[sorted(alarm) for alarm in alarms]}", err=True)
    click.echo(format_table(("planted", "wanted", "right", "right if measured once"), rows))
    return 0 if right == runs * len(FAULTS) else REGRESSED


def _is_right(alarm: set[str], wanted: str) -> bool:
    return wanted in alarm if wanted else not alarm


def _same(results: Results) -> Results:
    return results


def _wait(spent_ms: float) -> None:
    """At work, as a slower program would be."""
    until = time.perf_counter() + spent_ms / 1e3
    while time.perf_counter() < until:
        pass


if __name__ == "__main__":
    run(command, "gate_trial")
