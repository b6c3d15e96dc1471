"""What an artefact is worth: its accuracy on validation cases against PyTorch's, and its speed in the same run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tumortrace.dataset import TrainingCase
from tumortrace_runtime.bench import Timing, measure_interleaved
from tumortrace_runtime.inference import Run, tumour_logits
from tumortrace_runtime.metrics import dice
from tumortrace_runtime.postprocess import Postprocessing, segment_logits
from tumortrace_runtime.preprocess import network_batch
from tumortrace_runtime.segmenter import BATCH_SIZE

REPEATS = 30
WARMUP = 5

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class CaseOutput:
    """What one engine made of one case.

    Attributes:
        logits: (slices, rows, columns) float32 on the scan's own grid.
        dice: of the mask against the truth.
        mask: (slices, rows, columns) uint8.
    """

    logits: Floats
    mask: npt.NDArray[np.uint8]
    dice: float


@dataclass(frozen=True)
class Accuracy:
    """An artefact's accuracy on the validation cases, beside PyTorch's in FP32.

    Attributes:
        dice: mean over cases.
        worst_dice: the least of them.
        drop: how much lower than PyTorch's the mean is.
        case_drop: the largest loss of a single case.
        flipped_per_million: voxels of the mask that differ from PyTorch's.
        largest_logit_error: largest absolute difference of a logit from PyTorch's.
    """

    dice: float
    worst_dice: float
    drop: float
    case_drop: float
    flipped_per_million: float
    largest_logit_error: float


def run_cases(
    run: Run, cases: Sequence[TrainingCase], context: int, postprocessing: Postprocessing
) -> dict[str, CaseOutput]:
    """Every case's output by its name."""
    outputs = {}
    for case in cases:
        logits = tumour_logits(run, case.prepared, context, BATCH_SIZE)
        mask = segment_logits(logits, postprocessing)
        outputs[case.case_id] = CaseOutput(logits, mask, dice(mask, case.truth))
    return outputs


def compare(outputs: Mapping[str, CaseOutput], reference: Mapping[str, CaseOutput]) -> Accuracy:
    """An artefact's outputs against PyTorch's, over the same cases."""
    pairs = [(outputs[name], reference[name]) for name in reference]
    drops = [expected.dice - output.dice for output, expected in pairs]
    flipped = sum(int((output.mask != expected.mask).sum()) for output, expected in pairs)
    return Accuracy(
        dice=float(np.mean([output.dice for output, _ in pairs])),
        worst_dice=min(output.dice for output, _ in pairs),
        drop=float(np.mean(drops)),
        case_drop=max(drops),
        flipped_per_million=1e6 * flipped / sum(expected.mask.size for _, expected in pairs),
        largest_logit_error=max(float(np.abs(output.logits - expected.logits).max()) for output, expected in pairs),
    )


def time_slices(runs: Mapping[str, Run], case: TrainingCase, context: int) -> dict[str, Timing]:
    """Milliseconds per slice of each engine, in turn, on a batch from the middle of a case."""
    first = max(0, (len(case.truth) - BATCH_SIZE) // 2)
    batch = network_batch(case.prepared.planes, first, min(first + BATCH_SIZE, len(case.truth)), context)
    candidates: dict[str, Any] = {name: lambda run=run: run(batch) for name, run in runs.items()}
    timings = measure_interleaved(candidates, repeats=REPEATS, warmup=WARMUP)
    return {name: _per_slice(timing, len(batch)) for name, timing in timings.items()}


def _per_slice(timing: Timing, slices: int) -> Timing:
    return Timing(timing.median_ms / slices, timing.p90_ms / slices, timing.min_ms / slices, timing.repeats)
