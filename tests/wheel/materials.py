"""A bundle and a scan to check a wheel with, made by the commands of this environment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_CASES = 8
_SIZE_PX = 64
_SETTINGS = (
    "model=unet-xs",
    f"preprocessing.grid_px=[{_SIZE_PX}, {_SIZE_PX}]",
    "epochs=1",
    "steps_per_epoch=60",
    "batch_size=8",
    "warmup_steps=5",
)


def make(folder: Path) -> tuple[Path, Path]:
    """A bundle whose network was trained for seconds, and the folder of one phantom scan."""
    phantoms, index, split, run = folder / "phantoms", folder / "index.json", folder / "split.json", folder / "run"
    bundle = folder / "tiny.bundle"
    data = ("--data", index, "--split", split)
    settings = [part for setting in _SETTINGS for part in ("--set", setting)]
    _tumortrace("phantom", "--cases", str(_CASES), "--seed", "1", "--size-px", str(_SIZE_PX), "-o", phantoms)
    _tumortrace("prepare", phantoms, "-o", index)
    _tumortrace("split", index, "--folds", "2", "-o", split)
    _tumortrace("train", *data, *settings, "-o", run)
    _call(
        "tumortrace_export.cli", run / "best", "--int8", *data, "--max-drop", "1", "--max-case-drop", "1", "-o", bundle
    )
    return bundle, next(path for path in sorted(phantoms.iterdir()) if path.is_dir())


def _tumortrace(*arguments: str | Path) -> None:
    _call("tumortrace.cli", *arguments)


def _call(program: str, *arguments: str | Path) -> None:
    subprocess.run([sys.executable, "-c", f"from {program} import main; main()", *arguments], check=True)
