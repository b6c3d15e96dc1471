"""What a checkpoint records of its data, and whether that is the data at hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tumortrace.index import Index
from tumortrace.split import Split
from tumortrace.wording import name_some
from tumortrace_runtime.errors import DatasetError

if TYPE_CHECKING:
    from tumortrace.checkpoint import Checkpoint

_SEEN = ("training_cases", "validation_cases", "teachers_cases")


def provenance(index: Index, split: Split, fold: int | None) -> dict[str, Any]:
    """What a run's checkpoint records of its data, as JSON values."""
    return {
        "index_sha256": index.sha256,
        "split_sha256": split.sha256,
        "fold": fold,
        "training_cases": split.part("train", fold),
        "validation_cases": split.part("val", fold),
    }


def recorded_data(model: str, training: Mapping[str, Any]) -> Mapping[str, Any]:
    """What `provenance` gave when a network was trained.

    Args:
        model: its name, for the message.
        training: `Checkpoint.training`, which a bundle's manifest has too.

    Raises:
        DatasetError: it does not say on what it was trained.
    """
    data: Mapping[str, Any] = training.get("data", {})
    if "split_sha256" not in data:
        raise DatasetError(f"{model}: does not say on what it was trained; a checkpoint of `tumortrace train` wanted.")
    return data


def cases_seen(data: Mapping[str, Any]) -> set[str]:
    """The cases that a network was trained or chosen on, and those of its teachers, of what `recorded_data` gives."""
    return {name for part in _SEEN for name in data.get(part, ())}


def refuse_seen(model: str, training: Mapping[str, Any], case_ids: Iterable[str], index: Index) -> None:
    """Refuse to test a network on patients that it, or a teacher of it, was trained or chosen on.

    Args:
        model: its name, for the message.
        training: as for `recorded_data`.
        case_ids: of the test.
        index: says whose the cases are; a case that it does not have is nobody's.

    Raises:
        DatasetError: it has seen some of them, or does not say on what it was trained.
    """
    patients = {case.case_id: case.patient_id for case in index.cases}
    seen = {patients.get(name) for name in cases_seen(recorded_data(model, training))}
    if tested := {patients[name] for name in case_ids} & seen:
        raise DatasetError(
            f"{model}: was trained or chosen on {name_some(tested)}, tested here, or its teacher was; one that never "
            "saw the test patients is wanted, or its own split and fold."
        )


def require_own_split(checkpoint: Checkpoint, split: Split, fold: int | None) -> None:
    """Refuse any split or fold but that which a checkpoint was trained on.

    Raises:
        DatasetError: it is another, or has no validation case.
        SpecError: there is no such fold.
    """
    validation = split.part("val", fold)
    data = recorded_data("the checkpoint", checkpoint.training)
    if data["split_sha256"] != split.sha256:
        raise DatasetError("the checkpoint was trained on another split; give the split that it was trained on.")
    if (had := data.get("fold")) != fold:
        had_name, given = ("the fixed split" if each is None else f"fold {each}" for each in (had, fold))
        raise DatasetError(f"the checkpoint was trained on {had_name}; {given} given.")
    if not validation:
        raise DatasetError("the split has no validation case to score on; make one with `tumortrace split`.")
