from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tumortrace.checkpoint import load_checkpoint


@pytest.fixture
def calibrate(tumortrace: Callable[..., Any], tiny_checkpoint: Path, tiny_data: Path) -> Callable[..., Any]:
    """Runs `tumortrace calibrate` on the small checkpoint."""
    data = ("--data", tiny_data / "index.json", "--split", tiny_data / "split.json")
    return lambda *arguments: tumortrace("calibrate", tiny_checkpoint, *data, *arguments)


def test_a_new_checkpoint_and_what_was_chosen(calibrate: Callable[..., Any], tmp_path: Path) -> None:
    ended = calibrate("-o", tmp_path / "calibrated")

    assert ended.code == 0, ended.err
    checkpoint = load_checkpoint(tmp_path / "calibrated")
    assert checkpoint.confidence is not None
    told = ended.out.splitlines()
    assert told[0].startswith("post-processing, of ")
    assert f"threshold {checkpoint.postprocessing.threshold}" in told[0]
    assert told[2] == f"temperature {checkpoint.confidence.temperature:.3f}"
    assert "no out-of-distribution score" in ended.out
    assert told[-1] == str(tmp_path / "calibrated")


def test_json_is_all_that_stands_on_stdout(
    calibrate: Callable[..., Any], tmp_path: Path, tiny_checkpoint: Path
) -> None:
    ended = calibrate("-o", tmp_path / "calibrated", "--json")

    result = json.loads(ended.out)
    assert result.pop("checkpoint") == str(tmp_path / "calibrated")
    assert result == load_checkpoint(tmp_path / "calibrated").training["calibration"]
    assert set(result) == {"postprocessing", "temperature", "ood"}


def test_wrong_use_is_refused_and_nothing_is_written(calibrate: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    taken = calibrate("-o", tmp_path / "taken")
    assert (taken.code, "already exists" in taken.err) == (2, True)
    other = calibrate("-o", tmp_path / "new", "--fold", 1)
    assert (other.code, "was trained on the fixed split; fold 1 given" in other.err) == (2, True)
    assert not (tmp_path / "new").exists()
