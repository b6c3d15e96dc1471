"""What FP16 cannot hold, read off the activations that real scans give."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from tumortrace_export.graph import WEIGHTED, constants
from tumortrace_export.quantise import JOINING, activations

LARGEST = float(np.finfo(np.float16).max)
MARGIN = 2.0
"""Other scans may give larger activations than those that were looked at."""


def probed(model: onnx.ModelProto) -> list[str]:
    """The tensors whose magnitudes decide: all that a layer takes, and all that it makes before its ReLU."""
    made = [node.output[0] for node in model.graph.node if node.op_type in (*WEIGHTED, *JOINING)]
    return list(dict.fromkeys([*activations(model), *made]))


def overflowing_layers(model: onnx.ModelProto, peaks: Mapping[str, float]) -> list[str]:
    """The names of the nodes that must stay float: those that make or take what FP16 cannot hold, or have it as weight.

    Args:
        model: FP32.
        peaks: the largest magnitude that each of `probed(model)` took on real scans.
    """
    weights = {name: float(np.abs(values).max(initial=0)) for name, values in constants(model.graph).items()}
    too_large = {name for name, peak in peaks.items() if peak * MARGIN > LARGEST}
    too_large |= {name for name, peak in weights.items() if peak > LARGEST}
    return [node.name for node in model.graph.node if too_large.intersection((*node.input, *node.output))]
