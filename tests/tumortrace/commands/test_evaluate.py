from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tumortrace.index import load_index
from tumortrace.split import load_split

Program = Callable[..., Any]


@pytest.fixture
def cases(tiny_data: Path) -> tuple[object, ...]:
    return ("--data", tiny_data / "index.json", "--split", tiny_data / "split.json")


def test_a_bundle_is_measured_case_by_case(
    tumortrace: Program, tiny_bundle: Path, tiny_data: Path, cases: tuple[object, ...], tmp_path: Path
) -> None:
    out = tmp_path / "report"
    ended = tumortrace("evaluate", tiny_bundle, *cases, "--part", "train", "-o", out, "--json")
    assert ended.code == 0, ended.err
    index = load_index(tiny_data / "index.json")
    names = load_split(tiny_data / "split.json", index).part("train")
    with (out / "cases.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    summary = json.loads(ended.out)
    assert [row["case_id"] for row in rows] == names
    assert summary["metrics"]["dice"]["mean"] == pytest.approx(sum(float(row["dice"]) for row in rows) / len(rows))
    assert summary["about"]["backend"] == "openvino"
    assert summary["about"]["executed_precision"] == "int8"
    assert {path.name for path in (out / "overlays").iterdir()} == {"best.png", "median.png", "worst.png"}


def test_a_checkpoint_is_measured_by_pytorch(
    tumortrace: Program, tiny_checkpoint: Path, cases: tuple[object, ...], tmp_path: Path
) -> None:
    ended = tumortrace("evaluate", tiny_checkpoint, *cases, "-o", tmp_path / "report")
    assert ended.code == 0, ended.err
    assert "dice " in ended.out
    assert json.loads((tmp_path / "report/summary.json").read_text())["about"]["backend"] == "pytorch"


def test_what_is_neither_checkpoint_nor_bundle_is_refused(
    tumortrace: Program, tiny_data: Path, cases: tuple[object, ...], tmp_path: Path
) -> None:
    ended = tumortrace("evaluate", tiny_data, *cases, "-o", tmp_path / "report")
    assert ended.code == 2
    assert str(tiny_data) in ended.err
    assert not (tmp_path / "report").exists()


def test_a_fold_that_is_not_there_is_refused(
    tumortrace: Program, tiny_bundle: Path, cases: tuple[object, ...], tmp_path: Path
) -> None:
    ended = tumortrace("evaluate", tiny_bundle, *cases, "--fold", "9", "-o", tmp_path / "report")
    assert ended.code == 2
    assert "no fold 9" in ended.err


@pytest.mark.parametrize("model", ["tiny_checkpoint", "tiny_bundle"])
def test_patients_that_the_model_saw_are_not_tested(
    model: str,
    tumortrace: Program,
    tiny_data: Path,
    cases: tuple[object, ...],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    split = load_split(tiny_data / "split.json", load_index(tiny_data / "index.json"))
    seen = {*split.part("train"), *split.part("val")}
    fold = next(fold for fold in range(len(split.folds)) if seen & set(split.part("test", fold)))
    path = request.getfixturevalue(model)
    ended = tumortrace("evaluate", path, *cases, "--fold", str(fold), "-o", tmp_path / "report")
    assert ended.code == 2
    assert "was trained or chosen on TCGA_" in ended.err
    assert not (tmp_path / "report").exists()


def test_an_engine_for_a_checkpoint_is_refused(
    tumortrace: Program, tiny_checkpoint: Path, cases: tuple[object, ...], tmp_path: Path
) -> None:
    ended = tumortrace("evaluate", tiny_checkpoint, *cases, "--precision", "int8", "-o", tmp_path / "report")
    assert ended.code == 2
    assert "--precision: a checkpoint runs in PyTorch at fp32; give a bundle" in ended.err
    assert not (tmp_path / "report").exists()
