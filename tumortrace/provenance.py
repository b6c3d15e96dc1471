"""What a checkpoint records of its data, and whether that is the data at hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tumortrace.index import Index
from tumortrace.split import Split
from tumortrace_runtime.errors import DatasetError

if TYPE_CHECKING:
    from tumortrace.checkpoint import Checkpoint


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


def require_own_split(checkpoint: Checkpoint, split: Split, fold: int | None) -> None:
    """Refuse any split or fold but that which a checkpoint was trained on.

    Raises:
        DatasetError: it is another, or has no validation case.
        SpecError: there is no such fold.
    """
    validation = split.part("val", fold)
    data = checkpoint.training.get("data", {})
    if data.get("split_sha256") != split.sha256:
        raise DatasetError("the checkpoint was trained on another split; give the split that it was trained on.")
    if (had := data.get("fold")) != fold:
        had_name, given = ("the fixed split" if each is None else f"fold {each}" for each in (had, fold))
        raise DatasetError(f"the checkpoint was trained on {had_name}; {given} given.")
    if not validation:
        raise DatasetError("the split has no validation case to score on; make one with `tumortrace split`.")
