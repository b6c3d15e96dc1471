"""ONNX models as OpenVINO IR."""

from __future__ import annotations

from pathlib import Path

import openvino


def write_ir(source: Path, path: Path) -> None:
    """Write an ONNX model as IR: `path` (.xml) and the .bin beside it, float weights stored as FP16.

    A Q/DQ model stays what it is: its scales travel as they are, and the engine fuses them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    openvino.save_model(openvino.convert_model(source), path, compress_to_fp16=True)
