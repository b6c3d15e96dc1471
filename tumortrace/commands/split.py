"""`tumortrace split`: from an index to a split by patient."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from tumortrace.split import Parts, Split


@click.command("split")
@click.argument("index_path", metavar="INDEX", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Split to write, as JSON.")
@click.option("--seed", type=int, default=0, show_default=True, help="Chooses among like patients.")
@click.option("--folds", type=int, default=5, show_default=True, help="Number of folds for cross-validation.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(index_path: Path, out: Path, seed: int, folds: int, as_json: bool) -> None:
    """Split the cases of INDEX by patient, stratified by site and tumour size.

    Makes one fixed split into train, val and test, and folds that test each patient once.
    """
    from tumortrace.index import load_index
    from tumortrace.split import make_split, save_split

    split = make_split(load_index(index_path), seed=seed, folds=folds)
    save_split(split, out)
    summary = {"split": str(out), **_summary(split)}
    click.echo(json.dumps(summary) if as_json else _table(summary))


def _summary(split: Split) -> dict[str, Any]:
    return {
        "sha256": split.sha256,
        "index_sha256": split.index_sha256,
        "seed": split.seed,
        "fixed": _counts(split.fixed),
        "folds": [_counts(parts) for parts in split.folds],
    }


def _counts(parts: Parts) -> dict[str, int]:
    return {name: len(cases) for name, cases in vars(parts).items()}


def _table(summary: dict[str, Any]) -> str:
    rows = {"fixed": summary["fixed"]} | {f"fold {number}": row for number, row in enumerate(summary["folds"])}
    lines = [f"{name:<10}" + "".join(f"{count:>7}" for count in row.values()) for name, row in rows.items()]
    heading = f"{'cases':<10}" + "".join(f"{name:>7}" for name in summary["fixed"])
    return "\n".join([f"{summary['split']}: seed {summary['seed']}", heading, *lines])
