"""Calibration: what is set of a trained network afterwards, without touching its weights.

Validation cases choose the post-processing and the temperature. Training cases, and spoiled copies of them, teach what
a familiar scan looks like, and all together where an unfamiliar one begins. Test cases have no part in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tumortrace.checkpoint import Checkpoint
from tumortrace.dataset import TrainingCase
from tumortrace.mask_search import choose_postprocessing
from tumortrace.model import channels_last
from tumortrace.ood import false_alarm_share
from tumortrace.ood_study import Studied, learn_reference, study_case
from tumortrace.predict import TorchNetwork
from tumortrace.temperature import fit_temperature
from tumortrace_runtime.confidence import (
    BINS,
    Confidence,
    OodReference,
    expected_calibration_error,
    probabilities,
)
from tumortrace_runtime.errors import DatasetError
from tumortrace_runtime.inference import BATCH_SIZE, infer_with_statistics
from tumortrace_runtime.postprocess import Mask, Postprocessing
from tumortrace_runtime.preprocess import Prepared, Preprocessing, from_grid
from tumortrace_runtime.settings import from_dict, to_dict

Floats = npt.NDArray[np.float32]


def calibrate(
    checkpoint: Checkpoint, training: Iterable[TrainingCase], validation: Sequence[TrainingCase]
) -> Checkpoint:
    """The checkpoint with post-processing, temperature and out-of-distribution reference set.

    `training["calibration"]` says what was tried and what it brought.

    Args:
        checkpoint: a trained network; one that was calibrated before begins anew.
        training: the cases that it was trained on, taken one after another.
        validation: the cases that chose its best epoch, at least one.

    Raises:
        DatasetError: there is no validation case, or a case had another part in training.
    """
    spec, network = checkpoint.preprocessing, TorchNetwork(channels_last(checkpoint.network()))
    if not validation:
        raise DatasetError("calibration: no validation case given; at least one wanted.")
    _check_part(checkpoint, validation, "validation_cases")
    studied, tumours = [], []
    for case in training:
        _check_part(checkpoint, [case], "training_cases")
        studied.append(study_case(network, case, spec))
        tumours.append(int(case.truth.sum()))
    seen = [_look_at(network, case, spec) for case in validation]

    choice = choose_postprocessing(
        [(each.logits, case.truth) for each, case in zip(seen, validation, strict=True)],
        _trained_with(checkpoint),
        tumours,
    )
    logits, truth = (np.concatenate(parts) for parts in zip(*(each.head for each in seen), strict=True))
    temperature = fit_temperature(logits, truth)
    reference = learn_reference(studied, [each.studied for each in seen])
    report = {
        "postprocessing": to_dict(choice),
        "temperature": _report_temperature(temperature, logits, truth),
        "ood": _report_reference(reference, studied, seen, validation),
    }
    return replace(
        checkpoint,
        postprocessing=choice.postprocessing,
        training={**checkpoint.training, "calibration": report},
        confidence=Confidence(temperature, reference),
    )


def head_voxels(prepared: Prepared) -> npt.NDArray[np.bool_]:
    """Where a prepared scan shows something: (slices, rows, columns), true where a sequence is not background.

    Background is what the median of a sequence's outermost pixels is; preprocessing clips its noise to one value.
    """
    planes = prepared.planes
    frame = np.ones(planes.shape[2:], bool)
    frame[1:-1, 1:-1] = False
    background = np.median(planes[:, :, frame], axis=(0, 2))
    head: npt.NDArray[np.bool_] = (planes != background[:, None, None].astype(np.float32)).any(axis=1)
    return head


@dataclass(frozen=True)
class _Seen:
    """What is kept of a validation case.

    Attributes:
        logits: (slices, rows, columns) on the scan's own grid.
        head: logits and truth of the head's voxels on the network's grid, each (voxels,).
        statistics: of the bottleneck, (slices, statistics).
        studied: their mean.
    """

    logits: Floats
    head: tuple[Floats, Mask]
    statistics: Floats
    studied: Studied


def _look_at(network: TorchNetwork, case: TrainingCase, spec: Preprocessing) -> _Seen:
    output, statistics = infer_with_statistics(network, case.prepared.planes, spec.context, BATCH_SIZE)
    head = head_voxels(case.prepared)
    return _Seen(
        logits=from_grid(output[:, 0], case.prepared.placement),
        head=(output[:, 0][head], case.grid_truth[head]),
        statistics=statistics,
        studied=Studied(statistics.mean(axis=0, dtype=np.float64), case.prepared.replaced, {}, {}),
    )


def _check_part(checkpoint: Checkpoint, cases: Sequence[TrainingCase], part: str) -> None:
    known = checkpoint.training.get("data", {}).get(part, ())
    for case in cases:
        if case.case_id not in known:
            raise DatasetError(
                f"{case.case_id}: is not among the {part.replace('_', ' ')} that the checkpoint was trained with; give "
                "the split and fold that it had."
            )


def _trained_with(checkpoint: Checkpoint) -> Postprocessing:
    """The post-processing that chose the best epoch."""
    config = checkpoint.training.get("config", {})
    return from_dict(Postprocessing, config["postprocessing"]) if config else checkpoint.postprocessing


def _report_temperature(temperature: float, logits: Floats, truth: Mask) -> dict[str, Any]:
    return {
        "temperature": temperature,
        "voxels": len(logits),
        "bins": BINS,
        "calibration_error": expected_calibration_error(probabilities(logits, temperature), truth),
        "calibration_error_before": expected_calibration_error(probabilities(logits, 1.0), truth),
    }


def _report_reference(
    reference: OodReference | None,
    studied: Sequence[Studied],
    seen: Sequence[_Seen],
    validation: Sequence[TrainingCase],
) -> dict[str, Any]:
    """Which scans taught, and the validation scans' scores, which are none where too few could teach."""
    scores = {
        case.case_id: reference.score(each.statistics, case.prepared.replaced)
        for each, case in zip(seen, validation, strict=True)
        if reference is not None
    }
    return {
        "scans": sum(not scan.replaced for scan in studied),
        "scans_without_a_sequence": sum(bool(scan.replaced) for scan in studied),
        "false_alarms": false_alarm_share(len(studied) + len(validation)),
        "validation_scores": scores,
    }
