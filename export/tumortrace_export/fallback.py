"""Which layers go back to float first, where INT8 loses too much: those whose rounding moves the logits the most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from tumortrace_export.onnx_model import INPUT, OUTPUT
from tumortrace_export.quantise import layers, quantise
from tumortrace_export.unsigned import to_unsigned

Batch = npt.NDArray[np.float32]

_ERRORS_ONLY = 3


def by_sensitivity(
    model: onnx.ModelProto,
    magnitudes: Mapping[str, float],
    slices: Sequence[Batch],
) -> list[str]:
    """The layers in the order in which they should go back to float, the one that helps most first.

    What a layer costs is how much the mean squared error of the logits falls when it alone stays float, on calibration
    slices: measured, layer by layer, in the network as it is.

    Args:
        model: FP32.
        magnitudes: what activations are clipped at.
        slices: network inputs, calibration slices.
    """
    reference = _session(model)
    expected = [reference.run([OUTPUT], {INPUT: each})[0] for each in slices]
    errors = {}
    for name in layers(model):
        quantised = to_unsigned(quantise(model, magnitudes, float_layers=[name]))
        session = _session(quantised)
        found = [session.run([OUTPUT], {INPUT: each})[0] for each in slices]
        errors[name] = float(np.mean([np.square(one - two).mean() for one, two in zip(found, expected, strict=True)]))
    return sorted(errors, key=errors.__getitem__)


def _session(model: onnx.ModelProto) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
