"""INT8 as explicit Q/DQ in ONNX: where the pairs stand, and with which scales.

Where pairs stand decides what an engine can fuse. A pair stands behind every activation that an integer layer takes,
and nowhere else:

- behind the ReLU of a convolution, not before it: all engines fold ReLU and requantisation into the convolution;
- on both sides of an operator that only moves or joins values (Resize, MaxPool, Add, Concat), so that it too works on
  integers; what only moves values keeps the scale of what it moves;
- never behind the last convolution: nothing integer follows, and logits would only be rounded.

Weights are int8 per output channel, activations int8 per tensor, all symmetric with zero points of 0, biases float:
what TensorRT takes, and all engines compute alike. Every scale is a normal FP16 number, so that the copy for TensorRT,
whose scales are FP16, has the very same ones.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from tumortrace_export.graph import (
    DEQUANTISE,
    LARGEST_INT8,
    QUANTISE,
    WEIGHT_AXES,
    WEIGHTED,
    constants,
    consumers,
    copied,
    replace_nodes,
    set_constant,
)
from tumortrace_runtime.errors import CheckpointError

MOVING = ("Resize", "MaxPool")
JOINING = ("Add", "Concat")

Scale = npt.NDArray[np.float32]


def quantise(
    model: onnx.ModelProto,
    magnitudes: Mapping[str, float],
    *,
    float_layers: Collection[str] = (),
    weight_bits: int = 8,
) -> onnx.ModelProto:
    """The FP32 model with Q/DQ pairs.

    Args:
        model: FP32, as `onnx_model` gives it.
        magnitudes: what each of `activations(model)` is clipped at, in its own unit.
        float_layers: names of convolutions that stay float, their weights and what they take included.
        weight_bits: 8, or 7 for CPUs that add pairs of products in 16 bits.

    Returns:
        A new model; equal arguments give equal bytes.

    Raises:
        CheckpointError: a weight is not finite, or weights or activations are too large for an FP16 scale.
    """
    result = copied(model)
    graph = result.graph
    integer = _integer_nodes(graph, float_layers)
    pairs = {name for name in activations(model) if _taken_by(integer, graph, name)}
    owners = scale_owners(model)
    scales = {name: _scale_of(owners[name], magnitudes[owners[name]]) for name in owners if name in pairs}
    nodes: list[onnx.NodeProto] = []
    for node in [*_pair_of_inputs(graph, pairs, scales), *graph.node]:
        if node.op_type in WEIGHTED and node.name in integer:
            nodes.append(_quantise_weights(graph, node, weight_bits))
        if node.name in integer:
            _take_dequantised(node, pairs)
        nodes.append(node)
        for name in pairs.intersection(node.output):
            nodes.extend(_pair(graph, name, scales[name]))
    replace_nodes(graph, nodes)
    return result


def activations(model: onnx.ModelProto) -> list[str]:
    """The activations that a pair may stand behind, in the graph's order: those that a quantisable layer takes."""
    graph = model.graph
    takers = [node for node in graph.node if node.op_type in (*WEIGHTED, *JOINING, *MOVING)]
    taken = {name for node in takers for name in node.input} - set(constants(graph)) - {""}
    made = [*(item.name for item in graph.input), *(name for node in graph.node for name in node.output)]
    return [name for name in made if name in taken]


def scale_owners(model: onnx.ModelProto) -> dict[str, str]:
    """Each of `activations(model)` to the one whose scale it has: what is only moved keeps that of what it was."""
    owners = {name: name for name in activations(model)}
    for node in model.graph.node:
        if node.op_type in MOVING and node.output[0] in owners:
            owners[node.output[0]] = owners[node.input[0]]
    return owners


def layers(model: onnx.ModelProto) -> list[str]:
    """The names of the layers with weights, in the graph's order."""
    return [node.name for node in model.graph.node if node.op_type in WEIGHTED]


