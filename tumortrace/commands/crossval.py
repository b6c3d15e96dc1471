"""`tumortrace crossval`: train and test a model on every fold of a split, and pool what it has never seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tumortrace.commands.options import accelerator_option, config_options, data_options, progress_bar, read_config

if TYPE_CHECKING:
    from tumortrace.state import Epoch


def _numbers(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, ...]:
    parts = [] if value is None else value.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise click.BadParameter(f"{value!r} given; whole numbers such as 0,2 wanted.")
    return tuple(map(int, parts))


@click.command("crossval")
@data_options
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Folder of the cross-validation.")
@config_options
@click.option(
    "--folds", metavar="N,N,...", callback=_numbers, help="Only these folds, from 0; others may run elsewhere."
)
@click.option(
    "--seeds",
    metavar="N,N,...",
    callback=_numbers,
    help="In place of the seed: train each fold once per seed and test the ensemble.",
)
@click.option("--teacher", type=click.Path(path_type=Path), help="Folder of another cross-validation to learn from.")
@accelerator_option
@click.option("--resume", is_flag=True, help="Go on with folds that were stopped.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    index_path: Path,
    split_path: Path,
    out: Path,
    config_path: Path | None,
    overrides: tuple[str, ...],
    folds: tuple[int, ...],
    seeds: tuple[int, ...],
    teacher: Path | None,
    accelerator: str,
    resume: bool,
    as_json: bool,
) -> None:
    """Train a model on each fold, choose its post-processing on val, test it, and pool the tests of all folds.

    A fold's test part is scored once: a fold that is done is left as it is. Several processes may share --out, each
    with --folds of its own; whichever ends last pools.
    """
    from tumortrace.crossval import fold_dice, open_crossval, pool, run_fold
    from tumortrace.hardware import open_fabric
    from tumortrace.index import load_index
    from tumortrace.split import load_split

    config = read_config(config_path, overrides)
    open_fabric(accelerator)  # refuses what is not there before anything is written
    index = load_index(index_path)
    split = load_split(split_path, index)
    for fold in folds:
        split.part("test", fold)  # refuses a fold that is not there before anything is written
    crossval = open_crossval(out, config, index, split, seeds=seeds, teacher=teacher)
    results = {}
    for fold in folds or range(len(split.folds)):
        click.echo(f"fold {fold}{': tested before' * crossval.report(fold).exists()}", err=True)
        cases = run_fold(crossval, fold, resume=resume, accelerator=accelerator, progress=progress_bar, report=_report)
        results[fold] = fold_dice(cases)
    missing = crossval.missing()
    pooled = None if missing else pool(crossval)
    result = {"out": str(out), "folds": results, "missing_folds": missing, "pooled": pooled}
    click.echo(json.dumps(result) if as_json else _text(result))


def _report(epoch: Epoch, is_best: bool) -> None:
    click.echo(f"epoch {epoch.epoch:3d}  validation Dice {epoch.validation_dice:.4f}{'  best' * is_best}", err=True)


def _text(result: dict[str, Any]) -> str:
    from tumortrace.commands.tables import summary_text
    from tumortrace_runtime.table import format_table

    rows = [
        (str(fold), f"{dice['mean_dice']:.4f}", f"{dice['median_dice']:.4f}", str(dice["cases"]))
        for fold, dice in result["folds"].items()
    ]
    folds = format_table(("fold", "mean Dice", "median Dice", "cases"), rows)
    if result["pooled"] is None:
        missing = ", ".join(map(str, result["missing_folds"]))
        return f"{folds}\n\n{result['out']}: fold {missing} not done, so nothing is pooled yet"
    pooled = result["pooled"]
    place = f"{result['out']}/pooled: {pooled['cases']} cases, each tested by a fold that never saw its patient"
    return f"{folds}\n\n{summary_text(pooled)}\n\n{place}"
