"""`tumortrace train`: from an index and a split to a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from tumortrace.commands.options import (
    config_options,
    data_options,
    hardware_options,
    progress_bar,
    read_config,
    training_fold_option,
)

TEACHER = "Checkpoint to learn from too, with --set distillation=WEIGHT; several are averaged."


@click.command("train")
@data_options
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Folder of the run.")
@training_fold_option
@config_options
@click.option("--teacher", "teachers", multiple=True, type=click.Path(path_type=Path), help=TEACHER)
@hardware_options
@click.option("--resume", is_flag=True, help="Go on where the run in --out was stopped.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    index_path: Path,
    split_path: Path,
    out: Path,
    fold: int | None,
    config_path: Path | None,
    overrides: tuple[str, ...],
    teachers: tuple[Path, ...],
    accelerator: str,
    devices: int,
    resume: bool,
    as_json: bool,
) -> None:
    """Train a U-Net on the split's training cases, choosing the best epoch on its validation cases.

    --out/best is the checkpoint to evaluate and export. A run that was stopped goes on exactly with --resume.
    """
    from tumortrace.hardware import open_fabric
    from tumortrace.index import load_index
    from tumortrace.progress import silent
    from tumortrace.run import open_run
    from tumortrace.run_folder import refuse_existing
    from tumortrace.split import load_split
    from tumortrace.train import check_config, train

    config = read_config(config_path, overrides)
    if not resume:
        refuse_existing(out)  # before all cases are read
    check_config(config, devices, taught=bool(teachers))
    fabric = open_fabric(accelerator, devices, config.precision)
    index = load_index(index_path)
    split = load_split(split_path, index)

    fabric.launch()
    shown = progress_bar if fabric.is_global_zero else silent
    run = open_run(config, index, split, fold, teachers=teachers, progress=shown)
    checkpoint = train(run, out, fabric=fabric, resume=resume, progress=shown, report=_report)
    if not fabric.is_global_zero:
        return
    dice = checkpoint.training["validation_dice"]
    result = {
        "checkpoint": str(out / "best"),
        "epoch": checkpoint.training["epoch"],
        "validation_dice": sum(dice.values()) / len(dice),
    }
    if as_json:
        click.echo(json.dumps(result))
    else:
        click.echo(f"{result['checkpoint']}: epoch {result['epoch']}, validation Dice {result['validation_dice']:.4f}")


def _report(epoch: Any, is_best: bool) -> None:
    click.echo(
        f"epoch {epoch.epoch:3d}  loss {epoch.train_loss:.4f}  validation Dice {epoch.validation_dice:.4f}"
        f"  worst {epoch.worst_dice:.4f}  {epoch.seconds:.0f} s{'  best so far' if is_best else ''}",
        err=True,
    )
