"""The network's values under names that last: those of its modules.

PyTorch's exporter numbers values as it meets them, and otherwise in each version: what a checkpoint says of them has
other names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx

from tumortrace_export.graph import WEIGHTED
from tumortrace_runtime.errors import CheckpointError

LAYOUT = ("Reshape", "Transpose", "SpaceToDepth", "DepthToSpace")
"""Operators that only lay out values anew; exporters express one by another."""


def value_names(model: onnx.ModelProto) -> dict[str, str]:
    """The lasting name of each value by its ONNX name.

    What a layer makes has the layer's name, and each operator behind it adds its own, as in `encoder.0.0.0/Relu`; where
    values join, the first counts. Operators of `LAYOUT` add nothing.

    Args:
        model: FP32, as `onnx_model` gives it.
    """
    names = {item.name: item.name for item in model.graph.input}
    for node in model.graph.node:
        if node.op_type in WEIGHTED:
            names[node.output[0]] = node.name
        elif node.op_type in LAYOUT:
            names[node.output[0]] = names[node.input[0]]
        else:
            names[node.output[0]] = f"{names[node.input[0]]}/{node.op_type}"
    return names


def to_lasting(model: onnx.ModelProto, figures: Mapping[str, float]) -> dict[str, float]:
    """Figures by ONNX name as figures by lasting name."""
    names = value_names(model)
    return {names[name]: figure for name, figure in figures.items()}


def from_lasting(model: onnx.ModelProto, figures: Mapping[str, float], wanted: Iterable[str]) -> dict[str, float]:
    """The figures of the wanted values by ONNX name.

    Raises:
        CheckpointError: there is none for one of them.
    """
    names = value_names(model)
    if missing := [names[name] for name in wanted if names[name] not in figures]:
        raise CheckpointError(
            f"the checkpoint's quantisation has no figure for {missing[0]}; fine-tune again with tumortrace-qat, or "
            "calibrate anew with --calibration percentile."
        )
    return {name: figures[names[name]] for name in wanted}
