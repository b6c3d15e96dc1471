"""What an export is asked for."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field

from tumortrace_export import int8
from tumortrace_export.gate import Gate
from tumortrace_export.outputs import OUTPUTS, Output
from tumortrace_export.ranges import METHODS
from tumortrace_runtime.errors import SpecError
from tumortrace_runtime.settings import require

FORMATS = ("onnx", "openvino", "tensorrt")
PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class Settings:
    """What to export.

    Attributes:
        precisions: of "fp32", "fp16" and "int8"; the FP32 ONNX is always there.
        formats: of "onnx", "openvino" and "tensorrt"; the last is made here and measured nowhere, so not alone.
        gate: what an artefact may lose against PyTorch in FP32.
        calibration: how INT8 ranges are set: one of `ranges.METHODS`, or "auto".
        output: "logits", or "mask", which the graph thresholds itself.
        bottleneck_statistics: whether those of the bottleneck's features are a second output.
    """

    precisions: Sequence[str] = PRECISIONS
    formats: Sequence[str] = FORMATS
    gate: Gate = field(default_factory=Gate)
    calibration: str = int8.AUTO
    output: Output = "logits"
    bottleneck_statistics: bool = False

    def __post_init__(self) -> None:
        for kind, given, known in (("precision", self.precisions, PRECISIONS), ("format", self.formats, FORMATS)):
            for name in given:
                require(name in known, kind, name, " or ".join(known))
        if not {"onnx", "openvino"} & set(self.formats):
            raise SpecError(
                f"format is {', '.join(self.formats) or 'empty'}; onnx or openvino among them wanted: what is made for "
                "TensorRT is not measured here, and nothing is called good that was not."
            )
        methods = (int8.AUTO, *METHODS)
        require(self.calibration in methods, "calibration", self.calibration, " or ".join(methods))
        require(self.output in OUTPUTS, "output", self.output, " or ".join(OUTPUTS))


def formats_here() -> tuple[str, ...]:
    """The formats that this machine can make: OpenVINO's needs its library."""
    return tuple(name for name in FORMATS if name != "openvino" or importlib.util.find_spec("openvino"))
