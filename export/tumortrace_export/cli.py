"""The program `tumortrace-export`: a checkpoint in, a bundle out."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from tumortrace_runtime.command import run
from tumortrace_runtime.errors import SpecError
from tumortrace_runtime.table import format_table
from tumortrace_runtime.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tumortrace_export.export import Row

FORMATS = ("onnx", "openvino")


def _formats(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, ...]:
    formats = tuple(part.strip() for part in value.split(","))
    if unknown := [part for part in formats if part not in FORMATS]:
        raise SpecError(f"--format {unknown[0]!r}; a list of {', '.join(FORMATS)} wanted, such as onnx,openvino.")
    return formats


@click.command(epilog="Research software, not a medical device.")
@click.argument("checkpoint_path", metavar="CHECKPOINT", type=click.Path(path_type=Path))
@click.option("--int8", is_flag=True, help="Quantise to INT8 too.")
@click.option("--data", "index_path", type=click.Path(path_type=Path), required=True, help="Index of the cases.")
@click.option("--split", "split_path", type=click.Path(path_type=Path), required=True, help="Split of the training.")
@click.option("--fold", type=int, help="The fold that the checkpoint was trained on, if it was one.")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Bundle to write: NAME.bundle.")
@click.option("--format", "formats", default=",".join(FORMATS), callback=_formats, help="onnx, openvino, or both.")
@click.option("--max-drop", type=float, default=0.005, show_default=True, help="Mean Dice that may be lost at most.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.version_option(__version__, message="%(prog)s %(version)s")
def command(
    checkpoint_path: Path,
    int8: bool,
    index_path: Path,
    split_path: Path,
    fold: int | None,
    out: Path,
    formats: tuple[str, ...],
    max_drop: float,
    as_json: bool,
) -> None:
    """Turn CHECKPOINT into a bundle that needs no PyTorch.

    Calibrates on the split's training cases, scores every artefact on its validation cases, and writes nothing where
    one lost more than --max-drop (exit code 3).
    """
    from tumortrace.checkpoint import load_checkpoint
    from tumortrace.index import load_index
    from tumortrace.split import load_split
    from tumortrace_export.export import Settings, export

    checkpoint = load_checkpoint(checkpoint_path)
    index = load_index(index_path)
    split = load_split(split_path, index)
    settings = Settings(int8=int8, formats=formats, max_drop=max_drop)
    report = (lambda line: click.echo(line, err=True)) if not as_json else (lambda line: None)
    rows = export(checkpoint, index, split, out, settings, fold=fold, report=report)
    result = {"bundle": str(out), "artefacts": [asdict(row) for row in rows]}
    click.echo(json.dumps(result) if as_json else _text(out, rows))


def _text(out: Path, rows: Sequence[Row]) -> str:
    headings = ("engine", "precision", "ran in", "MB", "Dice", "worst", "drop", "flipped ppm", "ms/slice", "speed-up")
    cells = [
        (
            row.backend,
            row.precision,
            row.executed_precision,
            f"{row.size_bytes / 1e6:.1f}" if row.file else "",
            f"{row.accuracy.dice:.4f}",
            f"{row.accuracy.worst_dice:.4f}",
            f"{row.accuracy.drop:+.4f}",
            f"{row.accuracy.flipped_per_million:.0f}",
            f"{row.timing.median_ms:.2f}",
            f"{row.speedup:.2f}",
        )
        for row in rows
    ]
    return f"{format_table(headings, cells)}\n\n{out}\ntumortrace doctor {out}\ntumortrace segment {out} SCAN -o OUT"


def main() -> NoReturn:
    """Entry point of the console script."""
    run(command, "tumortrace-export", extra="export")
