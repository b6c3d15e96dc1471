from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tumortrace.checkpoint import Checkpoint, load_checkpoint
from tumortrace.index import load_index
from tumortrace.provenance import refuse_seen, require_own_split
from tumortrace.split import Parts, Split, load_split
from tumortrace_runtime.errors import DatasetError, SpecError


@pytest.fixture
def checkpoint(tiny_checkpoint: Path) -> Checkpoint:
    return load_checkpoint(tiny_checkpoint)


@pytest.fixture
def split(tiny_data: Path) -> Split:
    return load_split(tiny_data / "split.json", load_index(tiny_data / "index.json"))


def test_its_own_split_is_taken(checkpoint: Checkpoint, split: Split) -> None:
    require_own_split(checkpoint, split, None)


def test_another_split_or_fold_is_refused(checkpoint: Checkpoint, split: Split) -> None:
    with pytest.raises(DatasetError, match="was trained on the fixed split; fold 1 given"):
        require_own_split(checkpoint, split, 1)
    with pytest.raises(DatasetError, match="was trained on another split"):
        require_own_split(checkpoint, replace(split, seed=9), None)
    with pytest.raises(SpecError, match="no fold 2"):
        require_own_split(checkpoint, split, 2)


def test_a_split_without_validation_cases_is_refused(checkpoint: Checkpoint, split: Split) -> None:
    empty = replace(split, fixed=Parts(split.fixed.train, (), split.fixed.test))
    data = {**checkpoint.training["data"], "split_sha256": empty.sha256}
    of_it = replace(checkpoint, training={**checkpoint.training, "data": data})
    with pytest.raises(DatasetError, match="has no validation case to score on"):
        require_own_split(of_it, empty, None)


def test_a_patient_is_seen_with_any_of_its_cases(checkpoint: Checkpoint, split: Split, tiny_data: Path) -> None:
    index = load_index(tiny_data / "index.json")
    refuse_seen("model", checkpoint.training, split.part("test"), index)

    tested, trained = (index.case(split.part(part)[0]) for part in ("test", "train"))
    scanned_twice = replace(tested, patient_id=trained.patient_id)
    cases = tuple(scanned_twice if case is tested else case for case in index.cases)
    with pytest.raises(DatasetError, match=f"model: was trained or chosen on {trained.patient_id}, tested here"):
        refuse_seen("model", checkpoint.training, [tested.case_id], replace(index, cases=cases))


def test_what_a_teacher_saw_its_student_has_seen(checkpoint: Checkpoint, split: Split, tiny_data: Path) -> None:
    index, tested = load_index(tiny_data / "index.json"), split.part("test")
    taught = {"data": checkpoint.training["data"] | {"teachers_cases": tested[:1]}}
    with pytest.raises(DatasetError, match="or its teacher was"):
        refuse_seen("student", taught, tested, index)


def test_a_network_that_does_not_say_whom_it_saw_is_not_tested(split: Split, tiny_data: Path) -> None:
    with pytest.raises(DatasetError, match="model: does not say on what it was trained"):
        refuse_seen("model", {}, split.part("test"), load_index(tiny_data / "index.json"))
