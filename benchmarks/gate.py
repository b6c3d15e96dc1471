"""Whether the product is as accurate and as fast as it was: a short benchmark on phantoms, held against a baseline.

python benchmarks/gate.py check            # `make gate`: ends with 4 where something is worse by more than it may be
python benchmarks/gate.py update           # measure, and keep the result as this device's baseline
python benchmarks/gate.py trial --runs 10  # do planted faults raise the alarm, and nothing else?

The baseline is the newest of this device in `baselines`; where there is none, the newest of another, for accuracy.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click
import numpy as np

from tumortrace.commands.bench import REGRESSED, describe_comparison
from tumortrace.commands.options import BUNDLE
from tumortrace.index import open_case, prepare
from tumortrace.phantom.write import write_phantom
from tumortrace_runtime.bench.candidates import Choice, EngineRunner, Outcome, Runner
from tumortrace_runtime.bench.compare import compare
from tumortrace_runtime.bench.gates import read_gates
from tumortrace_runtime.bench.results import Results, baseline_name, read_results, write_results
from tumortrace_runtime.bench.run import DataSet, run_benchmark
from tumortrace_runtime.bundle import Bundle, open_bundle
from tumortrace_runtime.command import run
from tumortrace_runtime.errors import InputError
from tumortrace_runtime.io import Scan
from tumortrace_runtime.table import format_table

BASELINES = Path(__file__).parent / "baselines"
GATES = Path(__file__).parent / "gates.toml"

_SEED, _NUMBERS = 7, (2, 3, 5)
_ROUNDS = 7
_PRECISIONS = ("int8",)

Load = Callable[[Bundle, Choice], Runner]


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


FAULTS: dict[str, tuple[type[EngineRunner], str]] = {
    "none": (EngineRunner, ""),
    "a quarter slower": (Slow, "total"),
    "a stage twice as long": (SlowStage, "preprocess"),
    "a hundredth of Dice": (Wrong, "dice"),
}
"""What is planted, and the measure that should raise the alarm."""

bundle_argument = click.argument("bundle", type=BUNDLE, default="lgg-unet-s")


@click.group()
def command() -> None:
    """Measure BUNDLE on phantoms, and hold what was measured against a baseline."""


@command.command("check")
@bundle_argument
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Keep the result, too.")
def check_command(bundle: Path, out: Path | None) -> int:
    """Measure, and hold the result against the baseline; ends with 4 where something is worse."""
    results = measure(open_bundle(bundle))
    if out is not None:
        write_results(results, out)
    baseline = find_baseline(results)
    comparison = compare(results, read_results(baseline), read_gates(GATES))
    click.echo(f"baseline: {baseline.name}\n{describe_comparison(comparison)}")
    return REGRESSED if comparison.regressions else 0


@command.command("update")
@bundle_argument
def update_command(bundle: Path) -> None:
    """Measure, and keep the result as this device's baseline in place of the one before."""
    results = measure(open_bundle(bundle))
    name = baseline_name(results)
    BASELINES.mkdir(exist_ok=True)
    for older in BASELINES.glob(f"{_device(name)}.*.json"):
        older.unlink()
    write_results(results, BASELINES / name)
    click.echo(str(BASELINES / name))


@command.command("trial")
@bundle_argument
@click.option("--runs", type=click.IntRange(min=1), default=10, show_default=True)
def trial_command(bundle: Path, runs: int) -> int:
    """Measure again and again with and without planted faults: only these may raise the alarm."""
    opened, gates = open_bundle(bundle), read_gates(GATES)
    base = measure(opened)

    def alarms_of(results: Results) -> set[str]:
        return {found.measure for found in compare(results, base, gates).regressions}

    rows, right = [], 0
    for fault, (load, wanted) in FAULTS.items():
        alarms = [alarms_of(measure(opened, load)) for _ in range(runs)]
        told = sum(wanted in alarm if wanted else not alarm for alarm in alarms)
        rows.append((fault, wanted or "no alarm", f"{told} of {runs}"))
        right += told
        click.echo(f"{fault}: {alarms}", err=True)
    click.echo(format_table(("planted", "wanted", "right"), rows))
    return 0 if right == runs * len(FAULTS) else REGRESSED


def measure(bundle: Bundle, load: Load = EngineRunner) -> Results:
    """The short benchmark."""
    with phantoms(bundle) as data:
        return run_benchmark(bundle, data, rounds=_ROUNDS, precisions=_PRECISIONS, load=load)


@contextmanager
def phantoms(bundle: Bundle) -> Iterator[DataSet]:
    """Scans in the LGG layout, in a folder that goes when the block ends."""
    with tempfile.TemporaryDirectory(prefix="tumortrace-") as folder:
        for number in _NUMBERS:
            write_phantom(Path(folder), "lgg", _SEED, number)
        index = prepare(Path(folder))
        names = [case.case_id for case in index.cases]
        channels = bundle.preprocessing.channels
        read = {name: partial(open_case, index, name, channels=channels) for name in names}
        yield DataSet(index.sha256, "", "phantoms", read)


def find_baseline(results: Results) -> Path:
    """The newest of this device, or else of any.

    Raises:
        InputError: there is none.
    """
    kept = sorted(BASELINES.glob("*.json"), key=lambda path: path.name.split(".")[-2])
    own = [path for path in kept if _device(path.name) == _device(baseline_name(results))]
    if not kept:
        raise InputError(f"{BASELINES}: no baseline; `python benchmarks/gate.py update` measures one.")
    return (own or kept)[-1]


def _device(name: str) -> str:
    return name.split(".")[0]


def _wait(spent_ms: float) -> None:
    """At work, as a slower program would be."""
    until = time.perf_counter() + spent_ms / 1e3
    while time.perf_counter() < until:
        pass


if __name__ == "__main__":
    run(command, "gate")
