"""`tumortrace tune`: a search for better settings on validation patients."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tumortrace.commands.options import (
    accelerator_option,
    config_options,
    data_options,
    progress_bar,
    read_config,
    training_fold_option,
)
from tumortrace_runtime.files import read_json

if TYPE_CHECKING:
    from optuna.study import Study


@click.command("tune")
@data_options
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Folder of the study.")
@click.option(
    "--trials", type=click.IntRange(min=1), required=True, help="Trials of the whole study, earlier ones too."
)
@training_fold_option
@click.option("--space", "space_path", type=click.Path(path_type=Path), help="Search space as JSON; else the default.")
@config_options
@click.option(
    "--pruner",
    type=click.Choice(["median", "hyperband", "none"]),
    default="median",
    show_default=True,
    help="What gives up trials that promise little.",
)
@click.option("--storage", metavar="URL", help="Database of the study, where machines share no folder; else in --out.")
@accelerator_option
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    index_path: Path,
    split_path: Path,
    out: Path,
    trials: int,
    fold: int | None,
    space_path: Path | None,
    config_path: Path | None,
    overrides: tuple[str, ...],
    pruner: str,
    storage: str | None,
    accelerator: str,
    as_json: bool,
) -> None:
    """Search settings for the highest validation Dice; test patients are never seen.

    --out/best.json is the configuration to train with. A study that was stopped goes on when the command is given
    again, the trial that was killed included, and several of the same command work on one study together.
    """
    from tumortrace.index import load_index
    from tumortrace.search_space import DEFAULT_SPACE, build_space
    from tumortrace.split import load_split
    from tumortrace.tune import open_search, tune

    config = read_config(config_path, overrides)
    space = build_space(read_json(space_path) if space_path else DEFAULT_SPACE, config)
    index = load_index(index_path)
    split = load_split(split_path, index)

    search = open_search(config, space, index, split, fold, progress_bar, pruner)
    study = tune(search, out, trials, storage=storage, accelerator=accelerator, progress=progress_bar, report=_report)
    result = _result(study, out)
    click.echo(json.dumps(result) if as_json else _text(result))


def _report(line: str) -> None:
    click.echo(line, err=True)


def _result(study: Study, out: Path) -> dict[str, Any]:
    from optuna.trial import TrialState

    from tumortrace.tune import trial_folder

    states = Counter(trial.state.name.lower() for trial in study.trials)
    result: dict[str, Any] = {"study": study.study_name, "trials": dict(states), "best": None}
    if states[TrialState.COMPLETE.name.lower()]:
        best = study.best_trial
        folder = trial_folder(out, best.number)
        result["best"] = {
            "trial": best.number,
            "validation_dice": best.value,
            "config": str(out / "best.json"),
            "checkpoint": str(folder / "best") if folder.exists() else None,
            "parameters": best.params,
        }
    return result


def _text(result: dict[str, Any]) -> str:
    counts = ", ".join(f"{count} {state}" for state, count in result["trials"].items())
    if result["best"] is None:
        return f"{result['study']}: {counts}; none completed so far"
    best = result["best"]
    settings = "".join(f"\n  {key} = {value}" for key, value in best["parameters"].items())
    return f"{best['config']}: trial {best['trial']}, validation Dice {best['validation_dice']:.4f}; {counts}{settings}"
