"""ONNX Runtime as a calculator: a model computed as it is written, for measurements during an export."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import onnxruntime

_FATAL_ONLY = 4


def open_session(model: onnx.ModelProto | Path, *, without: Sequence[str] = ()) -> Any:
    """A session on the CPU; what goes wrong comes as exceptions, not as lines on stderr.

    Args:
        model: in memory, or a file.
        without: names of optimizers that are left out.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    # Threads that spin between runs slow NumPy, which works meanwhile, to half its speed.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    source = model if isinstance(model, Path) else model.SerializeToString()
    return onnxruntime.InferenceSession(
        source, options, providers=["CPUExecutionProvider"], disabled_optimizers=list(without)
    )
