"""A run's `metrics.csv` and its curves as a picture."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from tumortrace.state import Epoch
from tumortrace_runtime.files import atomic_file


def write_metrics(folder: Path, history: Sequence[Epoch]) -> None:
    """Write `metrics.csv`, a row per epoch, and `curves.png`, loss and validation Dice over the epochs.

    Raises:
        OutputError: a file could not be written.
    """
    with atomic_file(folder / "metrics.csv") as partial, partial.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [field.name for field in fields(Epoch)])
        writer.writeheader()
        writer.writerows(asdict(epoch) for epoch in history)
    with atomic_file(folder / "curves.png") as partial:
        _draw(partial, history)


def _draw(path: Path, history: Sequence[Epoch]) -> None:
    from matplotlib.figure import Figure  # slow to import, and only this function needs it

    figure = Figure(figsize=(8, 3.5), layout="constrained")
    loss, dice = figure.subplots(1, 2)
    epochs = [epoch.epoch for epoch in history]
    loss.plot(epochs, [epoch.train_loss for epoch in history], color="#0072B2")
    loss.set(xlabel="epoch", ylabel="training loss")
    dice.plot(epochs, [epoch.validation_dice for epoch in history], color="#0072B2", label="mean")
    dice.plot(epochs, [epoch.worst_dice for epoch in history], color="#D55E00", label="worst case")
    dice.set(xlabel="epoch", ylabel="validation Dice", ylim=(0, 1))
    dice.legend()
    figure.savefig(path, dpi=120)
