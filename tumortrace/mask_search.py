"""Which post-processing to keep, chosen on validation cases with a rule that holds few cases to be few."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.lesions import label_lesions
from tumortrace_runtime.postprocess import Mask, Postprocessing
from tumortrace_runtime.postprocessor import Postprocessor

Floats = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float64]

THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)
MORPHOLOGY_PX = ((0, 0), (1, 0), (0, 1), (0, 2))
"""Radii of opening and closing."""

MIN_LESION_VOXELS = (0, 20, 50, 100, 200, 400)

SMALLEST_SHARE = 0.5
"""A least lesion may at most have this share of the smallest known tumour."""


@dataclass(frozen=True)
class Choice:
    """What was chosen, and on what grounds; every Dice is a mean over the validation cases.

    Attributes:
        postprocessing: what was chosen.
        tried: how many settings were.
        dice: of what was chosen.
        start_dice: of what was there before.
        best_dice: of the best of all, which is chosen only where nothing simpler is as good but for chance.
        left_out_gain: over what was there before, of each case with what the other cases would have chosen; None where
            there is only one.
    """

    postprocessing: Postprocessing
    tried: int
    dice: float
    start_dice: float
    best_dice: float
    left_out_gain: float | None


def choose_postprocessing(
    cases: Sequence[tuple[Floats, Mask]], start: Postprocessing, tumours: Iterable[int] = ()
) -> Choice:
    """Choose threshold, morphology, hole filling and the least lesion by mean Dice, and keep `start` unless it loses.

    Of all settings that are not worse than the best by more than the standard error of the difference over cases, the
    one that changes least of `start` is taken (the one-standard-error rule of Breiman et al. 1984, section 3.4.3). It
    must also help cases that had no say: choosing anew without each case in turn has to gain on that case, in the mean.

    Args:
        cases: logits (slices, rows, columns) float32 and truth, 0 or 1, of the same shape, on the scan's own grid.
        start: what is kept where nothing is surely better, its connectivity always.
        tumours: voxels of known ones, such as those of the training cases; a least lesion of more than
            `SMALLEST_SHARE` of the smallest is not tried.
    """
    settings = list(_grid(start, SMALLEST_SHARE * min(filter(None, tumours), default=math.inf)))
    scores = np.column_stack([_dice_of_all(logits, truth, settings) for logits, truth in cases])
    changes = np.array([_changes(each, start) for each in settings])
    chosen = _simplest_of_the_best(scores, changes)
    gain = _left_out_gain(scores, changes)
    if gain is None or gain <= 0:
        chosen = 0
    means = scores.mean(axis=1)
    return Choice(
        postprocessing=settings[chosen],
        tried=len(settings),
        dice=float(means[chosen]),
        start_dice=float(means[0]),
        best_dice=float(means.max()),
        left_out_gain=gain,
    )


def _grid(start: Postprocessing, most_min_voxels: float) -> Iterator[Postprocessing]:
    """Every setting that is tried, `start` first; those that differ in the least lesion alone follow each other."""
    yield start
    thresholds = sorted({*THRESHOLDS, start.threshold})
    morphology = sorted({*MORPHOLOGY_PX, (start.opening_px, start.closing_px)})
    least = sorted({*(each for each in MIN_LESION_VOXELS if each <= most_min_voxels), start.min_lesion_voxels})
    for threshold, (opening, closing), fill, voxels in product(thresholds, morphology, (False, True), least):
        setting = replace(
            start,
            threshold=threshold,
            opening_px=opening,
            closing_px=closing,
            fill_holes=fill,
            min_lesion_voxels=voxels,
        )
        if setting != start:
            yield setting


def _changes(setting: Postprocessing, start: Postprocessing) -> int:
    """How many fields differ."""
    return sum(value != getattr(start, name) for name, value in vars(setting).items())


def _dice_of_all(logits: Floats, truth: Mask, settings: Sequence[Postprocessing]) -> list[float]:
    """Dice with each setting. Lesions are found once for all settings that differ in the least lesion alone."""
    lesions: dict[Postprocessing, tuple[Scores, Scores]] = {}
    wanted = truth > 0
    scores = []
    for setting in settings:
        whole = replace(setting, min_lesion_voxels=0)
        if whole not in lesions:
            labels = label_lesions(Postprocessor(whole).segment_logits(logits).mask, setting.connectivity)
            sizes = np.bincount(labels.ravel()).astype(float)
            lesions[whole] = sizes[1:], np.bincount(labels[wanted], minlength=len(sizes)).astype(float)[1:]
        sizes, hits = lesions[whole]
        kept = sizes >= setting.min_lesion_voxels
        both = sizes[kept].sum() + wanted.sum()
        scores.append(float(2 * hits[kept].sum() / both) if both else 1.0)
    return scores


def _simplest_of_the_best(scores: Scores, changes: npt.NDArray[np.int64]) -> int:
    """The setting (row) with the fewest changes that is as good as the best but for chance; of several the best."""
    behind = scores[scores.mean(axis=1).argmax()] - scores
    good = np.flatnonzero(behind.mean(axis=1) <= _standard_errors(behind))
    return int(min(good, key=lambda each: (changes[each], behind[each].mean(), each)))


def _standard_errors(differences: Scores) -> Scores:
    cases = differences.shape[1]
    if cases == 1:
        return np.full(len(differences), np.inf)
    errors: Scores = differences.std(axis=1, ddof=1) / math.sqrt(cases)
    return errors


def _left_out_gain(scores: Scores, changes: npt.NDArray[np.int64]) -> float | None:
    """Mean gain over the first setting of each case (column) with what the others choose."""
    cases = scores.shape[1]
    if cases == 1:
        return None
    chosen = [_simplest_of_the_best(np.delete(scores, case, axis=1), changes) for case in range(cases)]
    return float(np.mean([scores[each, case] - scores[0, case] for case, each in enumerate(chosen)]))
