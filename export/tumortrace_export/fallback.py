"""Which layers go back to float first, where INT8 loses too much: those whose rounding moves the logits the most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx

from tumortrace_export.onnx_model import INPUT, OUTPUT
from tumortrace_export.quantise import layers, quantise
from tumortrace_export.session import open_session
from tumortrace_export.unsigned import to_unsigned

Batch = npt.NDArray[np.float32]


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
    reference = open_session(model)
    expected = [reference.run([OUTPUT], {INPUT: each})[0] for each in slices]
    errors = {}
    for name in layers(model):
        quantised = to_unsigned(quantise(model, magnitudes, float_layers=[name]))
        session = open_session(quantised)
        found = [session.run([OUTPUT], {INPUT: each})[0] for each in slices]
        errors[name] = float(np.mean([np.square(one - two).mean() for one, two in zip(found, expected, strict=True)]))
    return sorted(errors, key=errors.__getitem__)
