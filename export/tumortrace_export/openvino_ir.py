"""ONNX models as OpenVINO IR."""

from __future__ import annotations

import re
from pathlib import Path

import openvino

from tumortrace_runtime.errors import OutputError


def write_ir(source: Path, path: Path) -> None:
    """Write an ONNX model as IR: `path` (.xml) and the .bin beside it, float weights stored as FP16.

    A Q/DQ model stays what it is: its scales travel as they are, and the engine fuses them. Equal models give equal
    bytes.

    Raises:
        OutputError: it could not be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    model = openvino.convert_model(source)
    _name_by_place(model)
    try:
        openvino.save_model(model, path, compress_to_fp16=True)
    except RuntimeError as problem:
        raise OutputError(f"{path}: cannot be written ({problem}); is the disk full?") from problem


def _name_by_place(model: openvino.Model) -> None:
    """Rename what ONNX has no name for: OpenVINO calls it `Reshape_5407`, counting all nodes of the process so far."""
    for place, node in enumerate(model.get_ordered_ops()):
        if re.fullmatch(r"[A-Z][A-Za-z]*_\d+", node.get_friendly_name()):
            node.set_friendly_name(f"{node.get_type_name()}_at_{place}")
