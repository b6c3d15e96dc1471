"""The program `tumortrace-qat`: a checkpoint in, one that is trained for INT8 out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from tumortrace.commands.options import own_data_options, progress_bar
from tumortrace_runtime.command import run
from tumortrace_runtime.version import __version__

if TYPE_CHECKING:
    from tumortrace.checkpoint import Checkpoint
    from tumortrace.state import Epoch


@click.command(epilog="Research software, not a medical device.")
@click.argument("checkpoint_path", metavar="CHECKPOINT", type=click.Path(path_type=Path))
@own_data_options
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Folder of the run.")
@click.option("--epochs", type=int, help="Short for --set epochs=N.")
@click.option("--learning-rate", type=float, help="Short for --set learning_rate=RATE.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one setting, as weight_bits=7.")
@click.option("--resume", is_flag=True, help="Go on where the run in --out was stopped.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.version_option(__version__, message="%(prog)s %(version)s")
def command(
    checkpoint_path: Path,
    index_path: Path,
    split_path: Path,
    fold: int | None,
    out: Path,
    epochs: int | None,
    learning_rate: float | None,
    overrides: tuple[str, ...],
    resume: bool,
    as_json: bool,
) -> None:
    """Fine-tune CHECKPOINT in the INT8 arithmetic that the export gives it, on the data that it was trained on.

    --out/best is the checkpoint to export: `tumortrace-export --int8` takes its scales and calibrates nothing. A run
    that was stopped goes on exactly with --resume.
    """
    from tumortrace.checkpoint import load_checkpoint
    from tumortrace.index import load_index
    from tumortrace.run_folder import refuse_existing
    from tumortrace.split import load_split
    from tumortrace_export.qat import build_qat_config, fine_tune, open_fine_tuning

    if not resume:
        refuse_existing(out)  # before all cases are read
    checkpoint = load_checkpoint(checkpoint_path)
    short = {"epochs": epochs, "learning_rate": learning_rate}
    given = [f"{name}={value}" for name, value in short.items() if value is not None]
    config = build_qat_config(checkpoint, [*given, *overrides])
    index = load_index(index_path)
    split = load_split(split_path, index)
    task = open_fine_tuning(checkpoint, config, index, split, fold, progress_bar)
    tuned = fine_tune(task, out, resume=resume, progress=progress_bar, report=_report)
    result = _result(out, tuned)
    click.echo(json.dumps(result) if as_json else _text(result))


def _report(epoch: Epoch, is_best: bool) -> None:
    click.echo(
        f"epoch {epoch.epoch:3d}  loss {epoch.train_loss:.4f}  INT8 validation Dice {epoch.validation_dice:.4f}"
        f"  worst {epoch.worst_dice:.4f}  {epoch.seconds:.0f} s{'  best so far' if is_best else ''}",
        err=True,
    )


def _result(out: Path, tuned: Checkpoint) -> dict[str, Any]:
    qat = tuned.training["qat"]
    return {
        "checkpoint": str(out / "best"),
        "epoch": qat["epoch"],
        "validation_dice": _mean(qat["validation_dice"]),
        "validation_dice_without": _mean(qat["start_dice"]),
    }


def _mean(scores: dict[str, float]) -> float:
    return sum(scores.values()) / len(scores)


def _text(result: dict[str, Any]) -> str:
    tuned, without = result["validation_dice"], result["validation_dice_without"]
    verdict = "" if tuned > without else "; calibration alone is as good or better: export the checkpoint as it was"
    return (
        f"{result['checkpoint']}: epoch {result['epoch']}, INT8 validation Dice {tuned:.4f}, "
        f"{without:.4f} before{verdict}"
    )


def main() -> NoReturn:
    """Entry point of the console script."""
    run(command, "tumortrace-qat", extra="export")
