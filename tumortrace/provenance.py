"""What a checkpoint records of its data, and whether that is the data at hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tumortrace.index import Index
from tumortrace.split import Split
from tumortrace_runtime.errors import DatasetError

if TYPE_CHECKING:
    from tumortrace.checkpoint import Checkpoint

NAMED = 3
"""Patients that a message names."""


def provenance(index: Index, split: Split, fold: int | None) -> dict[str, Any]:
    """What a run's checkpoint records of its data, as JSON values."""
    return {
        "index_sha256": index.sha256,
        "split_sha256": split.sha256,
        "fold": fold,
        "training_cases": split.part("train", fold),
        "validation_cases": split.part("val", fold),
    }


def patients_seen(training: Mapping[str, Any], case_ids: Iterable[str], index: Index) -> list[str]:
    """The patients of some cases that a network was trained or chosen on, sorted; in them it cannot be tested.

    Args:
        training: `Checkpoint.training`, which a bundle's manifest has too.
        case_ids: of the index.
        index: says whose the cases are; a case that it does not have is nobody's.
    """
    patients = {case.case_id: case.patient_id for case in index.cases}
    data = training.get("data", {})
    seen = {patients.get(name) for part in ("training_cases", "validation_cases") for name in data.get(part, ())}
    return sorted({patients[name] for name in case_ids} & seen)


def refuse_seen(model: str, training: Mapping[str, Any], case_ids: Iterable[str], index: Index) -> None:
    """Refuse to test a network on patients that it was trained or chosen on.

    Args:
        model: its name, for the message.
        training: as for `patients_seen`.
        case_ids: of the test.
        index: says whose the cases are.

    Raises:
        DatasetError: it has seen some of them.
    """
    seen = patients_seen(training, case_ids, index)
    if seen:
        more = f" and {len(seen) - NAMED} more" if len(seen) > NAMED else ""
        known = ", ".join(seen[:NAMED]) + more
        raise DatasetError(f"{model}: was trained or chosen on {known}, tested here; give its own split and fold.")


def require_own_split(checkpoint: Checkpoint, split: Split, fold: int | None) -> None:
    """Refuse any split or fold but that which a checkpoint was trained on.

    Raises:
        DatasetError: it is another, or has no validation case.
        SpecError: there is no such fold.
    """
    validation = split.part("val", fold)
    data = checkpoint.training.get("data", {})
    if "split_sha256" not in data:
        raise DatasetError(
            "the checkpoint does not say on what it was trained; one that `tumortrace train` made wanted."
        )
    if data["split_sha256"] != split.sha256:
        raise DatasetError("the checkpoint was trained on another split; give the split that it was trained on.")
    if (had := data.get("fold")) != fold:
        had_name, given = ("the fixed split" if each is None else f"fold {each}" for each in (had, fold))
        raise DatasetError(f"the checkpoint was trained on {had_name}; {given} given.")
    if not validation:
        raise DatasetError("the split has no validation case to score on; make one with `tumortrace split`.")
