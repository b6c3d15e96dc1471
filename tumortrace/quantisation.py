"""How a network that was trained for INT8 is quantised: the scales that its training chose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tumortrace_runtime.settings import require


@dataclass(frozen=True)
class Quantisation:
    """What takes the place of calibration.

    Values are named after the network's modules, as `tumortrace_export.graph.value_names` does, for the names that
    PyTorch gives them in ONNX change from version to version.

    Attributes:
        magnitudes: what each activation that an integer layer takes is clipped at, in its own unit.
        peaks: the largest magnitude of each value that decides what FP16 can hold, in float, on calibration slices.
        weight_bits: what the weights were rounded to in training.
    """

    magnitudes: dict[str, float]
    peaks: dict[str, float]
    weight_bits: Literal[7, 8] = 8

    def __post_init__(self) -> None:
        for name, magnitude in self.magnitudes.items():
            require(magnitude > 0, f"quantisation.magnitudes.{name}", magnitude, "a positive number")
        for name, peak in self.peaks.items():
            require(peak >= 0, f"quantisation.peaks.{name}", peak, "0 or more")
