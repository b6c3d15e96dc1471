"""What FP16 cannot hold is found, and stays float."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from tumortrace_export.graph import constants, set_constant
from tumortrace_export.overflow import LARGEST, MARGIN, overflowing_layers, probed
from tumortrace_export.quantise import activations, quantise
from tumortrace_export.ranges import collect
from tumortrace_export.tensorrt_model import to_strongly_typed

Floats = npt.NDArray[np.float32]
ENLARGED, DIMINISHED = "encoder.1.0.0", "encoder.1.1.0"
FACTOR = 3e4
"""Weights so much larger FP16 holds, activations not."""


def scale(model: onnx.ModelProto, layer: str, *, weights: float, bias: float = 1.0) -> None:
    (node,) = (each for each in model.graph.node if each.name == layer)
    values = constants(model.graph)
    for name, factor in zip(node.input[1:], (weights, bias), strict=True):
        set_constant(model.graph, name, values[name].astype(np.float32) * np.float32(factor))


def peaks(model: onnx.ModelProto, batch: Floats, folder: Path) -> dict[str, float]:
    onnx.save(model, folder / "probed.onnx")
    found = collect(folder / "probed.onnx", probed(model), lambda: iter([batch]))
    return {name: histogram.peak for name, histogram in found.items()}


@pytest.fixture(scope="module")
def sample(specimen: Callable[[str], Any]) -> Any:
    return specimen("no stem")


@pytest.fixture
def loud(sample: Any) -> onnx.ModelProto:
    """The same function, but for features in its middle that are 30 000 times as large."""
    model: onnx.ModelProto = sample.model
    scale(model, ENLARGED, weights=FACTOR, bias=FACTOR)
    scale(model, DIMINISHED, weights=1 / FACTOR)
    return model


def typed(model: onnx.ModelProto, folder: Path, keep_float: list[str]) -> onnx.ModelProto:
    onnx.save(model, folder / "source.onnx")
    to_strongly_typed(folder / "source.onnx", folder / "model.onnx", keep_float=keep_float)
    return onnx.load(folder / "model.onnx")


def test_a_network_of_common_magnitudes_is_fp16_throughout(sample: Any, tmp_path: Path) -> None:
    found = peaks(sample.model, sample.batch, tmp_path)
    assert max(found.values()) > 1
    assert overflowing_layers(sample.model, found) == []


def test_layers_that_make_or_take_what_overflows_stay_float(
    sample: Any, loud: onnx.ModelProto, run_model: Callable[..., Floats], tmp_path: Path
) -> None:
    keep = overflowing_layers(loud, peaks(loud, sample.batch, tmp_path))
    relu = next(node for node in loud.graph.node if node.input[0] == output_of(loud, ENLARGED))
    assert keep == [ENLARGED, relu.name, DIMINISHED]

    expected = run_model(loud, sample.batch)
    logits = run_model(typed(loud, tmp_path, keep), sample.batch)
    assert np.abs(logits - expected).max() < 0.01 * np.ptp(expected)
    overflown = run_model(typed(loud, tmp_path, []), sample.batch, relu.output[0])
    assert np.isinf(overflown).any()


def test_the_int8_model_keeps_them_float_too(
    sample: Any, loud: onnx.ModelProto, run_model: Callable[..., Floats], tmp_path: Path
) -> None:
    """Its other layers are INT8; the weights that are made so small have no scale in FP16."""
    found = peaks(loud, sample.batch, tmp_path)
    quantised = quantise(loud, found, float_layers=[DIMINISHED])
    logits = run_model(typed(quantised, tmp_path, overflowing_layers(loud, found)), sample.batch)
    expected = run_model(loud, sample.batch)
    assert np.abs(logits - expected).max() < 0.1 * np.ptp(expected)


def test_other_scans_may_give_twice_as_much(sample: Any) -> None:
    quiet = dict.fromkeys(probed(sample.model), 1.0)
    tensor = output_of(sample.model, ENLARGED)

    def found(peak: float) -> list[str]:
        return overflowing_layers(sample.model, {**quiet, tensor: peak})

    assert found(LARGEST / MARGIN) == []
    assert found(LARGEST / MARGIN * 1.001)[0] == ENLARGED


def test_a_weight_that_fp16_cannot_hold_keeps_its_layer_float(sample: Any) -> None:
    model = sample.model
    scale(model, ENLARGED, weights=1e7)
    assert overflowing_layers(model, quiet(model)) == [ENLARGED]


def quiet(model: onnx.ModelProto) -> Mapping[str, float]:
    return dict.fromkeys(probed(model), 1.0)


def test_what_comes_before_a_relu_is_looked_at_too(specimen: Callable[[str], Any]) -> None:
    """Large negative values overflow as well, and no ReLU shows them."""
    for name in ("no stem", "classic"):
        model = specimen(name).model
        names = probed(model)
        assert len(names) == len(set(names))
        assert set(activations(model)) <= set(names)
        for node in model.graph.node:
            if node.op_type in ("Conv", "ConvTranspose", "Add", "Concat"):
                assert node.output[0] in names


def output_of(model: onnx.ModelProto, layer: str) -> str:
    return next(str(node.output[0]) for node in model.graph.node if node.name == layer)
