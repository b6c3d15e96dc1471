"""`tumortrace bench`: accuracy beside speed, on this machine; no PyTorch."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tumortrace.commands.options import BUNDLE, data_options, key_option, part_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tumortrace_runtime.bench.compare import Comparison
    from tumortrace_runtime.bench.report import Picture
    from tumortrace_runtime.bench.results import Results

REGRESSED = 4
"""The exit code of a comparison that found a regression."""

_FILE = click.Path(path_type=Path)
_OUT = click.option("-o", "--out", type=_FILE, required=True, help="File to write.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


@click.group("bench")
def command() -> None:
    """Measure bundles on this machine, and compare what was measured."""


@command.command("run")
@click.argument("bundle", type=BUNDLE)
@data_options
@part_options
@click.option("--repeats", type=click.IntRange(min=1), default=5, show_default=True, help="Rounds over all cases.")
@click.option("--threads", type=click.IntRange(min=1), multiple=True, help="CPU threads; else the engine's choice.")
@click.option("--backend", "backends", multiple=True, help="Only this engine.")
@click.option("--precision", "precisions", multiple=True, help="Only this precision.")
@click.option("--peer", "peers", type=_FILE, multiple=True, help="Python file of other software, to take part.")
@click.option("--checkpoint", type=_FILE, help="The checkpoint that BUNDLE was made of, for peers that want it.")
@key_option
@_OUT
@_JSON
def bench_run(
    bundle: Path,
    index_path: Path,
    split_path: Path,
    part: str,
    fold: int | None,
    repeats: int,
    threads: Sequence[int],
    backends: Sequence[str],
    precisions: Sequence[str],
    peers: Sequence[Path],
    checkpoint: Path | None,
    public_key: Path | None,
    out: Path,
    as_json: bool,
) -> None:
    """Segment a part's cases with all that BUNDLE has and this machine can run, in turn.

    Scans are read from files and masks written to files, and every stage is timed. A test part with patients that the
    model was trained or chosen on is refused.
    """
    from functools import partial

    from tumortrace.index import load_index, open_case
    from tumortrace.provenance import refuse_seen
    from tumortrace.split import load_split
    from tumortrace_runtime.bench.candidates import PeerInput, load_peers
    from tumortrace_runtime.bench.results import write_results
    from tumortrace_runtime.bench.run import DataSet, run_benchmark
    from tumortrace_runtime.bundle import open_bundle
    from tumortrace_runtime.files import atomic_file

    index = load_index(index_path)
    split = load_split(split_path, index)
    names = split.part(part, fold)
    opened = open_bundle(bundle, public_key=public_key)
    if part == "test":
        refuse_seen(str(bundle), opened.manifest.get("training", {}), names, index)
    channels = opened.preprocessing.channels
    data = DataSet(
        index.sha256, split.sha256, part, {name: partial(open_case, index, name, channels=channels) for name in names}
    )
    choices: list[int | None] = [*threads] or [None]
    with ExitStack() as stack:
        partial_out = stack.enter_context(atomic_file(out))
        given = [PeerInput(opened, checkpoint, each) for each in choices]
        others = [other for path in peers for each in given for other in load_peers(path, each)]
        for other in others:
            stack.callback(other.close)
        results = run_benchmark(
            opened,
            data,
            rounds=repeats,
            threads=choices,
            backends=backends,
            precisions=precisions,
            peers=others,
            progress=lambda line: click.echo(line, err=True),
        )
        write_results(results, partial_out)
    if as_json:
        click.echo(out.read_text())
        return
    click.echo(f"{_table(results)}\n\n{out}: {len(names)} cases, {repeats} rounds; {_trust(results)}")


@command.command("compare")
@click.argument("new", type=_FILE)
@click.option("--baseline", type=_FILE, required=True, help="The result to hold NEW against.")
@click.option("--gates", "gates_path", type=_FILE, required=True, help="Limits, as benchmarks/gates.toml.")
@_JSON
def bench_compare(new: Path, baseline: Path, gates_path: Path, as_json: bool) -> int:
    """Hold NEW against a baseline; ends with 4 where something is worse by more than it may be."""
    from tumortrace_runtime.bench.compare import compare
    from tumortrace_runtime.bench.gates import read_gates
    from tumortrace_runtime.bench.results import read_results

    comparison = compare(read_results(new), read_results(baseline), read_gates(gates_path))
    click.echo(json.dumps(comparison.to_dict()) if as_json else describe_comparison(comparison))
    return REGRESSED if comparison.regressions else 0


@command.command("report")
@click.argument("results", type=_FILE, nargs=-1, required=True)
@click.option("--bundle", type=BUNDLE, help="Segment the worst cases again, for pictures of them.")
@click.option("--data", "index_path", type=_FILE, help="Index of the cases, for pictures.")
@click.option("--pictures", type=click.IntRange(min=1), default=3, show_default=True, help="Of so many cases.")
@_OUT
def bench_report(
    results: Sequence[Path], bundle: Path | None, index_path: Path | None, pictures: int, out: Path
) -> None:
    """Make one page, readable offline and on paper, of RESULTS; of several, the newest with the others as its history.

    Pictures show scans: do not give such a page to people who may not see them.
    """
    from tumortrace_runtime.bench.report import make_page
    from tumortrace_runtime.bench.results import read_results
    from tumortrace_runtime.files import write_bytes

    if (bundle is None) != (index_path is None):
        raise click.UsageError("--bundle and --data belong together.")
    runs = [read_results(path) for path in results]
    shown = _worst_cases(runs, bundle, index_path, pictures) if bundle and index_path else []
    write_bytes(out, make_page(runs, shown).encode())
    click.echo(str(out))


def _worst_cases(runs: Sequence[Results], bundle: Path, index_path: Path, count: int) -> list[Picture]:
    from tumortrace.index import load_index, open_case
    from tumortrace_runtime.bench.report import Picture
    from tumortrace_runtime.bundle import open_bundle
    from tumortrace_runtime.errors import InputError
    from tumortrace_runtime.overlay import draw_montage
    from tumortrace_runtime.png import encode_png
    from tumortrace_runtime.preprocess import reference_number
    from tumortrace_runtime.segmenter import Segmenter

    newest = max(runs, key=lambda run: run.created_utc)
    index, opened = load_index(index_path), open_bundle(bundle)
    if (index.sha256, opened.sha256) != (newest.data["index_sha256"], newest.bundle["sha256"]):
        raise InputError("report: the results are of another bundle or index than the ones given for pictures.")
    shown = next(each for each in newest.candidates if each.kind == "engine")
    pictures = []
    with Segmenter(opened, backend=shown.backend, precision=shown.precision) as segmenter:
        for case in sorted(shown.cases, key=lambda one: one.dice)[:count]:
            scan = open_case(index, case.case_id)
            image = scan.voxels[..., reference_number(scan.channels)]
            picture = draw_montage(image, segmenter.segment(scan).mask, scan.truth, case.case_id)
            pictures.append(Picture(encode_png(picture), f"{case.case_id}, {shown.name}: Dice {case.dice:.4f}"))
    return pictures


@command.command("baseline")
@click.argument("results", type=_FILE)
@click.option("-o", "--out", "folder", type=_FILE, required=True, help="Folder of the baselines.")
def bench_baseline(results: Path, folder: Path) -> None:
    """Keep RESULTS as this device's baseline of their day."""
    from tumortrace_runtime.bench.results import baseline_name, read_results, write_results

    found = read_results(results)
    path = folder / baseline_name(found)
    folder.mkdir(parents=True, exist_ok=True)
    write_results(found, path)
    click.echo(str(path))


