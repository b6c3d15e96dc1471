"""A bundle's golden inputs: phantoms with the masks that were expected at export, for a device to test itself by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.errors import AccuracyError
from tumortrace_runtime.files import atomic_file
from tumortrace_runtime.metrics import dice
from tumortrace_runtime.segmenter import Segmenter

FOLDER = "golden"
REQUIRED_DICE = 0.999


@dataclass(frozen=True)
class GoldenCase:
    """One golden input.

    Attributes:
        voxels: (slices, rows, columns, channels) uint8, the channels in the bundle's order.
        masks: the mask, (slices, rows, columns) uint8, that each "backend precision" gave at export; engines round
            INT8 differently, so each is held against its own.
    """

    voxels: npt.NDArray[np.uint8]
    masks: Mapping[str, npt.NDArray[np.uint8]]


def save_golden(path: Path, case: GoldenCase) -> None:
    """Write a golden case as compressed arrays, without pickle.

    Raises:
        OutputError: it could not be written.
    """
    with atomic_file(path) as partial:
        arrays: dict[str, Any] = {f"mask_{name}": mask for name, mask in case.masks.items()}
        np.savez_compressed(partial, voxels=case.voxels, **arrays)


def load_golden(path: Path) -> GoldenCase:
    """Read a golden case of a bundle whose hashes were verified."""
    with np.load(path, allow_pickle=False) as arrays:
        masks = {name.removeprefix("mask_"): arrays[name] for name in arrays.files if name != "voxels"}
        return GoldenCase(arrays["voxels"], masks)


def self_test(segmenter: Segmenter) -> dict[str, float]:
    """Segment every golden input and compare it with what this engine gave for this precision at export.

    Returns:
        golden file to Dice against the expected mask; empty where the bundle expects nothing of this engine and
        precision, as of TensorRT, which an export does not run.

    Raises:
        AccuracyError: a Dice is below `REQUIRED_DICE`: this device does not compute what the export measured.
    """
    name = f"{segmenter.backend.name} {segmenter.precision}"
    scores = {}
    for path in sorted((segmenter.bundle.path / FOLDER).glob("*.npz")):
        case = load_golden(path)
        if name in case.masks:
            scores[path.name] = dice(segmenter.segment(case.voxels).mask, case.masks[name])
    if failed := {name: score for name, score in scores.items() if score < REQUIRED_DICE}:
        file, score = min(failed.items(), key=lambda item: item[1])
        raise AccuracyError(
            f"{segmenter.bundle.path}: the self-test failed on {name}: Dice {score:.4f} on {file}, {REQUIRED_DICE} "
            "wanted. Do not use this bundle with this engine here."
        )
    return scores
