"""Where Q/DQ pairs stand, and what their scales are."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from tumortrace_export.graph import attribute, consumers, producers, set_constant
from tumortrace_export.quantise import activations, fp16_scale, layers, quantise
from tumortrace_runtime.errors import CheckpointError

Floats = npt.NDArray[np.float32]
SMALLEST_SCALE = 2.0**-14
BOTH_ARCHITECTURES = pytest.mark.parametrize("name", ["unet-xs", "classic"])


class Graph:
    """A quantised model, to be looked into."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes = list(model.graph.node)
        self.output = model.graph.output[0].name
        self.values = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
        self.producers = producers(model.graph)
        self.consumers = consumers(model.graph)
        self.scales = {node.input[0]: self.values[node.input[1]] for node in self.of_type("QuantizeLinear")}

    def of_type(self, *types: str) -> list[onnx.NodeProto]:
        return [node for node in self.nodes if node.op_type in types]

    def made_by(self, name: str) -> str:
        """The operator that makes a tensor; "" for the network's input."""
        return self.producers[name].op_type if name in self.producers else ""

    def weights(self, layer: onnx.NodeProto) -> tuple[npt.NDArray[np.int8], Floats, int]:
        """A layer's integers, their scales, and the axis that these go along."""
        dequantise = self.producers[layer.input[1]]
        assert dequantise.op_type == "DequantizeLinear"
        axis = attribute(dequantise, "axis")
        assert isinstance(axis, int)
        return self.values[dequantise.input[0]], self.values[dequantise.input[1]], axis

    def integer_layers(self) -> list[str]:
        made = ((node.name, self.made_by(node.input[1])) for node in self.of_type("Conv", "ConvTranspose"))
        return [name for name, by in made if by == "DequantizeLinear"]


@pytest.fixture(scope="module")
def graph_of(specimen: Callable[[str], Any]) -> Callable[[str], Graph]:
    return cache(lambda name: Graph(specimen(name).quantised()))


@BOTH_ARCHITECTURES
def test_every_zero_point_is_0(name: str, graph_of: Callable[[str], Graph]) -> None:
    graph = graph_of(name)
    zero_points = [graph.values[node.input[2]] for node in graph.of_type("QuantizeLinear", "DequantizeLinear")]
    assert len(zero_points) > 40
    assert all(points.dtype == np.int8 for points in zero_points)
    assert not any(points.any() for points in zero_points)


@BOTH_ARCHITECTURES
@pytest.mark.parametrize("bits", [8, 7])
def test_weights_are_integers_per_output_channel_to_half_a_step(
    name: str, bits: int, specimen: Callable[[str], Any]
) -> None:
    source = Graph(specimen(name).model)
    graph = Graph(specimen(name).quantised(weight_bits=bits))
    last = {8: 127, 7: 63}[bits]
    for before, after in zip(*(each.of_type("Conv", "ConvTranspose") for each in (source, graph)), strict=True):
        integers, scale, axis = graph.weights(after)
        assert integers.dtype == np.int8
        assert axis == (0 if after.op_type == "Conv" else 1)
        by_channel, floats = (np.moveaxis(each, axis, -1) for each in (integers, source.values[before.input[1]]))
        assert scale.shape == by_channel.shape[-1:]
        largest = np.abs(by_channel.astype(int)).max(axis=(0, 1, 2))
        assert (largest == last).all(), after.name  # the whole range, and no more
        assert (np.abs(by_channel * scale - floats) <= scale / 2 * (1 + 1e-5)).all()


@BOTH_ARCHITECTURES
def test_a_bias_stays_as_it_is(name: str, specimen: Callable[[str], Any], graph_of: Callable[[str], Graph]) -> None:
    source, graph = Graph(specimen(name).model), graph_of(name)
    for layer in graph.of_type("Conv", "ConvTranspose"):
        assert graph.values[layer.input[2]].dtype == np.float32
        np.testing.assert_array_equal(graph.values[layer.input[2]], source.values[layer.input[2]])


@BOTH_ARCHITECTURES
def test_every_scale_is_a_normal_fp16_number(name: str, graph_of: Callable[[str], Graph]) -> None:
    graph = graph_of(name)
    for node in graph.of_type("QuantizeLinear", "DequantizeLinear"):
        scale = graph.values[node.input[1]]
        np.testing.assert_array_equal(scale.astype(np.float16).astype(np.float32), scale)
        assert (scale >= SMALLEST_SCALE).all()
        assert (scale <= 65504).all()


