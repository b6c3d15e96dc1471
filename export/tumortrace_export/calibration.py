"""Which slices of which training cases set the INT8 ranges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from tumortrace.dataset import TrainingCase
from tumortrace_runtime.errors import DatasetError
from tumortrace_runtime.preprocess import network_batch

CASES = 16
SLICES_PER_CASE = 8
METHOD = "minmax"


def choose_cases(training: Sequence[str], validation: Sequence[str]) -> list[str]:
    """Up to `CASES` training cases, spread evenly over their sorted names, and so over the sites that names begin with.

    Raises:
        DatasetError: there is no training case, or a case would both calibrate and score.
    """
    if not training:
        raise DatasetError("the split has no training case to calibrate on.")
    if shared := sorted(set(training) & set(validation)):
        raise DatasetError(f"{shared[0]} would both calibrate and score; training and validation must not overlap.")
    ordered = sorted(training)
    return [ordered[number] for number in _spread(len(ordered), CASES)]


def calibration_batches(cases: Iterable[TrainingCase], context: int) -> Iterator[npt.NDArray[np.float32]]:
    """Network inputs of up to `SLICES_PER_CASE` slices of each case, half of them with tumour where there are any."""
    for case in cases:
        with_tumour = case.grid_truth.any(axis=(1, 2))
        half = SLICES_PER_CASE // 2
        for slices in (np.flatnonzero(with_tumour), np.flatnonzero(~with_tumour)):
            for number in slices[_spread(len(slices), half)]:
                yield network_batch(case.prepared.planes, int(number), int(number) + 1, context)


def _spread(count: int, wanted: int) -> list[int]:
    """`wanted` indices below `count`, evenly spread; all of them where there are no more."""
    return sorted({int(position) for position in np.linspace(0, count - 1, min(count, wanted))}) if count else []
