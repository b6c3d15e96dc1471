from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tumortrace.checkpoint import load_checkpoint
from tumortrace_export.qat_cli import main

Outcome = tuple[int, str, str]


@pytest.fixture
def program(
    tiny_checkpoint: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """Runs the entry point of `tumortrace-qat` for two steps; its exit code, stdout and stderr."""

    def run(*arguments: object) -> Outcome:
        given = [tiny_checkpoint, "--data", tiny_data / "index.json", "--split", tiny_data / "split.json", *arguments]
        given += ["--set", "steps_per_epoch=2", "--set", "batch_size=2"]
        monkeypatch.setattr(sys, "argv", ["tumortrace-qat", *map(str, given)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


def test_a_checkpoint_and_what_it_came_to(program: Callable[..., Outcome], tmp_path: Path) -> None:
    code, out, err = program("-o", tmp_path / "run", "--epochs", 1, "--learning-rate", 1e-5, "--json")
    assert code == 0, err
    qat = load_checkpoint(tmp_path / "run" / "best").training["qat"]
    assert (qat["config"]["epochs"], qat["config"]["learning_rate"]) == (1, 1e-5)
    tuned, start = (statistics.mean(qat[name].values()) for name in ("validation_dice", "start_dice"))
    result = json.loads(out)
    assert (result["checkpoint"], result["epoch"]) == (str(tmp_path / "run" / "best"), 1)
    assert (result["validation_dice"], result["validation_dice_without"]) == pytest.approx((tuned, start))
    assert "epoch   1  loss " in err and f"INT8 validation Dice {tuned:.4f}" in err

    code, out, err = program("-o", tmp_path / "run", "--epochs", 1, "--learning-rate", 1e-5, "--resume")
    assert code == 0, err
    better = "" if tuned > start else "; calibration alone is as good or better: export the checkpoint as it was"
    told = f"{tmp_path}/run/best: epoch 1, INT8 validation Dice {tuned:.4f}, {start:.4f} before{better}\n"
    assert out == told


def test_an_existing_run_is_refused_before_anything_is_read(program: Callable[..., Outcome], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    assert program("-o", tmp_path / "run", "--epochs", "1") == (
        2,
        "",
        f"Error: {tmp_path}/run: already exists; go on with --resume, or choose another name.\n",
    )
