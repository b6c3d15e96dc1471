"""Whether a checkpoint may be scored on a split's cases."""

from __future__ import annotations

from tumortrace.checkpoint import Checkpoint
from tumortrace.split import Split
from tumortrace_runtime.errors import DatasetError


def require_own_split(checkpoint: Checkpoint, split: Split, fold: int | None) -> None:
    """Refuse any split or fold but that which a checkpoint was trained on.

    Raises:
        DatasetError: it is another, or has no validation case.
        SpecError: there is no such fold.
    """
    validation, test = split.part("val", fold), split.part("test", fold)
    trained_on = checkpoint.training.get("data", {})
    if trained_on.get("split_sha256") != split.sha256:
        raise DatasetError("the checkpoint was trained on another split; give the split that it was trained on.")
    if seen := sorted(set(trained_on.get("training_cases", ())) & {*validation, *test}):
        raise DatasetError(f"the checkpoint was trained on {seen[0]}, which would score it; give the fold it had.")
    if not validation:
        raise DatasetError("the split has no validation case to score on; make one with `tumortrace split`.")
