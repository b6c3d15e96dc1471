"""`tumortrace bench`: accuracy beside speed, on this machine; no PyTorch."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tumortrace.commands.options import BUNDLE, data_options, key_option, part_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tumortrace_runtime.bench import BundleTiming


@click.group("bench")
def command() -> None:
    """Measure bundles on this machine."""


@command.command("run")
@click.argument("bundle", type=BUNDLE)
@data_options
@part_options
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True, help="Rounds over all cases.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads; else the engine's choice.")
@key_option
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Results to write, as JSON.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
def bench_run(
    bundle: Path,
    index_path: Path,
    split_path: Path,
    part: str,
    fold: int | None,
    repeats: int,
    threads: int | None,
    public_key: Path | None,
    out: Path,
    as_json: bool,
) -> None:
    """Segment a part's cases with every engine and precision that BUNDLE has and this machine can run, in turn.

    A test part with patients that the model was trained or chosen on is refused.
    """
    from tumortrace.index import load_index, open_case
    from tumortrace.provenance import refuse_seen
    from tumortrace.split import load_split
    from tumortrace_runtime.bench import bench_segmenters
    from tumortrace_runtime.bundle import open_bundle
    from tumortrace_runtime.errors import BackendError
    from tumortrace_runtime.files import write_json
    from tumortrace_runtime.machine import inspect_machine
    from tumortrace_runtime.segmenter import Segmenter

    index = load_index(index_path)
    names = load_split(split_path, index).part(part, fold)
    opened = open_bundle(bundle, public_key=public_key)
    if part == "test":
        refuse_seen(str(bundle), opened.manifest.get("training", {}), names, index)
    scans = [open_case(index, name, channels=opened.preprocessing.channels) for name in names]
    segmenters, not_run = [], []
    with ExitStack() as stack:
        for backend, precision in opened.choices():
            try:
                segmenter = Segmenter(opened, backend=backend, precision=precision, threads=threads)
            except BackendError as problem:
                not_run.append({"backend": backend, "precision": precision, "reason": str(problem)})
                click.echo(f"not run: {backend} {precision}: {problem}", err=True)
            else:
                segmenters.append(stack.enter_context(segmenter))
        rows = bench_segmenters(segmenters, scans, repeats=repeats)
    results = {
        "bundle_sha256": opened.sha256,
        "cpu": asdict(inspect_machine().cpu),
        "cases": [scan.case_id for scan in scans],
        "rows": [asdict(row) for row in rows],
        "not_run": not_run,
    }
    write_json(out, results)
    click.echo(json.dumps(results) if as_json else f"{_table(rows)}\n\n{out}: {len(scans)} cases, {repeats} rounds")


def _table(rows: Sequence[BundleTiming]) -> str:
    from tumortrace_runtime.table import format_table

    headings = ("engine", "precision", "ran in", "INT8 MACs", "MB", "Dice", "ms/slice", "ms/scan")
    cells = [
        (
            row.backend,
            row.precision,
            row.executed_precision,
            f"{100 * row.int8_mac_share:.1f} %",
            f"{row.size_bytes / 1e6:.1f}",
            f"{row.dice:.4f}",
            f"{row.slice_ms.median_ms:.2f}",
            f"{row.scan_ms.median_ms:.0f}",
        )
        for row in rows
    ]
    return format_table(headings, cells)
