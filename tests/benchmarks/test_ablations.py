"""The script that says what each part of the recipe is worth, run as its page says."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tumortrace.checkpoint import load_checkpoint

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "ablations.py"
TINY = {
    "base": {
        "model": "unet-xs",
        "preprocessing": {"grid_px": [64, 64]},
        "epochs": 1,
        "steps_per_epoch": 1,
        "batch_size": 2,
    },
    "variants": {"other seed": {"seed": 1}, "BCE alone": {"loss": {"bce": 1}, "augmentation": {"noise": 0}}},
}


def ablate(data: Path, out: Path, variants: Any, *arguments: str) -> subprocess.CompletedProcess[str]:
    (out.parent / "variants.json").write_text(json.dumps(variants))
    given = ["--data", data / "index.json", "--split", data / "split.json", "-o", out]
    command = [sys.executable, SCRIPT, *given, "--variants", out.parent / "variants.json", *arguments]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)


def test_every_variant_is_trained_and_compared_with_the_base(tiny_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "ablations"
    alone = ablate(tiny_data, out, TINY, "--only", "other seed")
    assert alone.returncode == 0, alone.stderr
    assert "BCE alone" not in alone.stdout
    untouched = (out / "base" / "metrics.csv").read_bytes()

    done = ablate(tiny_data, out, TINY)
    assert done.returncode == 0, done.stderr
    assert (out / "base" / "metrics.csv").read_bytes() == untouched
    with (out / "ablations.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["variant"] for row in rows] == ["base", "other seed", "BCE alone"]
    base, other = (load_checkpoint(out / name / "last").training for name in ("base", "BCE-alone"))
    assert other["config"]["loss"] == {"bce": 1.0}
    assert other["config"]["augmentation"] == {**base["config"]["augmentation"], "noise": 0.0}
    scores = [list(each["validation_dice"].values()) for each in (base, other)]
    assert float(rows[2]["difference"]) == pytest.approx(np.mean(scores[1]) - np.mean(scores[0]))
    assert float(rows[2]["worst_dice"]) == min(scores[1])


@pytest.mark.parametrize(
    ("variants", "arguments", "told"),
    [
        (TINY, ("--only", "none"), "variant 'none' given; one of base, other seed, BCE alone wanted"),
        ({"base": {}}, (), "base given; an object of base and variants wanted"),
        ({**TINY, "variants": {"wrong": {"epoch": 1}}}, (), "setting epoch does not exist"),
    ],
)
def test_wrong_variants_are_refused_before_anything_is_trained(
    variants: Any, arguments: tuple[str, ...], told: str, tiny_data: Path, tmp_path: Path
) -> None:
    done = ablate(tiny_data, tmp_path / "out", variants, *arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
