"""What a network gives besides logits: a mask that the graph thresholds itself, and statistics of its bottleneck."""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper

from tumortrace_export.graph import DEQUANTISE, QUANTISE, WEIGHTED, consumers, copied, producers, set_constant
from tumortrace_export.onnx_model import OUTPUT

Output = Literal["logits", "mask"]
OUTPUTS: tuple[Output, ...] = ("logits", "mask")

MASK = "mask"
STATISTICS = "bottleneck"
STATISTICS_STEPS: dict[str, tuple[str, tuple[str, ...]]] = {
    "bottleneck_squares": ("Mul", ("features", "features")),
    "bottleneck_mean": ("GlobalAveragePool", ("features",)),
    "bottleneck_power": ("GlobalAveragePool", ("bottleneck_squares",)),
    "bottleneck_mean_power": ("Mul", ("bottleneck_mean", "bottleneck_mean")),
    "bottleneck_rest": ("Sub", ("bottleneck_power", "bottleneck_mean_power")),
    "bottleneck_variance": ("Relu", ("bottleneck_rest",)),
    "bottleneck_deviation": ("Sqrt", ("bottleneck_variance",)),
    "bottleneck_both": ("Concat", ("bottleneck_mean", "bottleneck_deviation")),
    "bottleneck": ("Flatten", ("bottleneck_both",)),
}
"""The nodes that make them, by name: operator, and what it takes."""


def give_mask(model: onnx.ModelProto, threshold_logit: float) -> onnx.ModelProto:
    """A copy that gives "mask", (batch, rows, columns) uint8, in the place of its logits.

    Of one class: 1 where the logit exceeds `threshold_logit`. Of several: the class with the largest logit.
    """
    result = copied(model)
    graph = result.graph
    batch, classes, *size = graph.output[0].type.tensor_type.shape.dim
    if classes.dim_value == 1:
        set_constant(graph, "threshold_logit", np.array(threshold_logit, np.float32))
        set_constant(graph, "class_axis", np.array([1], np.int64))
        nodes = [
            helper.make_node("Greater", [OUTPUT, "threshold_logit"], ["above"], "above"),
            # by way of float: TensorRT makes uint8 of floats, and of nothing else
            helper.make_node("Cast", ["above"], ["decision"], "decision", to=TensorProto.FLOAT),
            helper.make_node("Squeeze", ["decision", "class_axis"], ["classes"], "classes"),
        ]
    else:
        nodes = [
            helper.make_node("ArgMax", [OUTPUT], ["winner"], "winner", axis=1, keepdims=0),
            helper.make_node("Cast", ["winner"], ["classes"], "classes", to=TensorProto.FLOAT),
        ]
    graph.node.extend([*nodes, helper.make_node("Cast", ["classes"], [MASK], MASK, to=TensorProto.UINT8)])
    sizes = [item.dim_param or item.dim_value for item in (batch, *size)]
    graph.output[0].CopyFrom(helper.make_tensor_value_info(MASK, TensorProto.UINT8, sizes))
    return result


def give_statistics(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that gives "bottleneck" too: (batch, 2 x channels) float32.

    Mean, then standard deviation, over rows and columns of each channel of the coarsest features, as the decoder takes
    them. How far they lie from those of training scans tells scans that the network was not made for.
    """
    result = copied(model)
    graph = result.graph
    features = _bottleneck(graph)
    for name, (operator, inputs) in STATISTICS_STEPS.items():
        taken = [features if each == "features" else each for each in inputs]
        node = helper.make_node(operator, taken, [name], name)
        if operator == "Concat":
            node.attribute.append(helper.make_attribute("axis", 1))
        graph.node.append(node)
    graph.output.append(helper.make_tensor_value_info(STATISTICS, TensorProto.FLOAT, ["batch", None]))
    return result


def _bottleneck(graph: onnx.GraphProto) -> str:
    """What the decoder's first layer takes: behind Q/DQ where there is such a pair, so that none is broken up."""
    first = next(
        node for node in graph.node if node.op_type in WEIGHTED and node.name.startswith(("decoder.0.", "upsample.0"))
    )
    taken = consumers(graph)
    made = producers(graph)
    name = str(first.input[0])
    if made[name].op_type == DEQUANTISE:
        return name
    pairs = [user for user in taken[name] if user.op_type == QUANTISE]
    return str(taken[pairs[0].output[0]][0].output[0]) if pairs else name
