"""`tumortrace calibrate`: from a trained checkpoint to one that knows its threshold, its doubts and its limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tumortrace.commands.options import own_data_options, progress_bar

if TYPE_CHECKING:
    from tumortrace.checkpoint import Checkpoint
    from tumortrace.dataset import TrainingCase


@click.command("calibrate")
@click.argument("checkpoint_path", metavar="CHECKPOINT", type=click.Path(path_type=Path))
@own_data_options
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Checkpoint to write.")
@click.option("--json", "as_json", is_flag=True, help="Print what was chosen as JSON.")
def command(
    checkpoint_path: Path, index_path: Path, split_path: Path, fold: int | None, out: Path, as_json: bool
) -> None:
    """Choose CHECKPOINT's post-processing on validation cases, calibrate its probabilities, and learn its limits.

    The validation cases choose threshold, morphology and the least lesion, and a temperature for probabilities. The
    training cases, and spoiled copies of them, teach what scans the network was made for. Weights stay as they are.
    """
    from tumortrace.calibrate import calibrate
    from tumortrace.checkpoint import load_checkpoint, save_checkpoint
    from tumortrace.dataset import prepare_case
    from tumortrace.index import load_index, open_case
    from tumortrace.provenance import require_own_split
    from tumortrace.split import load_split
    from tumortrace_runtime.errors import OutputError

    if out.exists():
        raise OutputError(f"{out}: already exists; remove it or choose another name.")
    checkpoint = load_checkpoint(checkpoint_path)
    index = load_index(index_path)
    split = load_split(split_path, index)
    require_own_split(checkpoint, split, fold)

    def prepared(name: str) -> TrainingCase:
        spec = checkpoint.preprocessing
        return prepare_case(open_case(index, name, channels=spec.channels), spec)

    validation = [prepared(name) for name in split.part("val", fold)]
    with progress_bar(split.part("train", fold), "studying training cases") as names:
        calibrated = calibrate(checkpoint, map(prepared, names), validation)
    save_checkpoint(out, calibrated)
    result = _result(out, calibrated)
    click.echo(json.dumps(result) if as_json else _text(result))


def _result(out: Path, calibrated: Checkpoint) -> dict[str, Any]:
    return {"checkpoint": str(out), **calibrated.training["calibration"]}


def _text(result: dict[str, Any]) -> str:
    from tumortrace.ood import FEWEST_SCANS

    choice, temperature, ood = result["postprocessing"], result["temperature"], result["ood"]
    settings = ", ".join(f"{name} {value}" for name, value in choice["postprocessing"].items())
    lines = [
        f"post-processing, of {choice['tried']} tried: {settings}",
        f"validation Dice {choice['dice']:.4f}, before {choice['start_dice']:.4f}",
        f"temperature {temperature['temperature']:.3f}",
        f"calibration error {temperature['calibration_error']:.4f}, before "
        f"{temperature['calibration_error_before']:.4f}",
    ]
    if scores := ood["validation_scores"].values():
        lines.append(f"out-of-distribution scores of the validation cases: {min(scores):.2f} to {max(scores):.2f}")
    else:
        lines.append(f"no out-of-distribution score: {ood['scans']} whole training scans, {FEWEST_SCANS} wanted")
    return "\n".join([*lines, result["checkpoint"]])
