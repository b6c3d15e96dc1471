from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tumortrace.checkpoint import load_checkpoint
from tumortrace.cli import main
from tumortrace.index import load_index
from tumortrace.split import load_split
from tumortrace_runtime.files import canonical_json, read_json, sha256_bytes, write_json

SMALL = {"model": "unet-xs", "epochs": 1, "steps_per_epoch": 1, "batch_size": 2, "preprocessing": {"grid_px": [64, 64]}}
Train = Callable[..., tuple[int, str, str]]


@pytest.fixture
def train(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Train:
    """Runs the program `tumortrace train` with a small configuration; its exit code, stdout and stderr."""
    write_json(tmp_path / "small.json", SMALL)

    def run(*arguments: object, split: Path = tiny_data / "split.json") -> tuple[int, str, str]:
        given = ("--data", tiny_data / "index.json", "--split", split, "--config", tmp_path / "small.json", *arguments)
        monkeypatch.setattr(sys, "argv", ["tumortrace", "train", *map(str, given)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


@pytest.fixture
def edited_split(tiny_data: Path, tmp_path: Path) -> Callable[[Callable[[Any], None]], Path]:
    """Writes the split anew with a change and the hash that belongs to it, as someone would who edits by hand."""

    def edit(change: Callable[[Any], None]) -> Path:
        content = read_json(tiny_data / "split.json")
        del content["sha256"]
        change(content)
        content["sha256"] = sha256_bytes(canonical_json(content))
        write_json(tmp_path / "edited.json", content)
        return tmp_path / "edited.json"

    return edit


def test_a_checkpoint_and_one_line_about_it(train: Train, tmp_path: Path) -> None:
    code, out, err = train("-o", tmp_path / "run")
    assert code == 0, err
    checkpoint = load_checkpoint(tmp_path / "run" / "best")
    dice = list(checkpoint.training["validation_dice"].values())
    assert out == f"{tmp_path}/run/best: epoch 1, validation Dice {sum(dice) / len(dice):.4f}\n"
    assert "epoch   1  loss" in err


def test_json_is_all_that_stands_on_stdout(train: Train, tmp_path: Path, tiny_data: Path) -> None:
    code, out, _ = train("-o", tmp_path / "run", "--json", "--fold", 1, "--set", "seed=5")
    result = json.loads(out)

    assert code == 0
    assert set(result) == {"checkpoint", "epoch", "validation_dice"}
    assert result["checkpoint"] == str(tmp_path / "run" / "best")
    training = load_checkpoint(tmp_path / "run" / "best").training
    index = load_index(tiny_data / "index.json")
    split = load_split(tiny_data / "split.json", index)
    assert training["config"]["seed"] == 5
    assert training["data"] == {
        "index_sha256": index.sha256,
        "split_sha256": split.sha256,
        "fold": 1,
        "training_cases": list(split.part("train", 1)),
        "validation_cases": list(split.part("val", 1)),
    }


def test_an_existing_folder_is_refused_and_resume_goes_on(train: Train, tmp_path: Path) -> None:
    assert train("-o", tmp_path / "run")[0] == 0
    code, _, err = train("-o", tmp_path / "run")
    assert code == 2
    assert f"Error: {tmp_path}/run: already exists; go on with --resume" in err

    code, out, _ = train("-o", tmp_path / "run", "--resume")
    assert (code, out[: len(str(tmp_path))]) == (0, str(tmp_path))
    code, _, err = train("-o", tmp_path / "run", "--resume", "--set", "epochs=2")
    assert code == 2
    assert "was begun with another config.epochs" in err


def test_a_patient_in_two_parts_is_refused(train: Train, edited_split: Any, tmp_path: Path) -> None:
    split = edited_split(lambda content: content["fixed"]["train"].append(content["fixed"]["val"][0]))
    code, _, err = train("-o", tmp_path / "run", split=split)

    assert code == 2
    assert "in both train and val; one is wanted" in err
    assert not (tmp_path / "run").exists()


def test_a_split_edited_without_its_hash_is_refused(train: Train, tiny_data: Path, tmp_path: Path) -> None:
    content = read_json(tiny_data / "split.json")
    content["fixed"]["train"].append(content["fixed"]["val"].pop())
    write_json(tmp_path / "edited.json", content)
    code, _, err = train("-o", tmp_path / "run", split=tmp_path / "edited.json")

    assert code == 2
    assert "does not match its hash; it was altered" in err


def test_a_part_without_cases_is_refused(train: Train, edited_split: Any, tmp_path: Path) -> None:
    split = edited_split(lambda content: content["fixed"]["val"].clear())
    code, _, err = train("-o", tmp_path / "run", split=split)
    assert code == 2
    assert "0 validation cases given" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--set", "epoch=2"), "setting epoch does not exist"),
        (("--set", "model=unet-xxl"), "'unet-xxl'; one of unet-xs"),
        (("--set", "preprocessing.grid_px=[64, 72]"), "multiples of 16 wanted"),
        (("--set", 'preprocessing.channels=["flair", "t2"]'), "t2"),
        (("--fold", "7"), "There is no fold 7"),
        (("--config", "nowhere.json"), "nowhere.json: cannot be read"),
        (("--set", "distillation=1"), "0 (no teacher is given) wanted"),
        (("--resume",), "run: holds no config.json, so there is nothing to resume"),
    ],
)
def test_wrong_input_ends_with_2_and_leaves_nothing(
    arguments: tuple[str, ...], told: str, train: Train, tmp_path: Path
) -> None:
    code, out, err = train("-o", tmp_path / "run", *arguments)
    assert (code, out) == (2, "")
    assert told in err
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


def test_a_case_that_changed_since_it_was_indexed_is_refused(train: Train, tiny_data: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(tiny_data, tmp_path / "moved"))
    index = read_json(moved / "index.json")
    write_json(moved / "index.json", {**index, "root": str(moved / "phantoms")})
    case = read_json(moved / "split.json")["fixed"]["train"][0]
    image = next(file for file in sorted((moved / "phantoms" / case).iterdir()) if "mask" not in file.name)
    image.write_bytes(image.read_bytes()[:100])
    code, _, err = train("-o", tmp_path / "run", "--data", moved / "index.json")

    assert code == 2
    assert f"{image}: was changed since the index was made" in err
    assert not (tmp_path / "run").exists()
