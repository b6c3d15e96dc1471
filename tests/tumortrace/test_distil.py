from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tumortrace.checkpoint import CONFIG, load_checkpoint, save_checkpoint
from tumortrace.distil import distillation_loss, open_teacher
from tumortrace.index import Index, load_index
from tumortrace.run import Run, open_run
from tumortrace.split import Split, load_split
from tumortrace.train import train
from tumortrace_runtime.errors import CheckpointError, DatasetError, SpecError
from tumortrace_runtime.preprocess import network_batch


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
    config = replace(student.config, steps_per_epoch=8, warmup_steps=0, ema_decay=0.0, distillation=20.0)
    known = load_checkpoint(tiny_checkpoint)
    contrary = {name: -tensor if name.startswith("head.") else tensor for name, tensor in known.weights.items()}
    save_checkpoint(tmp_path / "teacher", replace(known, weights=contrary))  # says no where the truth says yes
    run = open_run(config, index, split, teachers=[tmp_path / "teacher"])
    taught = train(run, tmp_path / "taught")
    alone = train(replace(student, config=replace(config, distillation=0.0)), tmp_path / "alone")

    teacher = load_checkpoint(tmp_path / "teacher")
    data, of_teacher = taught.training["data"], teacher.training["data"]
    assert data["teachers"] == [json.loads((tmp_path / "teacher" / CONFIG).read_text())["weights_sha256"]]
    assert data["teachers_cases"] == sorted([*of_teacher["training_cases"], *of_teacher["validation_cases"]])

    batch = torch.from_numpy(network_batch(run.validation[0].prepared.planes, 8, 16, 1))
    said = teacher.network()(batch).sigmoid()
    losses = [distillation_loss(one.network()(batch), said).item() for one in (taught, alone)]
    assert losses[0] < 0.7 * losses[1]


def test_a_teacher_that_saw_the_test_patients_is_refused(
    tiny_checkpoint: Path, index: Index, split: Split, student: Run
) -> None:
    seen = set(split.part("train")) | set(split.part("val"))
    fold = next(fold for fold in range(len(split.folds)) if seen & set(split.part("test", fold)))
    with pytest.raises(DatasetError, match="tested here, or its teacher was; one that never saw the test patients"):
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
