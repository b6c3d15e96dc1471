"""What a study found, as files: `best.json`, `trials.csv` and pictures."""

from __future__ import annotations

import csv
import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from tumortrace.config import TrainConfig
from tumortrace.search_space import Space, apply_parameters
from tumortrace_runtime.files import atomic_file, write_json
from tumortrace_runtime.settings import to_dict

_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#999999"
_COLUMNS = 3  # of pictures side by side


def write_results(out: Path, study: Study, config: TrainConfig, space: Space) -> None:
    """Write a study's files into folder `out`, each in place of an older one.

    `trials.csv` has a row per trial. From the first completed trial on there are `best.json`, the configuration of the
    best one, `history.png` and `slices.png`, and from the second on `importance.png`.

    Args:
        out: a folder.
        study: Optuna's.
        config: the settings that do not vary.
        space: those that do.

    Raises:
        OutputError: a file could not be written.
    """
    trials = study.get_trials(deepcopy=False)
    _write_csv(out / "trials.csv", trials, space)
    completed = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    if completed:
        write_json(out / "best.json", to_dict(apply_parameters(config, study.best_params)))
        _draw(out / "history.png", lambda figure: _draw_history(figure, trials))
        _draw(out / "slices.png", lambda figure: _draw_slices(figure, completed, space))
    if len(completed) > 1:
        _draw(out / "importance.png", lambda figure: _draw_importance(figure, study, len(completed)))


def best_reported(trial: FrozenTrial) -> float | None:
    """The best validation Dice of a trial's epochs so far; None before the first."""
    return max(trial.intermediate_values.values(), default=None)


def _write_csv(path: Path, trials: Sequence[FrozenTrial], space: Space) -> None:
    with atomic_file(path) as partial, partial.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["trial", "state", "validation_dice", "epochs", *space, "problem"])
        for trial in trials:
            parameters = [trial.params.get(key) for key in space]
            problem = trial.user_attrs.get("problem")
            outcome = [trial.state.name.lower(), best_reported(trial), trial.last_step or 0]
            writer.writerow([trial.number, *outcome, *parameters, problem])


def _draw(path: Path, draw: Callable[[Any], None]) -> None:
    from matplotlib.figure import Figure  # slow to import, and only this function needs it

    figure = Figure(figsize=(8, 3.5), layout="constrained")
    draw(figure)
    with atomic_file(path) as partial:
        figure.savefig(partial, dpi=120)


def _draw_history(figure: Any, trials: Sequence[FrozenTrial]) -> None:
    axes = figure.subplots()
    for state, colour, label in ((TrialState.COMPLETE, _BLUE, "completed"), (TrialState.PRUNED, _GREY, "pruned")):
        drawn = [trial for trial in trials if trial.state is state]
        axes.scatter(
            [trial.number for trial in drawn], [best_reported(trial) for trial in drawn], c=colour, label=label
        )
    values = [trial.value if trial.state is TrialState.COMPLETE else math.nan for trial in trials]
    best = np.fmax.accumulate(np.array(values, float))
    axes.step([trial.number for trial in trials], best, where="post", color=_ORANGE, label="best so far")
    axes.set(xlabel="trial", ylabel="validation Dice")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend()


def _draw_importance(figure: Any, study: Study, completed: int) -> None:
    """PED-ANOVA (Watanabe et al. 2023): what tells the best tenth of the trials, or the best five, from all."""
    best = min(0.5, max(0.1, 5 / completed))
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # of few trials, which the title tells
        importance = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(target_quantile=best))
    figure.set_size_inches(8, 1.5 + 0.3 * len(importance))
    axes = figure.subplots()
    names = list(reversed(importance))
    axes.barh(names, [importance[name] for name in names], color=_BLUE)
    axes.set(xlabel="importance", title=f"PED-ANOVA of {completed} completed trials")


def _draw_slices(figure: Any, completed: Sequence[FrozenTrial], space: Space) -> None:
    rows = math.ceil(len(space) / _COLUMNS)
    figure.set_size_inches(4 * _COLUMNS, 3 * rows)
    grid = figure.subplots(rows, _COLUMNS, sharey=True, squeeze=False).ravel()
    for axes, (key, distribution) in zip(grid, space.items(), strict=False):
        values = [trial.value for trial in completed]
        axes.scatter([trial.params[key] for trial in completed], values, c=_BLUE)
        axes.set(xlabel=key)
        if getattr(distribution, "log", False):
            axes.set_xscale("log")
        if isinstance(distribution, CategoricalDistribution):
            axes.tick_params(axis="x", labelrotation=15, labelsize="x-small")
    for axes in grid[len(space) :]:
        axes.remove()
    for axes in grid[::_COLUMNS]:
        axes.set(ylabel="validation Dice")
