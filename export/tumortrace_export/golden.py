"""The golden inputs of a bundle: phantom slices, never a real scan, with the masks that each precision gives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tumortrace.phantom import generate_case
from tumortrace_runtime.golden import FOLDER, GoldenCase, save_golden
from tumortrace_runtime.inference import Network, predict_mask
from tumortrace_runtime.postprocess import Postprocessing
from tumortrace_runtime.preprocess import Preprocessing

SEED = 20_151_018
CASES = 2
SLICES = 9


def golden_inputs(spec: Preprocessing) -> list[npt.NDArray[np.uint8]]:
    """Voxels (slices, rows, columns, channels) of a few phantoms around their largest lesion.

    Empty where the model takes a sequence that phantoms do not have.
    """
    size_px = min(spec.grid_px)
    inputs: list[npt.NDArray[np.uint8]] = []
    number = 0
    while len(inputs) < CASES:
        number += 1
        scan = generate_case(SEED, number, size_px=size_px)
        if not set(spec.channels) <= set(scan.channels):
            return []
        assert scan.truth is not None
        if scan.truth.any():
            centre = int(scan.truth.sum(axis=(1, 2)).argmax())
            first = max(0, centre - SLICES // 2)
            inputs.append(scan.select(spec.channels)[first : first + SLICES].astype(np.uint8))
    return inputs


def write_golden(
    folder: Path, networks: Mapping[str, Network], preprocessing: Preprocessing, postprocessing: Postprocessing
) -> None:
    """Write golden cases with the mask that each of `networks`, by "backend precision", gives."""
    for number, voxels in enumerate(golden_inputs(preprocessing), start=1):
        masks = {
            name: predict_mask(network, voxels, preprocessing, postprocessing) for name, network in networks.items()
        }
        save_golden(folder / FOLDER / f"phantom-{number}.npz", GoldenCase(voxels, masks))
