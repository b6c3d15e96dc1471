"""Rewritten, a model computes what it did before, to the bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tumortrace_export.graph import attribute, constants, producers
from tumortrace_export.lowering import block_head, take_integers
from tumortrace_export.onnx_model import INPUT, OUTPUT
from tumortrace_export.unsigned import to_unsigned
from tumortrace_runtime.backends import Backend
from tumortrace_runtime.preprocess import IntegerInput

Floats = npt.NDArray[np.float32]

BLOCKS = {"no stem": 1, "classic": 1, "three classes": 2, "unet-xs": 4}
"""Specimens, and the factor of the space-to-depth that each begins with."""


@pytest.mark.parametrize("name", ["no stem", "three classes", "unet-xs"])
def test_openvino_gives_the_same_logits_for_packed_integers_and_a_blocked_head(
    name: str,
    specimen: Callable[[str], Any],
    load_model: Callable[..., Backend],
    openvino_logits: Callable[[str], Floats],
) -> None:
    sample, logits = specimen(name), openvino_logits(name)
    taken = take_integers(block_head(sample.quantised()), BLOCKS[name])
    assert taken is not None
    lowered = load_model("openvino", *taken)

    assert np.ptp(logits) > 3
    for stop in (5, 1):
        packed = sample.packed(0, stop, taken[1])
        np.testing.assert_array_equal(lowered.run(packed), logits[:stop])
    assert lowered.layer_precisions == {"int8": len(lowered.layers)}


@pytest.mark.parametrize("name", BLOCKS)
def test_onnxruntime_gives_the_same_logits_for_packed_integers(
    name: str, specimen: Callable[[str], Any], load_model: Callable[..., Backend]
) -> None:
    sample = specimen(name)
    source = to_unsigned(sample.quantised())
    taken = take_integers(source, BLOCKS[name])
    assert taken is not None
    plain, lowered = load_model("onnxruntime", source), load_model("onnxruntime", *taken)

    for start, stop in ((0, 5), (2, 3)):
        packed = sample.packed(start, stop, taken[1])
        np.testing.assert_array_equal(lowered.run(packed), plain.run(sample.batch[start:stop]))
    assert lowered.layer_precisions == plain.layer_precisions


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("unsigned", [False, True])
def test_integers_come_as_the_first_layer_takes_them(name: str, unsigned: bool, specimen: Callable[[str], Any]) -> None:
    source = specimen(name).quantised()
    source = to_unsigned(source) if unsigned else source
    before, block = source.SerializeToString(deterministic=True), BLOCKS[name]
    taken = take_integers(source, block)
    assert source.SerializeToString(deterministic=True) == before
    assert taken is not None
    model, spec = taken
    onnx.checker.check_model(model, full_check=True)

    first = next(node for node in source.graph.node if node.op_type == "QuantizeLinear")
    scale = float(constants(source.graph)[first.input[1]])
    assert spec == IntegerInput("uint8" if unsigned else "int8", scale, 128 if unsigned else 0, block)
    given = model.graph.input[0].type.tensor_type
    assert given.elem_type == (TensorProto.UINT8 if unsigned else TensorProto.INT8)
    assert given.shape.dim[0].dim_param
    assert [each.dim_value for each in given.shape.dim][1:] == [32 // block, 32 // block, 9 * block**2]
    assert all(INPUT not in node.input or node.op_type == "DequantizeLinear" for node in model.graph.node)


def test_a_model_whose_first_layer_is_float_takes_floats(specimen: Callable[[str], Any]) -> None:
    for name in ("three classes", "no stem"):
        assert take_integers(specimen(name).model, BLOCKS[name]) is None
        assert take_integers(specimen(name).quantised(float_layers=["encoder.0.0.0"]), BLOCKS[name]) is None
        assert take_integers(specimen(name).quantised(float_layers=["encoder.0.1.0"]), BLOCKS[name]) is not None


def test_the_head_sees_blocks_of_pixels(specimen: Callable[[str], Any]) -> None:
    source = specimen("three classes").quantised()
    before = source.SerializeToString(deterministic=True)
    model = block_head(source)
    assert source.SerializeToString(deterministic=True) == before
    onnx.checker.check_model(model, full_check=True)
    (head,) = (node for node in model.graph.node if node.name == "head")
    shuffle = producers(model.graph)[OUTPUT]
    assert attribute(head, "kernel_shape") == [4, 4]
    assert attribute(head, "strides") == [2, 2]
    assert attribute(shuffle, "blocksize") == 4
    assert constants(model.graph)["head.weight_quantised"].shape == (3 * 16, 16, 4, 4)


def test_a_float_head_is_blocked_too(specimen: Callable[[str], Any], run_model: Callable[..., Floats]) -> None:
    source, batch = specimen("three classes").quantised(float_layers=["head"]), specimen("three classes").batch
    model, expected = block_head(source), run_model(source, batch)
    assert model != source
    np.testing.assert_allclose(run_model(model, batch), expected, atol=1e-5 * float(np.ptp(expected)))


def test_a_network_that_ends_otherwise_comes_back_as_it_is(specimen: Callable[[str], Any]) -> None:
    source = specimen("classic").quantised()
    assert block_head(source) == source


def head_alone(classes: int, stem: int, seed: int, **options: Any) -> onnx.ModelProto:
    """A convolution and a depth-to-space, their numbers small integers: their sums are exact in any order."""
    random = np.random.default_rng(seed)
    size = options.get("kernel", 3)
    weights = random.integers(-9, 10, (classes * stem**2, 3, size, size)).astype(np.float32)
    bias = random.integers(-99, 100, classes * stem**2).astype(np.float32)
    stored = [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(bias, "bias")]
    inputs = [INPUT, "weights", "bias"][: 3 if options.get("bias", True) else 2]
    pads = [options.get("pad", size // 2)] * 4
    nodes = [
        helper.make_node("Conv", inputs, ["made"], "head", pads=pads, dilations=[options.get("dilation", 1)] * 2),
        helper.make_node("DepthToSpace", ["made"], [OUTPUT], "out", blocksize=stem, mode=options.get("mode", "CRD")),
    ]
    taken = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", 3, 6, 8])
    made = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", classes, "rows", "columns"])
    graph = helper.make_graph(nodes, "head", [taken], [made], stored[: len(inputs) - 1])
    return helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 18)])


@settings(deadline=None, max_examples=40)
@given(classes=st.integers(1, 5), stem=st.sampled_from([1, 2, 4]), seed=st.integers(0, 2**32))
def test_every_pixel_of_every_class_comes_where_it_was(
    classes: int, stem: int, seed: int, run_model: Callable[..., Floats]
) -> None:
    source = head_alone(classes, stem, seed)
    batch = np.random.default_rng(seed + 1).integers(-9, 10, (2, 3, 6, 8)).astype(np.float32)
    model = block_head(source)
    assert model != source
    np.testing.assert_array_equal(run_model(model, batch), run_model(source, batch))


@pytest.mark.parametrize(
    "options",
    [{"kernel": 1}, {"kernel": 5}, {"pad": 0}, {"dilation": 2, "pad": 2}, {"mode": "DCR"}, {"bias": False}],
    ids=str,
)
def test_a_head_that_cannot_be_blocked_comes_back_as_it_is(options: dict[str, Any]) -> None:
    source = head_alone(2, 2, seed=0, **options)
    assert block_head(source) == source
