"""Distillation: what trained networks say of a slice, as a second truth for a smaller one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from tumortrace.checkpoint import CONFIG, Checkpoint, load_checkpoint
from tumortrace.index import Index
from tumortrace.provenance import refuse_seen
from tumortrace.split import Split
from tumortrace_runtime.errors import SpecError
from tumortrace_runtime.files import read_json
from tumortrace_runtime.preprocess import Preprocessing


@dataclass(frozen=True)
class Teacher:
    """A checkpoint that teaches, and the hash of its weights for the student's provenance."""

    checkpoint: Checkpoint
    weights_sha256: str


def distillation_loss(logits: Tensor, taught: Tensor) -> Tensor:
    """Cross-entropy of the student's logits with the teachers' probabilities (Hinton et al. 2015, temperature 1)."""
    return F.binary_cross_entropy_with_logits(logits, taught)


def open_teacher(path: Path, index: Index, split: Split, fold: int | None, preprocessing: Preprocessing) -> Teacher:
    """Read a checkpoint that may teach on a split or fold.

    Raises:
        CheckpointError: it is missing or damaged.
        DatasetError: it saw a patient that is tested here, or does not say whom it saw.
        SpecError: it sees scans prepared otherwise than the student does.
    """
    checkpoint = load_checkpoint(path)
    refuse_seen(f"teacher {path}", checkpoint.training, split.part("test", fold), index)
    if checkpoint.preprocessing != preprocessing:
        raise SpecError(f"teacher {path}: sees scans prepared otherwise than the student; the same wanted.")
    return Teacher(checkpoint, read_json(path / CONFIG)["weights_sha256"])
