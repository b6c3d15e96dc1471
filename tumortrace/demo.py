"""`make demo`: the whole path from scans to masks, each step the command that a user would type.

Every command is printed before it runs. With phantoms the demo ends with exit code 3 where the result is not good
enough; real scans are trained on for a few minutes only, and their Dice is reported, not judged.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from tumortrace.index import load_index, open_case
from tumortrace.split import load_split
from tumortrace_runtime.bench.results import read_results
from tumortrace_runtime.command import run
from tumortrace_runtime.errors import AccuracyError, OutputError
from tumortrace_runtime.io.scan import Scan
from tumortrace_runtime.machine import inspect_machine
from tumortrace_runtime.oracle import oracle_threshold_dice

WANTED_DICE = 0.85
WANTED_LEAD = 0.2
BACKENDS = ("onnxruntime", "openvino")


@dataclass(frozen=True)
class Plan:
    """How long to train, and on what grid."""

    grid_px: int
    epochs: int
    steps_per_epoch: int


PHANTOMS = Plan(grid_px=128, epochs=8, steps_per_epoch=60)
REAL_SCANS = Plan(grid_px=256, epochs=10, steps_per_epoch=75)


@click.command("demo")
@click.option("--data", type=click.Path(path_type=Path), help="Folder of real cases to use instead of phantoms.")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="New folder for everything.")
def command(data: Path | None, out: Path) -> None:
    """Train, calibrate, export at INT8, segment unseen scans on two engines without PyTorch, and measure."""
    if out.exists():
        raise OutputError(f"{out}: already exists; remove it or choose another name.")
    plan = PHANTOMS if data is None else REAL_SCANS
    if data is None:
        data = out / "phantoms"
        call("tumortrace", "phantom", "-o", data, "--cases", 40, "--seed", 7, "--size-px", plan.grid_px)
    test_scans = learn(data, out, plan)
    model, bundle = out / "model", out / "demo.bundle"
    cases = ("--data", out / "index.json", "--split", out / "split.json")
    call("tumortrace", "calibrate", out / "run/best", *cases, "-o", model)
    call("tumortrace-export", model, "--int8", *cases, "-o", bundle)
    for backend in BACKENDS:
        folders = [scan.files.folder for scan in test_scans]
        call("tumortrace", "segment", bundle, *folders, "--backend", backend, "-o", out / f"masks-{backend}")
    call("tumortrace", "evaluate", bundle, *cases, "-o", out / "evaluation")
    call("tumortrace", "bench", "run", bundle, *cases, "-o", out / "bench.json")
    shown = ("--bundle", bundle, "--data", out / "index.json")
    call("tumortrace", "bench", "report", out / "bench.json", *shown, "-o", out / "report.html")
    judge(out, test_scans, required=data == out / "phantoms")


def learn(data: Path, out: Path, plan: Plan) -> list[Scan]:
    """Index, split and train; the test scans, which training does not see."""
    index_path, split_path = out / "index.json", out / "split.json"
    call("tumortrace", "prepare", data, "-o", index_path)
    call("tumortrace", "split", index_path, "-o", split_path)
    settings = {
        "epochs": plan.epochs,
        "steps_per_epoch": plan.steps_per_epoch,
        "preprocessing.grid_px": f"[{plan.grid_px},{plan.grid_px}]",
        "precision": "bf16" if "avx512_bf16" in inspect_machine().cpu.features else "fp32",
    }
    overrides = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    call("tumortrace", "train", "--data", index_path, "--split", split_path, "-o", out / "run", *overrides)
    index = load_index(index_path)
    return [open_case(index, name) for name in load_split(split_path, index).part("test")]


def judge(out: Path, scans: list[Scan], *, required: bool) -> None:
    """Say how the result compares with the best that a threshold could do.

    Raises:
        AccuracyError: it is required, and the Dice or its lead is too small.
    """
    dice = min(each.dice for each in read_results(out / "bench.json").candidates if each.precision == "int8")
    oracle = {name: float(np.mean([_oracle(scan, name) for scan in scans])) for name in scans[0].channels}
    best = max(oracle, key=lambda name: oracle[name])
    click.echo(
        f"\nDice at INT8 on {len(scans)} unseen scans: {dice:.4f}. The best that a threshold on one channel could do, "
        f"chosen for each scan by its truth: {oracle[best]:.4f} ({best}).\n"
        f"Open {out}/report.html; look at {out}/evaluation/overlays and {out}/masks-openvino.\n"
        "Research software, not a medical device."
    )
    if required and (dice < WANTED_DICE or dice < oracle[best] + WANTED_LEAD):
        raise AccuracyError(f"the demo wants a Dice of {WANTED_DICE}, and {WANTED_LEAD} above the threshold's.")


def call(program: str, *words: object) -> None:
    """Print a command and run it; where it fails, end with its exit code."""
    arguments = [str(word) for word in words]
    click.echo(f"\n$ {shlex.join([program, *arguments])}")
    sys.stdout.flush()
    finished = subprocess.run([str(Path(sysconfig.get_path("scripts")) / program), *arguments], check=False)
    if finished.returncode:
        sys.exit(finished.returncode)


def _oracle(scan: Scan, channel: str) -> float:
    assert scan.truth is not None
    return oracle_threshold_dice(scan.voxels[..., scan.channels.index(channel)], scan.truth)


if __name__ == "__main__":
    run(command, "python -m tumortrace.demo")