@BOTH_ARCHITECTURES
def test_scales_reach_to_the_magnitudes(
    name: str, specimen: Callable[[str], Any], graph_of: Callable[[str], Graph]
) -> None:
    graph, moved = graph_of(name), 0
    for tensor, scale in graph.scales.items():
        assert scale.shape == ()
        if graph.made_by(tensor) in ("Resize", "MaxPool"):
            moved += 1
        else:
            assert float(scale) * 127 == pytest.approx(specimen(name).magnitudes[tensor], rel=2**-10)
    assert moved


@BOTH_ARCHITECTURES
def test_pairs_stand_behind_a_relu_and_not_before_it(name: str, graph_of: Callable[[str], Graph]) -> None:
    graph = graph_of(name)
    relus = graph.of_type("Relu")
    assert relus
    for relu in relus:
        assert graph.made_by(relu.input[0]) == "Conv"
        assert graph.consumers[relu.output[0]][0].op_type == "QuantizeLinear"


@BOTH_ARCHITECTURES
def test_what_a_layer_takes_is_dequantised(name: str, graph_of: Callable[[str], Graph]) -> None:
    graph = graph_of(name)
    for node in graph.of_type("Conv", "ConvTranspose", "Resize", "MaxPool"):
        assert graph.made_by(node.input[0]) == "DequantizeLinear", node.name
    joining = graph.of_type("Add", "Concat")
    assert joining
    for node in joining:
        assert [graph.made_by(name) for name in node.input] == ["DequantizeLinear"] * 2, node.name


@BOTH_ARCHITECTURES
def test_what_only_moves_values_keeps_their_scale(name: str, graph_of: Callable[[str], Graph]) -> None:
    graph = graph_of(name)
    for node in graph.of_type("Resize", "MaxPool"):
        (after,) = graph.consumers[node.output[0]]
        assert after.op_type == "QuantizeLinear"
        before = graph.producers[node.input[0]]
        assert graph.values[after.input[1]] == graph.values[before.input[1]]


@BOTH_ARCHITECTURES
def test_logits_are_not_rounded(name: str, graph_of: Callable[[str], Graph]) -> None:
    graph = graph_of(name)
    last = graph.producers[graph.output]
    if name == "unet-xs":
        assert last.op_type == "DepthToSpace"
        last = graph.producers[last.input[0]]
    assert (last.op_type, last.name) == ("Conv", "head")


@BOTH_ARCHITECTURES
def test_nothing_is_stored_that_is_not_used(name: str, graph_of: Callable[[str], Graph]) -> None:
    graph = graph_of(name)
    assert set(graph.values) <= {name for node in graph.nodes for name in node.input}
    assert all(graph.consumers.get(node.output[0]) for node in graph.of_type("QuantizeLinear", "DequantizeLinear"))


@settings(deadline=None, max_examples=10)
@given(data=st.data())
@pytest.mark.parametrize("name", ["unet-xs", "classic"])
def test_exactly_the_float_layers_go_back(name: str, data: st.DataObject, specimen: Callable[[str], Any]) -> None:
    model = specimen(name).model
    float_layers = data.draw(st.sets(st.sampled_from(layers(model))))
    quantised = specimen(name).quantised(float_layers=float_layers)
    onnx.checker.check_model(quantised, full_check=True)

    source, graph = Graph(model), Graph(quantised)
    assert graph.integer_layers() == [each for each in layers(model) if each not in float_layers]
    for before, after in zip(*(each.of_type("Conv", "ConvTranspose") for each in (source, graph)), strict=True):
        if after.name in float_layers:
            assert list(after.input) == list(before.input)
            np.testing.assert_array_equal(graph.values[after.input[1]], source.values[before.input[1]])
        else:
            assert graph.made_by(after.input[0]) == "DequantizeLinear"
    taken = {node.input[0] for node in graph.of_type("QuantizeLinear")}
    assert taken == dequantised_for(graph, float_layers)


def dequantised_for(graph: Graph, float_layers: Collection[str]) -> set[str]:
    """The tensors that integer layers take, directly or by way of what moves and joins values."""
    wanted: set[str] = set()
    for node in reversed(graph.nodes):
        serves = node.op_type in ("Add", "Concat", "Resize", "MaxPool") and node.output[0] in wanted
        if serves or (node.op_type in ("Conv", "ConvTranspose") and node.name not in float_layers):
            inputs = node.input if node.op_type in ("Add", "Concat") else node.input[:1]
            wanted |= {name.removesuffix("_dequantised") for name in inputs}
    return wanted


