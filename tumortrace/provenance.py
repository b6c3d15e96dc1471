"""What a checkpoint records of its data, and whether that is the data at hand."""

from __future__ import annotations

from typing import Any

from tumortrace.checkpoint import Checkpoint
from tumortrace.index import Index
from tumortrace.split import Split
from tumortrace_runtime.errors import DatasetError


def provenance(index: Index, split: Split, fold: int | None) -> dict[str, Any]:
    """What a run's checkpoint records of its data, as JSON values."""
    return {
        "index_sha256": index.sha256,
        "split_sha256": split.sha256,
        "fold": fold,
        "training_cases": split.part("train", fold),
        "validation_cases": split.part("val", fold),
    }


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
