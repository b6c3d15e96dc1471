"""What each part of the training recipe is worth: one run per variant, compared on validation cases.

python benchmarks/ablations.py --data index.json --split split.json -o ablations

`ablations.json` beside this file has the base and what each variant changes of it. Every run is resumable, and one that
is done is not begun again. Variants are compared by the last epoch, which no validation case chose.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from tumortrace.checkpoint import load_checkpoint
from tumortrace.commands.options import data_options, progress_bar, training_fold_option
from tumortrace.compare import signed_rank_p
from tumortrace.config import TrainConfig, build_config, change_settings
from tumortrace.index import load_index
from tumortrace.run import Run, open_run
from tumortrace.run_folder import DESCRIPTION
from tumortrace.split import load_split
from tumortrace.statistics import summarise_values
from tumortrace.train import train
from tumortrace_runtime.command import run
from tumortrace_runtime.errors import SpecError
from tumortrace_runtime.files import atomic_file, read_json
from tumortrace_runtime.settings import to_dict
from tumortrace_runtime.table import format_table

BASE = "base"
Scores = Mapping[str, float]


@click.command("ablations", epilog="Research software, not a medical device.")
@data_options
@training_fold_option
@click.option(
    "--variants",
    "variants_path",
    type=click.Path(path_type=Path),
    default=Path(__file__).with_suffix(".json"),
    help="JSON with base and variants.  [default: ablations.json beside this file]",
)
@click.option("--only", multiple=True, help="Run this variant, and with it the base; may be given again.")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Folder of the runs.")
def command(
    index_path: Path, split_path: Path, fold: int | None, variants_path: Path, only: tuple[str, ...], out: Path
) -> None:
    """Train the base and every variant on training cases, and compare them on validation cases."""
    configs = read_variants(read_json(variants_path))
    if unknown := sorted(set(only) - set(configs)):
        raise SpecError(f"variant {unknown[0]!r} given; one of {', '.join(configs)} wanted.")
    index = load_index(index_path)
    split = load_split(split_path, index)
    chosen = {name: config for name, config in configs.items() if not only or name in (BASE, *only)}
    run_all(chosen, lambda config: open_run(config, index, split, fold, progress=progress_bar), out)
    rows = compare(read_scores(configs, out))
    with atomic_file(out / "ablations.csv") as partial, partial.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(Row.__dataclass_fields__)
        writer.writerows(vars(row).values() for row in rows)
    click.echo(_text(rows, out))


def read_variants(values: Mapping[str, Any]) -> dict[str, TrainConfig]:
    """Every configuration by name, the base first.

    Raises:
        SpecError: there is no base or no variant, or a setting does not hold.
    """
    if set(values) != {BASE, "variants"} or not values["variants"]:
        raise SpecError(f"ablations: {', '.join(values)} given; an object of base and variants wanted.")
    base = build_config(values[BASE])
    variants = {name: change_settings(base, changes) for name, changes in values["variants"].items()}
    return {BASE: base, **variants}


def run_all(configs: Mapping[str, TrainConfig], open_: Callable[[TrainConfig], Run], out: Path) -> None:
    """Train what is not done yet; cases are read anew only where another preprocessing wants them."""
    opened: Run | None = None
    for name, config in configs.items():
        if opened is None or opened.config.preprocessing != config.preprocessing:
            opened = open_(config)
        folder = out / _folder(name)
        click.echo(f"{name}:", err=True)
        train(
            replace(opened, config=config),
            folder,
            resume=(folder / DESCRIPTION).exists(),
            progress=progress_bar,
            report=lambda epoch, _: click.echo(f"epoch {epoch.epoch}: Dice {epoch.validation_dice:.4f}", err=True),
        )


@dataclass(frozen=True)
class Row:
    """One variant's validation Dice after its last epoch, and how far that is from the base's, case by case."""

    variant: str
    mean_dice: float
    worst_dice: float
    difference: float
    low: float | None
    high: float | None
    wilcoxon_p: float | None


def compare(scores: Mapping[str, Scores]) -> list[Row]:
    """A row per variant, from Dice by case; the interval is the 95 % bootstrap over cases.

    Raises:
        SpecError: the base is not among them, or a variant has other cases.
    """
    if BASE not in scores:
        raise SpecError("ablations: the base was not run; there is nothing to compare with.")
    return [_row(name, cases, scores[BASE]) for name, cases in scores.items()]


def _row(name: str, cases: Scores, base: Scores) -> Row:
    if set(cases) != set(base):
        raise SpecError(f"{name}: was validated on other cases than the base; run both anew.")
    differences = [cases[case] - base[case] for case in sorted(base)]
    low, high = summarise_values(differences).mean_interval or (None, None)
    values = list(cases.values())
    means = float(np.mean(values)), min(values), float(np.mean(differences))
    return Row(name, *means, low, high, signed_rank_p(differences))


def _folder(name: str) -> str:
    return name.replace(" ", "-")


def read_scores(configs: Mapping[str, TrainConfig], out: Path) -> dict[str, Scores]:
    """Validation Dice by case after the last epoch, of every variant whose run is done."""
    scores = {}
    for name, config in configs.items():
        state = out / _folder(name) / "last"
        if state.exists():
            training = load_checkpoint(state).training
            if training["config"] == to_dict(config) and training["epoch"] == config.epochs:
                scores[name] = training["validation_dice"]
                continue
        click.echo(f"{name}: not run, or not to its end; left out", err=True)
    return scores


def _text(rows: Sequence[Row], out: Path) -> str:
    cells = [
        (
            row.variant,
            f"{row.mean_dice:.4f}",
            f"{row.worst_dice:.4f}",
            "" if row.variant == BASE else f"{row.difference:+.4f}",
            "" if row.low is None or row.variant == BASE else f"{row.low:+.4f} to {row.high:+.4f}",
            "" if row.wilcoxon_p is None else f"{row.wilcoxon_p:.2f}",
        )
        for row in rows
    ]
    header = ("variant", "mean Dice", "worst", "difference", "95 % interval", "p")
    return f"{format_table(header, cells)}\n\n{out}: ablations.csv, and a run per variant"


if __name__ == "__main__":
    run(command, "ablations")
