"""What an artefact is worth: its accuracy case by case against PyTorch's, and its speed in the same run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tumortrace.dataset import TrainingCase
from tumortrace.progress import Progress, silent
from tumortrace_runtime.bench.timing import Timing, measure_interleaved
from tumortrace_runtime.inference import BATCH_SIZE, Network, finish, infer
from tumortrace_runtime.lesions import label_lesions
from tumortrace_runtime.metrics import dice
from tumortrace_runtime.postprocess import Mask, Postprocessing
from tumortrace_runtime.preprocess import Preprocessing

REPEATS = 20
WARMUP = 3


@dataclass(frozen=True)
class Expected:
    """A case with what PyTorch in FP32 makes of it.

    Attributes:
        case: prepared, with its truth.
        output: (slices, classes, grid rows, grid columns) float32 logits on the network's grid.
        mask: (slices, rows, columns) uint8 on the scan's own grid.
        dice: of the mask against the truth.
        small_lesions: of each small lesion of the truth, where it lies in the flattened mask.
    """

    case: TrainingCase
    output: npt.NDArray[np.float32]
    mask: Mask
    dice: float
    small_lesions: tuple[npt.NDArray[np.int64], ...]


@dataclass(frozen=True)
class Accuracy:
    """An artefact's accuracy on a set of cases, beside PyTorch's in FP32.

    Attributes:
        dice: mean over cases.
        worst_dice: the least of them.
        drop: how much lower than PyTorch's the mean is.
        case_drop: the largest loss of a single case.
        case_dice: of each case.
        small_lesion_recall: share of the truth's small lesions that the mask touches; None where there are none.
        flipped_per_million: voxels of the mask that differ from PyTorch's.
        largest_logit_error: largest absolute difference of a logit from PyTorch's; None where the network gives masks.
    """

    dice: float
    worst_dice: float
    drop: float
    case_drop: float
    case_dice: Mapping[str, float]
    small_lesion_recall: float | None
    flipped_per_million: float
    largest_logit_error: float | None


def small_lesion_voxels(cases: Iterable[TrainingCase], postprocessing: Postprocessing) -> int:
    """Up to how many voxels a lesion is small: the lower third of the truth's lesions, 3-D components, is."""
    sizes = sorted(len(places) for case in cases for places in _lesions(case.truth, postprocessing))
    return sizes[(len(sizes) - 1) // 3] if sizes else 0


def expect(
    network: Network,
    case: TrainingCase,
    spec: Preprocessing,
    postprocessing: Postprocessing,
    small_voxels: int,
) -> Expected:
    """Run the reference on a case; its lesions of up to `small_voxels` are the small ones."""
    output = infer(network, case.prepared.planes, spec.context, BATCH_SIZE)
    mask = finish(output, case.prepared, postprocessing)
    small = tuple(places for places in _lesions(case.truth, postprocessing) if len(places) <= small_voxels)
    return Expected(case, output, mask, dice(mask, case.truth), small)


def measure(
    network: Network,
    expected: Sequence[Expected],
    spec: Preprocessing,
    postprocessing: Postprocessing,
    progress: Progress = silent,
) -> Accuracy:
    """Run an artefact over all cases and hold it against the truth and against PyTorch.

    Raises:
        InputError: a logit is NaN.
    """
    with progress(expected, "measuring") as cases:
        return summarise([measure_case(network, each, spec, postprocessing) for each in cases])


def of_reference(expected: Sequence[Expected]) -> Accuracy:
    """The accuracy of PyTorch itself."""
    return summarise([outcome_of_reference(each) for each in expected])


def outcome_of_reference(expected: Expected) -> Outcome:
    """What PyTorch itself made of a case."""
    return _outcome(expected, expected.output, expected.mask)


@dataclass(frozen=True)
class Outcome:
    """What an artefact made of one case; see `Accuracy`."""

    case_id: str
    dice: float
    drop: float
    voxels: int
    flipped: int
    small_lesions: int
    small_found: int
    logit_error: float | None


def measure_case(network: Network, expected: Expected, spec: Preprocessing, postprocessing: Postprocessing) -> Outcome:
    """Run an artefact on one case; see `measure`."""
    output = infer(network, expected.case.prepared.planes, spec.context, BATCH_SIZE)
    return _outcome(expected, output, finish(output, expected.case.prepared, postprocessing))


def summarise(outcomes: Sequence[Outcome]) -> Accuracy:
    """The accuracy over all cases that outcomes of single ones add up to; at least one is wanted."""
    small = sum(each.small_lesions for each in outcomes)
    errors = [each.logit_error for each in outcomes if each.logit_error is not None]
    return Accuracy(
        dice=float(np.mean([each.dice for each in outcomes])),
        worst_dice=min(each.dice for each in outcomes),
        drop=float(np.mean([each.drop for each in outcomes])),
        case_drop=max(each.drop for each in outcomes),
        case_dice={each.case_id: each.dice for each in outcomes},
        small_lesion_recall=sum(each.small_found for each in outcomes) / small if small else None,
        flipped_per_million=1e6 * sum(each.flipped for each in outcomes) / sum(each.voxels for each in outcomes),
        largest_logit_error=max(errors) if errors else None,
    )


def time_networks(networks: Mapping[str, Network], case: TrainingCase, context: int) -> dict[str, Timing]:
    """Milliseconds per slice of each network, in turn, from prepared planes to its output.

    One call is a batch of slices from the middle of the case, as the runtime runs it: making the batch is part of it,
    for what a network wants of its input is a part of what it costs.
    """
    first = max(0, (len(case.truth) - BATCH_SIZE) // 2)
    planes = case.prepared.planes[first : first + BATCH_SIZE]
    candidates: dict[str, Any] = {
        name: lambda network=network: infer(network, planes, context, BATCH_SIZE) for name, network in networks.items()
    }
    timings = measure_interleaved(candidates, repeats=REPEATS, warmup=WARMUP)
    return {name: _per_slice(timing, len(planes)) for name, timing in timings.items()}


def _lesions(truth: Mask, postprocessing: Postprocessing) -> list[npt.NDArray[np.int64]]:
    labels = label_lesions(truth, postprocessing.connectivity).ravel()
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    return np.split(order, np.cumsum(counts)[:-1])[1:]


def _outcome(expected: Expected, output: npt.NDArray[Any], mask: Mask) -> Outcome:
    score = dice(mask, expected.case.truth)
    flat = mask.ravel()
    return Outcome(
        case_id=expected.case.case_id,
        dice=score,
        drop=expected.dice - score,
        voxels=mask.size,
        flipped=int((mask != expected.mask).sum()),
        small_lesions=len(expected.small_lesions),
        small_found=sum(bool(flat[places].any()) for places in expected.small_lesions),
        logit_error=float(np.abs(output - expected.output).max()) if output.ndim == 4 else None,
    )


def _per_slice(timing: Timing, slices: int) -> Timing:
    return Timing(timing.median_ms / slices, timing.p90_ms / slices, timing.min_ms / slices, timing.repeats)
