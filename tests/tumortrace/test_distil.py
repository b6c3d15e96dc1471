from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tumortrace.checkpoint import CONFIG
from tumortrace.distil import distillation_loss, open_teacher
from tumortrace.index import Index, load_index
from tumortrace.run import Run, open_run
from tumortrace.split import Split, load_split
from tumortrace.train import train
from tumortrace_runtime.errors import CheckpointError, SpecError


@pytest.fixture(scope="module")
def index(tiny_data: Path) -> Index:
    return load_index(tiny_data / "index.json")


@pytest.fixture(scope="module")
def split(tiny_data: Path, index: Index) -> Split:
    return load_split(tiny_data / "split.json", index)


@pytest.fixture(scope="module")
def student(tiny_run: Callable[..., Run]) -> Run:
    settings = {"epochs": 1, "steps_per_epoch": 2, "batch_size": 2, "distillation": 1.0}
    return tiny_run(**settings)


def test_the_loss_is_least_where_the_student_agrees() -> None:
    taught = torch.tensor([[[[0.2, 0.9]]]])
    agreed = torch.logit(taught)
    least = distillation_loss(agreed, taught)
    assert distillation_loss(agreed + 0.5, taught) > least
    assert distillation_loss(agreed - 0.5, taught) > least


def test_a_student_learns_and_records_its_teacher(
    student: Run, tiny_checkpoint: Path, index: Index, split: Split, tmp_path: Path
) -> None:
    run = open_run(student.config, index, split, teachers=[tiny_checkpoint])
    checkpoint = train(run, tmp_path / "taught")
    alone = train(replace(student, config=replace(student.config, distillation=0.0)), tmp_path / "alone")

    sha256 = json.loads((tiny_checkpoint / CONFIG).read_text())["weights_sha256"]
    assert checkpoint.training["data"]["teachers"] == [sha256]
    assert not torch.equal(checkpoint.weights["head.weight"], alone.weights["head.weight"])


def test_a_teacher_that_saw_the_test_patients_is_refused(
    tiny_checkpoint: Path, index: Index, split: Split, student: Run
) -> None:
    seen = set(split.part("train")) | set(split.part("val"))
    fold = next(fold for fold in range(len(split.folds)) if seen & set(split.part("test", fold)))
    with pytest.raises(SpecError, match="tested here; one that never saw the test patients is wanted"):
        open_teacher(tiny_checkpoint, index, split, fold, student.config.preprocessing)


def test_a_teacher_of_other_scans_is_refused(tiny_checkpoint: Path, index: Index, split: Split, student: Run) -> None:
    other = replace(student.config.preprocessing, context=0)
    with pytest.raises(SpecError, match="sees scans prepared otherwise"):
        open_teacher(tiny_checkpoint, index, split, None, other)


def test_a_teacher_that_is_none_is_refused(index: Index, split: Split, student: Run, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is no checkpoint"):
        open_teacher(tmp_path, index, split, None, student.config.preprocessing)


def test_a_teacher_whose_say_has_no_weight_is_refused(
    student: Run, tiny_checkpoint: Path, index: Index, split: Split, tmp_path: Path
) -> None:
    config = replace(student.config, distillation=0.0)
    run = open_run(config, index, split, teachers=[tiny_checkpoint])
    with pytest.raises(SpecError, match=r"distillation is 0\.0; a weight above 0 \(a teacher is given\) wanted"):
        train(run, tmp_path / "out")
