"""The models for TensorRT compute what their sources do, and hold the precisions that they should."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from tumortrace.model import ModelConfig, build_model
from tumortrace_export.onnx_model import INPUT, OUTPUT, onnx_model, save_onnx
from tumortrace_export.outputs import MASK, STATISTICS, give_mask, give_statistics
from tumortrace_export.quantise import activations, quantise
from tumortrace_export.tensorrt_model import to_strongly_typed
from tumortrace_runtime.errors import ModelError

Floats = npt.NDArray[np.float32]
FLOAT, FLOAT16, INT8 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT8
GRID = (32, 48)


class Model:
    """A model to be looked into."""

    def __init__(self, path: Path) -> None:
        self.proto = onnx.load(path)
        self.nodes: list[onnx.NodeProto] = list(self.proto.graph.node)
        self.stored = {item.name: item for item in self.proto.graph.initializer}
        self.producers = {name: node for node in self.nodes for name in node.output}

    def of_type(self, *types: str) -> list[onnx.NodeProto]:
        return [node for node in self.nodes if node.op_type in types]

    def named(self, name: str) -> onnx.NodeProto:
        (found,) = (node for node in self.nodes if node.name == name)
        return found

    def values(self, name: str) -> npt.NDArray[Any]:
        return numpy_helper.to_array(self.stored[name])


def run(path: Path, batch: Floats, name: str = OUTPUT) -> npt.NDArray[Any]:
    """A tensor of a model, in its own type, as the file says.

    ONNX Runtime's optimisations would give an FP16 model with Q/DQ INT32 biases with FP16 scales, which underflow.
    """
    model = onnx.load(path)
    if name not in [item.name for item in model.graph.output]:
        model.graph.output.append(onnx.ValueInfoProto(name=name))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (values,) = session.run([name], {INPUT: batch})
    return np.asarray(values)


def compact_network() -> nn.Module:
    """Two levels, whose batch norms have learnt something: only then are there biases."""
    torch.manual_seed(3)
    network = build_model(ModelConfig("compact", in_channels=2, classes=2, widths=(16, 32), stem=2)).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias, std=0.3)
    assert isinstance(network.head, nn.Conv2d)
    nn.init.normal_(network.head.weight, std=0.2)
    return network


@pytest.fixture(scope="module")
def compact_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compact") / "model.onnx"
    save_onnx(onnx_model(compact_network(), 2, GRID), path)
    return path


@pytest.fixture(scope="module", params=["compact", "classic"])
def fp32_file(request: pytest.FixtureRequest, compact_file: Path, classic_file: Path) -> Path:
    return {"compact": compact_file, "classic": classic_file}[request.param]


@pytest.fixture(scope="module")
def int8_file(fp32_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quantised(fp32_file, tmp_path_factory.mktemp("int8") / "model.int8.onnx")


@pytest.fixture(scope="module")
def batch() -> Floats:
    return np.random.default_rng(0).standard_normal((3, 2, *GRID)).astype(np.float32)


@pytest.fixture
def edited(tmp_path: Path) -> Callable[[Path, Callable[[onnx.ModelProto], None]], Path]:
    """Writes a changed copy of a model."""

    def edit(source: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
        model = onnx.load(source)
        change(model)
        onnx.save(model, tmp_path / "edited.onnx")
        return tmp_path / "edited.onnx"

    return edit


def quantised(source: Path, path: Path) -> Path:
    """The same model with INT8 Q/DQ, every activation clipped at 6."""
    model = onnx.load(source)
    onnx.save(quantise(model, dict.fromkeys(activations(model), 6.0)), path)
    return path


def scale(model: onnx.ModelProto, name: str, factor: float) -> None:
    """Multiply a stored tensor."""
    item = next(item for item in model.graph.initializer if item.name == name)
    item.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(item) * np.float32(factor), name))


def test_fp16_computes_what_fp32_does(fp32_file: Path, batch: Floats, tmp_path: Path) -> None:
    to_strongly_typed(fp32_file, tmp_path / "model.onnx")
    expected = run(fp32_file, batch)
    assert np.abs(run(tmp_path / "model.onnx", batch) - expected).max() < 0.01 * np.ptp(expected)


def test_int8_is_as_near_to_fp32_as_its_source(fp32_file: Path, int8_file: Path, batch: Floats, tmp_path: Path) -> None:
    to_strongly_typed(int8_file, tmp_path / "model.onnx")
    expected, source, typed = (run(path, batch) for path in (fp32_file, int8_file, tmp_path / "model.onnx"))
    rounding = 2.0**-11 * np.abs(expected).max()  # of a logit to FP16
    assert np.abs(typed - expected).mean() < 1.05 * np.abs(source - expected).mean() + rounding
    assert np.abs(typed - source).max() < 0.1 * np.ptp(expected)


@pytest.mark.parametrize("quantise_first", [False, True])
def test_everything_between_the_ends_is_fp16(quantise_first: bool, compact_file: Path, tmp_path: Path) -> None:
    source = quantised(compact_file, tmp_path / "int8.onnx") if quantise_first else compact_file
    to_strongly_typed(source, tmp_path / "model.onnx")
    model = Model(tmp_path / "model.onnx")
    resizes = {name for node in model.of_type("Resize") for name in node.input[1:] if name}

    assert {item.domain: item.version for item in model.proto.opset_import} == {"": 19}
    assert resizes
    for name, item in model.stored.items():
        expected = {FLOAT} if name in resizes else {FLOAT16, INT8, TensorProto.INT64}
        assert item.data_type in expected, name
    casts = [(node.input[0] == INPUT, node.output[0] == OUTPUT) for node in model.of_type("Cast")]
    assert casts == [(True, False), (False, True)]
    ends = [*model.proto.graph.input, *model.proto.graph.output]
    assert [item.type.tensor_type.elem_type for item in ends] == [FLOAT, FLOAT]
    assert all(item.type.tensor_type.shape.dim[0].dim_param for item in ends)


def test_scales_and_integers_are_the_sources(int8_file: Path, tmp_path: Path) -> None:
    to_strongly_typed(int8_file, tmp_path / "model.onnx")
    source, model = Model(int8_file), Model(tmp_path / "model.onnx")
    pairs = source.of_type("QuantizeLinear", "DequantizeLinear")
    assert len(pairs) > 20
    assert {node.name for node in pairs} == {node.name for node in model.of_type("QuantizeLinear", "DequantizeLinear")}
    for before in pairs:
        after = model.named(before.name)
        np.testing.assert_array_equal(model.values(after.input[1]), source.values(before.input[1]))
        np.testing.assert_array_equal(model.values(after.input[2]), source.values(before.input[2]))
        assert list(after.attribute) == list(before.attribute)
        if before.input[0] in source.stored:
            np.testing.assert_array_equal(model.values(after.input[0]), source.values(before.input[0]))


def test_what_quantises_the_networks_input_takes_it_as_it_comes(classic_file: Path, tmp_path: Path) -> None:
    to_strongly_typed(quantised(classic_file, tmp_path / "int8.onnx"), tmp_path / "model.onnx")
    model = Model(tmp_path / "model.onnx")
    (first,) = [node for node in model.nodes if INPUT in node.input]
    assert first.op_type == "QuantizeLinear"
    assert model.stored[first.input[1]].data_type == FLOAT
    assert [node.output[0] for node in model.of_type("Cast")] == [OUTPUT]


def test_what_overflows_fp16_is_kept_in_float(
    compact_file: Path, batch: Floats, tmp_path: Path, edited: Callable[..., Path]
) -> None:
    first, second = Model(compact_file).of_type("Conv")[:2]
    relu = next(node for node in Model(compact_file).nodes if node.input[0] == first.output[0])

    def enlarge(model: onnx.ModelProto) -> None:
        scale(model, first.input[1], 3e4)
        scale(model, first.input[2], 3e4)
        scale(model, second.input[1], 1 / 3e4)

    source = edited(compact_file, enlarge)
    to_strongly_typed(source, tmp_path / "overflows.onnx")
    to_strongly_typed(source, tmp_path / "kept.onnx", keep_float=[first.name, relu.name, second.name])

    assert np.isinf(run(tmp_path / "overflows.onnx", batch, relu.output[0])).any()
    assert np.isfinite(run(tmp_path / "kept.onnx", batch, relu.output[0])).all()
    expected = run(source, batch)
    assert np.abs(run(tmp_path / "kept.onnx", batch) - expected).max() < 0.01 * np.ptp(expected)
    stored = Model(tmp_path / "kept.onnx").stored
    assert {stored[name].data_type for node in (first, second) for name in node.input[1:]} == {FLOAT}


def test_nothing_stands_between_a_node_kept_in_float_and_its_pairs(
    int8_file: Path, fp32_file: Path, batch: Floats, tmp_path: Path
) -> None:
    convolution = Model(int8_file).of_type("Conv")[1]
    to_strongly_typed(int8_file, tmp_path / "model.onnx", keep_float=[convolution.name])
    model = Model(tmp_path / "model.onnx")

    kept = model.named(convolution.name)
    for name in kept.input[:2]:
        dequantise = model.producers[name]
        assert dequantise.op_type == "DequantizeLinear"
        assert model.stored[dequantise.input[1]].data_type == FLOAT
    expected = run(fp32_file, batch)
    assert np.abs(run(tmp_path / "model.onnx", batch) - run(int8_file, batch)).max() < 0.1 * np.ptp(expected)


def test_a_dequantised_tensor_is_written_for_both_precisions_that_read_it(int8_file: Path, tmp_path: Path) -> None:
    """A skip goes to a convolution and to the decoder: one of them may be kept in float."""
    source = Model(int8_file)
    shared = next(
        node.output[0]
        for node in source.of_type("DequantizeLinear")
        if sum(node.output[0] in other.input for other in source.nodes) == 2
    )
    reader = next(node for node in source.nodes if shared in node.input)
    to_strongly_typed(int8_file, tmp_path / "model.onnx", keep_float=[reader.name])
    model = Model(tmp_path / "model.onnx")
    integers = source.producers[shared].input[0]
    readers = [node for node in model.of_type("DequantizeLinear") if node.input[0] == integers]
    assert sorted(model.stored[node.input[1]].data_type for node in readers) == [FLOAT, FLOAT16]


def test_a_mask_comes_out_as_it_is(fp32_file: Path, batch: Floats, tmp_path: Path) -> None:
    onnx.save(give_mask(onnx.load(fp32_file), 0.0), tmp_path / "mask.onnx")
    to_strongly_typed(tmp_path / "mask.onnx", tmp_path / "model.onnx")

    mask = run(tmp_path / "model.onnx", batch, MASK)
    assert mask.dtype == np.uint8
    assert (mask != run(fp32_file, batch).argmax(axis=1)).mean() < 0.01
    kinds = [node.attribute[0].i for node in Model(tmp_path / "model.onnx").of_type("Cast")]
    assert kinds == [FLOAT16, FLOAT16, TensorProto.UINT8]  # the input, the class, the mask


def test_a_second_output_can_stay_float(fp32_file: Path, batch: Floats, tmp_path: Path) -> None:
    """Squares of features soon overflow FP16."""
    source = onnx.load(fp32_file)
    model = give_statistics(source)
    onnx.save(model, tmp_path / "source.onnx")
    added = {node.name for node in model.graph.node} - {node.name for node in source.graph.node}
    to_strongly_typed(tmp_path / "source.onnx", tmp_path / "model.onnx", keep_float=added)

    given, expected = (run(tmp_path / name, batch, STATISTICS) for name in ("model.onnx", "source.onnx"))
    assert given.dtype == np.float32
    np.testing.assert_allclose(given, expected, atol=0.01 * np.abs(expected).max())
    casts = Model(tmp_path / "model.onnx").of_type("Cast")
    assert len(casts) == 3  # the input, the features, the logits


@given(number=st.floats(min_value=0, max_value=1e6, exclude_min=True, width=32))
def test_a_scale_is_kept_to_the_bit_or_refused(number: float, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("scale")
    onnx.save(pair_of_scale(number), folder / "source.onnx")
    exact = float(np.float16(min(number, 65504.0))) == number >= 2.0**-14
    if exact:
        to_strongly_typed(folder / "source.onnx", folder / "model.onnx")
        model = Model(folder / "model.onnx")
        assert {float(model.values(node.input[1])) for node in model.nodes if len(node.input) == 3} == {number}
    else:
        with pytest.raises(ModelError, match=r"source\.onnx: .*FP16"):
            to_strongly_typed(folder / "source.onnx", folder / "model.onnx")
        assert not (folder / "model.onnx").exists()


def pair_of_scale(number: float) -> onnx.ModelProto:
    """Relu, Q/DQ, Relu."""
    nodes = [
        helper.make_node("Relu", [INPUT], ["a"], "first"),
        helper.make_node("QuantizeLinear", ["a", "scale", "zero"], ["b"], "quantise"),
        helper.make_node("DequantizeLinear", ["b", "scale", "zero"], ["c"], "dequantise"),
        helper.make_node("Relu", ["c"], [OUTPUT], "last"),
    ]
    ends = [helper.make_tensor_value_info(name, FLOAT, ["batch", 1, 4, 4]) for name in (INPUT, OUTPUT)]
    stored = [
        numpy_helper.from_array(np.array(number, np.float32), "scale"),
        numpy_helper.from_array(np.array(0, np.int8), "zero"),
    ]
    graph = helper.make_graph(nodes, "pair", ends[:1], ends[1:], stored)
    return helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 18)])


def test_a_weight_that_overflows_fp16_is_refused(
    compact_file: Path, tmp_path: Path, edited: Callable[..., Path]
) -> None:
    convolution = Model(compact_file).of_type("Conv")[0]
    source = edited(compact_file, lambda model: scale(model, convolution.input[1], 1e7))
    wanted = rf"{re.escape(convolution.input[1])} holds .* FP16 .*keep_float"
    with pytest.raises(ModelError, match=wanted):
        to_strongly_typed(source, tmp_path / "model.onnx")
    to_strongly_typed(source, tmp_path / "model.onnx", keep_float=[convolution.name])


def test_an_unknown_node_to_keep_is_refused(compact_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="keep_float names 'encoder', which is no node"):
        to_strongly_typed(compact_file, tmp_path / "model.onnx", keep_float=["encoder"])


def test_another_opset_is_refused(compact_file: Path, tmp_path: Path, edited: Callable[..., Path]) -> None:
    source = edited(compact_file, lambda model: setattr(model.opset_import[0], "version", 21))
    with pytest.raises(ModelError, match="opset 21; 18 or 19 wanted"):
        to_strongly_typed(source, tmp_path / "model.onnx")


def test_equal_sources_give_equal_bytes_without_a_word_of_the_machine(
    int8_file: Path, tmp_path: Path, edited: Callable[..., Path]
) -> None:
    def talk(model: onnx.ModelProto) -> None:
        model.doc_string = model.graph.doc_string = model.graph.node[0].doc_string = "/home/someone/secret"
        model.graph.input[0].doc_string = model.graph.initializer[0].doc_string = "/home/someone/secret"
        model.metadata_props.add(key="/home/someone/secret", value="/home/someone/secret")
        model.graph.node[0].metadata_props.add(key="place", value="/home/someone/secret")

    to_strongly_typed(int8_file, tmp_path / "one.onnx")
    to_strongly_typed(edited(int8_file, talk), tmp_path / "made" / "two.onnx")
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "made" / "two.onnx").read_bytes()
