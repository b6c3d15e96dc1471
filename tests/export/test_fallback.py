"""The layer whose rounding costs most goes back to float first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from tumortrace_export.fallback import by_sensitivity
from tumortrace_export.graph import constants, set_constant
from tumortrace_export.quantise import layers, quantise


def enlarge_one_channel(model: onnx.ModelProto, maker: str, taker: str, factor: float) -> None:
    """Make one of the channels between two layers `factor` times as large; the network stays the same function."""
    nodes = {node.name: node for node in model.graph.node}
    values = constants(model.graph)
    weights, bias = (values[name].astype(np.float32) for name in nodes[maker].input[1:])
    taken = values[nodes[taker].input[1]].astype(np.float32)
    weights[0] *= factor
    bias[0] *= factor
    taken[:, 0] /= factor
    for name, changed in zip((*nodes[maker].input[1:], nodes[taker].input[1]), (weights, bias, taken), strict=True):
        set_constant(model.graph, name, changed)


@pytest.mark.parametrize(
    ("maker", "taker"), [("encoder.0.0.0", "encoder.0.1.0"), ("encoder.1.0.0", "encoder.1.1.0")], ids=["0", "1"]
)
def test_a_layer_whose_input_has_one_huge_channel_comes_first(
    maker: str, taker: str, specimen: Callable[[str], Any], run_model: Callable[..., Any]
) -> None:
    sample = specimen("three classes")
    model = sample.model
    enlarge_one_channel(model, maker, taker, 300.0)
    made = next(node.output[0] for node in model.graph.node if node.name == maker)
    relu = next(node.output[0] for node in model.graph.node if node.input[0] == made)
    peak = float(run_model(model, sample.batch, relu).max())
    magnitudes = {**sample.magnitudes, relu: peak}

    order = by_sensitivity(model, magnitudes, [sample.batch[:2], sample.batch[2:]])
    assert order[0] == taker
    assert sorted(order) == sorted(layers(model))

    expected = run_model(model, sample.batch)
    costs = [
        np.square(run_model(quantise(model, magnitudes, float_layers=each), sample.batch) - expected).mean()
        for each in ([], order[:1])
    ]
    assert costs[1] < 0.3 * costs[0]


def test_the_order_is_the_same_each_time(specimen: Callable[[str], Any]) -> None:
    sample = specimen("three classes")
    orders = [by_sensitivity(sample.model, sample.magnitudes, [sample.batch]) for _ in range(2)]
    assert orders[0] == orders[1]