def test_who_else_takes_what_a_float_layer_takes_still_gets_integers(specimen: Callable[[str], Any]) -> None:
    """A skip goes down, to the float layer, and across, to an Add."""
    graph = Graph(specimen("unet-xs").quantised(float_layers=["encoder.1.0.0"]))
    (layer,) = (node for node in graph.nodes if node.name == "encoder.1.0.0")
    skip = layer.input[0]
    assert graph.made_by(skip) == "Relu"
    (across,) = graph.consumers[f"{skip}_dequantised"]
    assert across.op_type == "Add"


def test_with_every_layer_in_float_nothing_is_left_to_quantise(specimen: Callable[[str], Any]) -> None:
    model = specimen("unet-xs").model
    quantised = specimen("unet-xs").quantised(float_layers=layers(model))
    assert list(quantised.graph.node) == list(model.graph.node)


def test_narrow_weights_change_nothing_else(specimen: Callable[[str], Any]) -> None:
    narrow, full = (Graph(specimen("unet-xs").quantised(weight_bits=bits)) for bits in (7, 8))
    assert narrow.scales == full.scales
    assert narrow.nodes == full.nodes


@settings(max_examples=300)
@given(
    magnitude=st.floats(0, 127 * 65504.0) | st.floats(0, 1e-2),
    last=st.sampled_from([63, 127]),
)
def test_a_scale_is_the_smallest_normal_fp16_number_that_reaches(magnitude: float, last: int) -> None:
    magnitude = min(magnitude, last * 65504.0)
    (scale,) = scales = fp16_scale(np.array([magnitude]), last)
    assert scales.dtype == np.float32
    assert scale == np.float16(scale)
    assert scale >= SMALLEST_SCALE
    assert magnitude / last <= scale
    below = float(np.nextafter(np.float16(scale), np.float16(0)))
    assert below < SMALLEST_SCALE or below < magnitude / last


@given(magnitude=st.floats(0, 1e6), factor=st.floats(1, 4))
def test_a_larger_magnitude_never_gets_a_smaller_scale(magnitude: float, factor: float) -> None:
    assert fp16_scale(magnitude) <= fp16_scale(factor * magnitude)


def test_a_channel_without_weights_and_a_tensor_of_zeros_are_quantised(
    specimen: Callable[[str], Any], run_model: Callable[..., Floats]
) -> None:
    sample = specimen("no stem")
    model = sample.model
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    weights = Graph(model).values[first.input[1]].copy()
    weights[3] = 0
    set_constant(model.graph, first.input[1], weights)
    silent = {**sample.magnitudes, activations(model)[0]: 0.0}
    assert np.isfinite(run_model(quantise(model, silent), sample.batch)).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_not_finite_is_refused(value: float, specimen: Callable[[str], Any]) -> None:
    with pytest.raises(CheckpointError, match=r"encoder\.1\.0\.0: has weights that are not finite"):
        quantise(with_weight(specimen("no stem").model, value), specimen("no stem").magnitudes)


def test_what_no_fp16_scale_reaches_is_refused(specimen: Callable[[str], Any]) -> None:
    sample = specimen("no stem")
    huge = activations(sample.model)[1]
    with pytest.raises(CheckpointError, match=rf"{huge}: values reach 1e\+07.*--precision fp32"):
        quantise(sample.model, {**sample.magnitudes, huge: 1e7})
    with pytest.raises(CheckpointError, match=r"encoder\.1\.0\.0: values reach 1e\+07"):
        quantise(with_weight(sample.model, 1e7), sample.magnitudes)


def test_a_huge_tensor_that_stays_float_is_no_obstacle(specimen: Callable[[str], Any]) -> None:
    sample = specimen("no stem")
    first = next(node for node in sample.model.graph.node if node.op_type == "Conv")
    before_its_relu = {**sample.magnitudes, first.output[0]: 1e9}
    assert quantise(sample.model, before_its_relu) == sample.quantised()


def with_weight(model: onnx.ModelProto, value: float) -> onnx.ModelProto:
    """The model with one weight of its layer encoder.1.0.0 set."""
    (layer,) = (node for node in model.graph.node if node.name == "encoder.1.0.0")
    weights = Graph(model).values[layer.input[1]].copy()
    weights[0, 0, 0, 0] = value
    set_constant(model.graph, layer.input[1], weights)
    return model


def test_equal_arguments_give_equal_bytes_and_the_source_is_left_alone(specimen: Callable[[str], Any]) -> None:
    sample = specimen("classic")
    source = sample.model
    one = quantise(source, sample.magnitudes, float_layers=["head", "upsample.1"])
    two = quantise(source, dict(reversed(sample.magnitudes.items())), float_layers={"upsample.1", "head"})
    assert one.SerializeToString(deterministic=True) == two.SerializeToString(deterministic=True)
    assert source == sample.model
