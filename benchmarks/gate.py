"""Whether the product is as accurate and as fast as it was: a short benchmark on phantoms, held against a baseline.

python benchmarks/gate.py check            # `make gate`: ends with 4 where something is worse by more than it may be
python benchmarks/gate.py update           # measure, and keep the result as this device's baseline

The baseline is the newest of this device in `baselines`; where there is none, the newest of another, for accuracy.
What is worse is measured once more, for on a machine with neighbours once is chance: the alarm is what is worse twice.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click

from tumortrace.commands.bench import REGRESSED, describe_comparison
from tumortrace.commands.options import BUNDLE
from tumortrace.index import open_case, prepare
from tumortrace.phantom.write import write_phantom
from tumortrace_runtime.bench.candidates import Choice, EngineRunner, Runner
from tumortrace_runtime.bench.compare import compare
from tumortrace_runtime.bench.gates import read_gates
from tumortrace_runtime.bench.results import Results, baseline_name, read_results, write_results
from tumortrace_runtime.bench.run import GROWTH_SLICES, DataSet, run_benchmark
from tumortrace_runtime.bundle import Bundle, open_bundle
from tumortrace_runtime.command import run
from tumortrace_runtime.errors import InputError

BASELINES = Path(__file__).parent / "baselines"
GATES = Path(__file__).parent / "gates.toml"

_SEED, _NUMBERS = 7, (2, 3, 8)
_ROUNDS = 7
_PRECISIONS = ("int8",)

Load = Callable[[Bundle, Choice], Runner]


bundle_argument = click.argument("bundle", type=BUNDLE, default="lgg-unet-s")


@click.group()
def command() -> None:
    """Measure BUNDLE on phantoms, and hold what was measured against a baseline."""


@command.command("check")
@bundle_argument
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Keep the result, too.")
def check_command(bundle: Path, out: Path | None) -> int:
    """Measure, and hold the result against the baseline; ends with 4 where something is worse."""
    opened = open_bundle(bundle)
    results = measure(opened)
    if out is not None:
        write_results(results, out)
    path = find_baseline(results)
    click.echo(f"baseline: {path.name}")
    alarms = alarms_twice(results, partial(measure, opened), read_results(path), say=click.echo)
    return REGRESSED if alarms else 0


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


def alarms_twice(
    results: Results, again: Callable[[], Results], base: Results, say: Callable[[str], object] = lambda _: None
) -> set[tuple[str, str]]:
    """Candidates and measures that are worse than the baseline, and are so again when measured once more."""
    gates = read_gates(GATES)
    first = compare(results, base, gates)
    say(describe_comparison(first))
    if not first.regressions:
        return set()
    second = compare(again(), base, gates)
    once, twice = ({(each.candidate, each.measure) for each in found.regressions} for found in (first, second))
    say(f"\nmeasured once more:\n{describe_comparison(second)}")
    say(f"worse both times: {', '.join(' '.join(each) for each in sorted(once & twice)) or 'nothing'}")
    return once & twice


def measure(
    bundle: Bundle, *, load: Load = EngineRunner, rounds: int = _ROUNDS, growth_slices: int = GROWTH_SLICES
) -> Results:
    """The short benchmark."""
    with phantoms(bundle) as data:
        return run_benchmark(
            bundle, data, rounds=rounds, precisions=_PRECISIONS, growth_slices=growth_slices, load=load
        )


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


if __name__ == "__main__":
    run(command, "gate")