def fp16_scale(magnitude: float | npt.NDArray[np.float32], last: int = LARGEST_INT8) -> Scale:
    """The smallest scale, a normal FP16 number, at which `magnitude` is at most the integer `last`.

    Args:
        magnitude: up to `last` x 65504, what the largest FP16 number makes of it.
        last: the largest integer.
    """
    wanted = np.asarray(magnitude, np.float64) / last
    nearest = wanted.astype(np.float16)
    up = np.nextafter(nearest, np.where(nearest < wanted, np.float16(np.inf), nearest))
    return np.maximum(up, np.finfo(np.float16).tiny).astype(np.float32)


def _scale_of(name: str, magnitude: float | npt.NDArray[np.float32], last: int = LARGEST_INT8) -> Scale:
    largest = last * float(np.finfo(np.float16).max)
    if (peak := np.max(magnitude)) > largest:
        raise CheckpointError(
            f"{name}: values reach {peak:.3g}; INT8 with scales in FP16 holds up to {largest:.3g}. "
            "Export with --precision fp32, or train anew."
        )
    return fp16_scale(magnitude, last)


def _integer_nodes(graph: onnx.GraphProto, float_layers: Collection[str]) -> set[str]:
    """The names of the nodes that work on integers: layers with weights, and what moves or joins values for them."""
    taken_by = consumers(graph)
    integer: set[str] = set()
    for node in reversed(graph.node):
        serves = any(user.name in integer for user in taken_by.get(node.output[0], ()))
        if (node.op_type in WEIGHTED and node.name not in float_layers) or (
            node.op_type in (*JOINING, *MOVING) and serves
        ):
            integer.add(node.name)
    return integer


def _taken_by(integer: set[str], graph: onnx.GraphProto, name: str) -> bool:
    return any(node.name in integer and name in _activation_inputs(node) for node in graph.node)


def _activation_inputs(node: onnx.NodeProto) -> list[str]:
    return list(node.input) if node.op_type in JOINING else list(node.input[:1])


def _take_dequantised(node: onnx.NodeProto, pairs: set[str]) -> None:
    for place, name in enumerate(node.input):
        if name in pairs:
            node.input[place] = f"{name}_dequantised"


def _pair_of_inputs(graph: onnx.GraphProto, pairs: set[str], scales: Mapping[str, Scale]) -> list[onnx.NodeProto]:
    names = [item.name for item in graph.input if item.name in pairs]
    return [node for name in names for node in _pair(graph, name, scales[name])]


def _pair(graph: onnx.GraphProto, name: str, scale: Scale) -> list[onnx.NodeProto]:
    set_constant(graph, f"{name}_scale", scale)
    set_constant(graph, f"{name}_zero_point", np.zeros((), np.int8))
    constants_of = [f"{name}_scale", f"{name}_zero_point"]
    integers, again = f"{name}_quantised", f"{name}_dequantised"
    return [
        helper.make_node(QUANTISE, [name, *constants_of], [integers], f"{name}_QuantizeLinear"),
        helper.make_node(DEQUANTISE, [integers, *constants_of], [again], f"{name}_DequantizeLinear"),
    ]


def _quantise_weights(graph: onnx.GraphProto, node: onnx.NodeProto, bits: int) -> onnx.NodeProto:
    """Store a layer's weights as integers, and give the node that makes them float again."""
    name = node.input[1]
    weights = constants(graph)[name].astype(np.float32)
    if not np.isfinite(weights).all():
        raise CheckpointError(f"{node.name}: has weights that are not finite; the checkpoint is damaged.")
    axis = WEIGHT_AXES[node.op_type]
    last = 2 ** (bits - 1) - 1
    others = tuple(place for place in range(weights.ndim) if place != axis)
    scale = _scale_of(node.name, np.abs(weights).max(axis=others), last)
    shape = [-1 if place == axis else 1 for place in range(weights.ndim)]
    integers = np.clip(np.rint(weights / scale.reshape(shape)), -last, last).astype(np.int8)
    set_constant(graph, f"{name}_quantised", integers)
    set_constant(graph, f"{name}_scale", scale)
    set_constant(graph, f"{name}_zero_point", np.zeros(len(scale), np.int8))
    inputs = [f"{name}_quantised", f"{name}_scale", f"{name}_zero_point"]
    node.input[1] = f"{name}_dequantised"
    return helper.make_node(DEQUANTISE, inputs, [node.input[1]], f"{name}_DequantizeLinear", axis=axis)