def describe_comparison(comparison: Comparison) -> str:
    """A table of every finding, the remarks, and the verdict."""
    from tumortrace_runtime.table import format_table

    rows = [
        (
            each.candidate,
            each.measure,
            "" if each.baseline is None else f"{each.baseline:.4g}",
            "not run" if each.new is None else f"{each.new:.4g}",
            f"{each.change:.3f}" + (f" ({each.interval[0]:.3f} to {each.interval[1]:.3f})" if each.interval else ""),
            f"{each.limit:g}",
            each.verdict,
            each.detail,
        )
        for each in comparison.findings
    ]
    headings = ("candidate", "measure", "baseline", "new", "change", "limit", "verdict", "")
    found = comparison.regressions
    names = ", ".join(f"{each.candidate} {each.measure}" for each in found)
    verdict = f"{len(found)} beyond the limits: {names}" if found else "nothing is beyond the limits"
    return "\n".join([format_table(headings, rows), "", *comparison.remarks, verdict])


def _trust(results: Results) -> str:
    from tumortrace_runtime.bench.stability import NOISY, machine_noise

    noise = machine_noise(results)
    told = f"the reference workload spread by {100 * noise:.0f} %"
    return f"{told}: too noisy a machine to say anything about latency" if noise > NOISY else told


def _table(results: Results) -> str:
    from statistics import median

    from tumortrace_runtime.bench.results import percentiles
    from tumortrace_runtime.bench.stability import candidate_noise
    from tumortrace_runtime.table import format_table

    headings = (
        "candidate", "ran in", "INT8 MACs", "MB", "Dice", "ms/scan", "p90", "p99", "in memory",
        "slices/s", "spread", "first mask ms", "peak MB",
    )  # fmt: skip
    cells = []
    for each in results.candidates:
        found = percentiles(each.times_ms("total"))
        cells.append(
            (
                each.name,
                each.executed_precision,
                f"{100 * each.int8_mac_share:.1f} %",
                f"{each.size_bytes / 1e6:.1f}",
                f"{each.dice:.4f}",
                *(f"{found[name]:.0f}" for name in ("p50", "p90", "p99")),
                f"{median(sample.in_memory_ms for sample in each.samples):.0f}",
                f"{results.slices_per_s(each):.0f}",
                "" if results.rounds == 1 else f"{100 * candidate_noise(each):.0f} %",
                "" if each.start is None else f"{each.start.first_mask_ms:.0f}",
                "" if each.start is None else f"{each.start.peak_bytes / 1e6:.0f}",
            )
        )
    not_run = [f"not run: {each.name}: {each.reason}" for each in results.not_run]
    return "\n".join([format_table(headings, cells), *not_run])
