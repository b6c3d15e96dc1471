from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tumortrace.checkpoint import load_checkpoint
from tumortrace.config import build_config
from tumortrace_runtime.files import read_json, write_json

SMALL = {
    "model": "unet-xs",
    "preprocessing": {"grid_px": [64, 64]},
    "epochs": 1,
    "steps_per_epoch": 1,
    "batch_size": 2,
}
SPACE = {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}
Tune = Callable[..., Any]


@pytest.fixture
def tune(tumortrace: Callable[..., Any], tiny_data: Path, tmp_path: Path) -> Tune:
    """Runs `tumortrace tune` with a small configuration and space, into tmp_path / "out"."""
    write_json(tmp_path / "small.json", SMALL)
    write_json(tmp_path / "space.json", SPACE)
    data = ("--data", tiny_data / "index.json", "--split", tiny_data / "split.json")
    given = (*data, "--config", tmp_path / "small.json", "-o", tmp_path / "out", "--accelerator", "cpu")
    return lambda *arguments: tumortrace("tune", *given, "--space", tmp_path / "space.json", *arguments)


def test_the_best_configuration_and_where_it_stands(tune: Tune, tumortrace: Tune, tmp_path: Path) -> None:
    ended = tune("--trials", 2, "--json", "--set", "seed=4")
    assert ended.code == 0, ended.err
    result = json.loads(ended.out)
    assert result["trials"] == {"complete": 2}
    best = result["best"]
    checkpoint = load_checkpoint(Path(best["checkpoint"]))
    config = build_config(read_json(Path(best["config"])))
    assert build_config(checkpoint.training["config"]) == config
    assert (config.learning_rate, config.seed) == (best["parameters"]["learning_rate"], 4)
    assert f"trial {best['trial']}, epoch 1: validation Dice {best['validation_dice']:.4f}" in ended.err

    ended = tune("--trials", 2, "--set", "seed=4")
    assert ended.code == 0, ended.err
    assert ended.out.startswith(f"{best['config']}: trial {best['trial']}, validation Dice")
    assert "trial" not in ended.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--trials", 0), "--trials"),
        (("--pruner", "best"), "'best' is not one of"),
        (("--set", "epoch=2"), "setting epoch does not exist"),
        (("--space", "nowhere.json"), "nowhere.json: cannot be read"),
        (("--fold", 7), "There is no fold 7"),
        (("--set", "epochs=0"), "epochs is 0"),
        (("--accelerator", "abacus"), "abacus"),
        (("--set", "distillation=1"), "0 (no teacher is given) wanted"),
        (("--storage", "nowhere://study"), "storage nowhere://study: cannot be opened"),
    ],
)
def test_wrong_input_ends_with_2_and_leaves_nothing(
    arguments: tuple[Any, ...], told: str, tune: Tune, tmp_path: Path
) -> None:
    ended = tune("--trials", 1, *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert told in ended.err
    assert "Traceback" not in ended.err
    assert not (tmp_path / "out").exists()


def test_a_bad_space_ends_with_2_before_anything_runs(tune: Tune, tmp_path: Path) -> None:
    write_json(tmp_path / "bad.json", {"learning_rate": {"low": -1, "high": 1}})
    ended = tune("--trials", 1, "--space", tmp_path / "bad.json")
    assert (ended.code, ended.out) == (2, "")
    assert "search space, learning_rate: learning_rate is -1.0; a positive number wanted" in ended.err
    assert not (tmp_path / "out").exists()
