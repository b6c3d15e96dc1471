"""The benchmark as a whole: a bundle and scans in, results out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone

from tumortrace_runtime.bench.candidates import Choice, EngineRunner, Runner, find_choices
from tumortrace_runtime.bench.environment import describe_environment
from tumortrace_runtime.bench.measure import Read, measure
from tumortrace_runtime.bench.results import NotRun, Results, Start
from tumortrace_runtime.bench.start import measure_start
from tumortrace_runtime.bundle import ARTEFACTS, Bundle
from tumortrace_runtime.errors import BackendError, InputError

GROWTH_SLICES = 2000


@dataclass(frozen=True)
class DataSet:
    """The scans of a benchmark.

    Attributes:
        index_sha256, split_sha256: where they are from.
        part: of the split.
        cases: reads each case's files, with truth.
    """

    index_sha256: str
    split_sha256: str
    part: str
    cases: Mapping[str, Read]


def run_benchmark(
    bundle: Bundle,
    data: DataSet,
    *,
    rounds: int,
    threads: Sequence[int | None] = (None,),
    backends: Sequence[str] = (),
    precisions: Sequence[str] = (),
    peers: Sequence[Runner] = (),
    growth_slices: int = GROWTH_SLICES,
    load: Callable[[Bundle, Choice], Runner] = EngineRunner,
    progress: Callable[[str], None] = lambda _: None,
) -> Results:
    """Measure everything of a bundle that this machine can run, and other software beside it.

    Args:
        bundle: what is measured.
        data: on which scans.
        rounds: over all cases.
        threads: CPU threads of the candidates; None for the engine's choice.
        backends: that take part; empty for all.
        precisions: that take part; empty for all.
        peers: other software, loaded.
        growth_slices: over how many slices each candidate's memory is watched.
        load: what loads an engine of the bundle.
        progress: told what is done, line by line.

    Raises:
        InputError: the bundle has no model of a wanted backend or precision, or nothing of it runs here.
        ScanError: a case cannot be read, or has no truth.
        BackendError: an engine failed at work; one that cannot be loaded is `not_run`.
    """
    choices, not_run = find_choices(bundle, threads, backends, precisions)
    slices, largest = _look_at(data, progress)
    starts: dict[str, Start | None] = {}
    with ExitStack() as stack:
        runners: list[Runner] = []
        for choice in choices:
            progress(f"starting {choice.name}")
            try:
                runner = load(bundle, choice)
            except BackendError as problem:
                not_run.append(NotRun(choice.name, str(problem)))
                continue
            runners.append(runner)
            stack.callback(runner.close)
            scan = data.cases[largest]().select(bundle.preprocessing.channels)
            starts[choice.name] = measure_start(bundle.path, choice, scan, growth_slices=growth_slices)
        if not runners:
            raise InputError(f"bench: {_told(not_run)} Nothing of {bundle.path} can be measured here.")
        candidates = measure([*runners, *peers], data.cases, starts, rounds=rounds, progress=progress)
    return Results(
        created_utc=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        environment=describe_environment(),
        bundle={"name": bundle.name, "sha256": bundle.sha256},
        model_sha256=bundle.file_sha256(bundle.path / ARTEFACTS["onnxruntime", "fp32"]),
        data={
            "index_sha256": data.index_sha256,
            "split_sha256": data.split_sha256,
            "part": data.part,
            "slices": slices,
        },
        rounds=rounds,
        candidates=candidates,
        not_run=tuple(not_run),
    )


def _look_at(data: DataSet, progress: Callable[[str], None]) -> tuple[dict[str, int], str]:
    """How many slices every case has, and the largest case."""
    progress("reading cases")
    shapes = {case_id: read().voxels.shape for case_id, read in data.cases.items()}
    if not shapes:
        raise InputError("bench: the part has no cases; take another one of the split.")
    sizes = {case_id: shape[0] * shape[1] * shape[2] for case_id, shape in shapes.items()}
    return {case_id: int(shape[0]) for case_id, shape in shapes.items()}, max(sizes, key=sizes.__getitem__)


def _told(not_run: Sequence[NotRun]) -> str:
    return " ".join(f"{each.name}: {each.reason}" for each in not_run)
