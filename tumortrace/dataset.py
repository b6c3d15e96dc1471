"""Prepared cases in memory, and the batches that training draws from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tumortrace_runtime.errors import ScanError
from tumortrace_runtime.io.scan import Scan
from tumortrace_runtime.preprocess import Prepared, Preprocessing, preprocess, to_grid


@dataclass(frozen=True)
class TrainingCase:
    """A case as training and validation use it.

    Attributes:
        case_id: its name.
        prepared: the scan on the network's grid.
        truth: (slices, rows, columns) uint8 0 or 1 on the scan's own grid.
        grid_truth: the same on the network's grid.
    """

    case_id: str
    prepared: Prepared
    truth: npt.NDArray[np.uint8]
    grid_truth: npt.NDArray[np.uint8]


def prepare_case(scan: Scan, spec: Preprocessing) -> TrainingCase:
    """A scan and its truth on the network's grid.

    Raises:
        ScanError: a channel or the truth is missing, or the scan cannot be preprocessed.
    """
    if scan.truth is None:
        raise ScanError(f"{scan.files.folder}: has no mask; training and validation need one.")
    prepared = preprocess(scan, spec)
    truth = (scan.truth > 0).astype(np.uint8)
    grid_truth = to_grid(truth.astype(np.float32), prepared.placement, 0.0) > 0.5
    return TrainingCase(scan.case_id, prepared, truth, grid_truth.astype(np.uint8))


class SliceSampler:
    """Draws slices evenly over cases, a set share of them from slices with tumour."""

    def __init__(self, cases: Iterable[TrainingCase], context: int, tumour_share: float) -> None:
        self.cases = list(cases)
        self.context = context
        self.tumour_share = tumour_share
        self._tumour_slices = [np.flatnonzero(case.grid_truth.any(axis=(1, 2))) for case in self.cases]
        self._with_tumour = [number for number, slices in enumerate(self._tumour_slices) if len(slices)]

    def batch(self, size: int, rng: np.random.Generator, part: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Draw `size` slices, and give those that `part` picks: one process's, where several share a batch.

        Returns:
            Inputs (n, neighbours, sequences, rows, columns) and truth (n, 1, rows, columns), float32.
        """
        drawn = [self._draw(rng) for _ in range(size)][part]
        inputs = np.stack([self._neighbours(case, number) for case, number in drawn])
        truth = np.stack([self.cases[case].grid_truth[number] for case, number in drawn])
        return torch.from_numpy(inputs), torch.from_numpy(truth)[:, None].float()

    def _draw(self, rng: np.random.Generator) -> tuple[int, int]:
        if self._with_tumour and rng.random() < self.tumour_share:
            case = int(rng.choice(self._with_tumour))
            return case, int(rng.choice(self._tumour_slices[case]))
        case = int(rng.integers(len(self.cases)))
        return case, int(rng.integers(len(self.cases[case].grid_truth)))

    def _neighbours(self, case: int, number: int) -> npt.NDArray[np.float32]:
        planes = self.cases[case].prepared.planes
        return planes[np.clip(np.arange(number - self.context, number + self.context + 1), 0, len(planes) - 1)]
