"""A look at models that no engine here runs: what their ONNX comes to when ONNX Runtime computes it as written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tumortrace_export.onnx_model import INPUT
from tumortrace_export.session import open_session
from tumortrace_runtime.metrics import dice

LEAST_DICE = 0.95
"""What a rounded model's mask keeps of FP32's, many times over; a collapsed one keeps next to nothing."""


def agreement(reference: Path, model: Path, slices: Sequence[npt.NDArray[np.float32]], threshold_logit: float) -> float:
    """Dice of the masks that two models give of the same slices, taken together; both take float32.

    Args:
        reference: FP32 ONNX.
        model: another ONNX of the same network.
        slices: network inputs.
        threshold_logit: of the masks, where a model gives logits.
    """
    masks = [_masks(path, slices, threshold_logit) for path in (reference, model)]
    return dice(masks[1], masks[0])


def _masks(path: Path, slices: Sequence[npt.NDArray[np.float32]], threshold_logit: float) -> npt.NDArray[np.bool_]:
    # left on, it makes integer biases with FP16 scales, which underflow
    session = open_session(path, without=["WeightBiasQuantization"])
    name = session.get_outputs()[0].name
    outputs = [session.run([name], {INPUT: each})[0] for each in slices]
    output = np.concatenate(outputs)
    return np.asarray(output > (threshold_logit if output.ndim == 4 else 0))
