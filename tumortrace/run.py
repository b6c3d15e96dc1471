"""What one training run is made of, read from an index and a split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tumortrace.config import TrainConfig
from tumortrace.dataset import TrainingCase, prepare_case
from tumortrace.distil import Teacher, open_teacher
from tumortrace.index import Index, open_case
from tumortrace.progress import Progress, silent
from tumortrace.provenance import cases_seen, provenance
from tumortrace.split import Split


@dataclass(frozen=True)
class Run:
    """What one training run is made of.

    Attributes:
        config: how to train.
        provenance: JSON values that say on what: index and split hash, fold, case names.
        training: cases that batches are drawn from.
        validation: cases that choose the best epoch.
        teachers: networks whose say is learned beside the truth.
    """

    config: TrainConfig
    provenance: Mapping[str, Any]
    training: Sequence[TrainingCase]
    validation: Sequence[TrainingCase]
    teachers: Sequence[Teacher] = ()


def open_run(
    config: TrainConfig,
    index: Index,
    split: Split,
    fold: int | None = None,
    *,
    teachers: Sequence[Path] = (),
    progress: Progress = silent,
) -> Run:
    """Read the training and validation cases of the fixed split, or of a fold.

    Args:
        config: how to train, and so how scans are prepared.
        index: where the cases are.
        split: made of `index`.
        fold: counted from 0; None for the fixed split.
        teachers: checkpoints to learn from.
        progress: wraps the names of a part's cases, to show how far reading is.

    Raises:
        SpecError: there is no such fold, or a teacher sees scans prepared otherwise.
        DatasetError: a teacher may not teach here.
        CheckpointError: a teacher is missing or damaged.
        ScanError: a case cannot be read, or has no truth.
    """
    spec = config.preprocessing

    def prepared(part: str) -> list[TrainingCase]:
        with progress(split.part(part, fold), f"reading {part}") as names:
            return [prepare_case(open_case(index, name, channels=spec.channels), spec) for name in names]

    opened = [open_teacher(path, index, split, fold, spec) for path in teachers]
    data = provenance(index, split, fold)
    if opened:
        data["teachers"] = [teacher.weights_sha256 for teacher in opened]
        data["teachers_cases"] = sorted(
            set().union(*(cases_seen(teacher.checkpoint.training["data"]) for teacher in opened))
        )
    return Run(config, data, prepared("train"), prepared("val"), opened)
