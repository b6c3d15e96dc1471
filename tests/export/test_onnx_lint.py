"""What the exporter writes passes the lint; each fault is refused with what has it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from tumortrace.model import ModelConfig, build_model
from tumortrace_export.onnx_lint import lint
from tumortrace_export.onnx_model import OUTPUT, onnx_model, save_onnx
from tumortrace_export.quantise import activations, quantise
from tumortrace_export.tensorrt_model import to_strongly_typed
from tumortrace_runtime.errors import ModelError

Change = Callable[[ModelProto], object]

FIRST_Q = "relu_QuantizeLinear"
WEIGHTS_DQ = "encoder.1.0.0.weight_DequantizeLinear"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, classic_file: Path) -> Path:
    """Small U-Nets of both architectures as they are written for every engine."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    network = build_model(ModelConfig("compact", in_channels=2, classes=1, widths=(16, 32), stem=2))
    save_onnx(onnx_model(network.eval(), 2, (32, 48)), folder / "compact.onnx")
    (folder / "classic.onnx").write_bytes(classic_file.read_bytes())
    for name in ("compact", "classic"):
        model = onnx.load(folder / f"{name}.onnx")
        onnx.save(quantise(model, dict.fromkeys(activations(model), 6.0)), folder / f"{name}.int8.onnx")
        to_strongly_typed(folder / f"{name}.onnx", folder / f"{name}.fp16.onnx")
        to_strongly_typed(folder / f"{name}.int8.onnx", folder / f"{name}.int8-fp16.onnx")
    return folder


@pytest.fixture
def changed(folder: Path, tmp_path: Path) -> Callable[[str, Change], Path]:
    """Writes a changed copy of a model."""

    def change(name: str, fault: Change) -> Path:
        model = onnx.load(folder / name)
        fault(model)
        path = tmp_path / name
        path.write_bytes(model.SerializeToString())
        return path

    return change


def node(model: ModelProto, name: str) -> NodeProto:
    found: NodeProto
    (found,) = (item for item in model.graph.node if item.name == name)
    return found


def store(model: ModelProto, name: str, values: npt.NDArray[np.generic]) -> None:
    for item in [item for item in model.graph.initializer if item.name == name]:
        model.graph.initializer.remove(item)
    model.graph.initializer.append(numpy_helper.from_array(values, name))


def stored(model: ModelProto, name: str) -> npt.NDArray[np.generic]:
    (found,) = (item for item in model.graph.initializer if item.name == name)
    return numpy_helper.to_array(found)


def rename_batch(model: ModelProto, size: int) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = size


def free_rows(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "rows"


def external(model: ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    tensor.ClearField("raw_data")


def custom(model: ModelProto) -> None:
    node(model, "node_relu").domain = "com.example"
    model.opset_import.add(domain="com.example", version=1)


def output_of_type(model: ModelProto, kind: int) -> None:
    model.graph.node.append(helper.make_node("Cast", [OUTPUT], ["last"], "last", to=kind))
    output = model.graph.output[0]
    output.name, output.type.tensor_type.elem_type = "last", kind


@pytest.mark.parametrize("form", ["", ".int8", ".fp16", ".int8-fp16"])
@pytest.mark.parametrize("network", ["compact", "classic"])
def test_what_is_exported_passes(network: str, form: str, folder: Path) -> None:
    lint(folder / f"{network}{form}.onnx", tensorrt=True)


FAULTS: dict[str, tuple[Change, str]] = {
    "external data": (external, r"tensor \S+ lies in another file"),
    "path in a doc string": (
        lambda model: setattr(model.graph.node[0], "doc_string", 'File "/home/me/net.py", line 3'),
        r"node node_\w+ \(doc_string\) names '/home/me/net.py'",
    ),
    "Windows path in metadata": (
        lambda model: model.metadata_props.add(key="source", value=r"C:\Users\me\net.onnx"),
        r"the model \(metadata\) names 'C:",
    ),
    "source file at a tensor": (
        lambda model: setattr(model.graph.initializer[0], "doc_string", "see tumortrace/model.py"),
        r"tensor \S+ \(doc_string\) names 'tumortrace/model\.py'",
    ),
    "custom domain": (custom, r"node node_relu: Relu of domain 'com\.example'; only ONNX's own"),
    "unknown operator": (
        lambda model: setattr(node(model, "node_relu"), "op_type", "Tanh"),
        r"node node_relu: operator Tanh; wanted are Add, ",
    ),
    "no name": (lambda model: setattr(node(model, "node_relu"), "name", ""), r"the Relu that makes relu .* no name"),
    "one name twice": (
        lambda model: setattr(node(model, "node_relu"), "name", "head"),
        r"two nodes are called head",
    ),
    "rows of any number": (free_rows, r"input has the shape \(batch, 2, rows, 48\); fixed sizes wanted"),
    "one batch size": (lambda model: rename_batch(model, 4), r"input input has the shape \(4, 2, 32, 48\); \(batch,"),
    "invalid": (
        lambda model: node(model, "node_relu").input.__setitem__(0, "nothing"),
        r"is not valid ONNX \(.*nothing",
    ),
}


@pytest.mark.parametrize("tensorrt", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_refused(fault: str, tensorrt: bool, changed: Callable[[str, Change], Path]) -> None:
    change, message = FAULTS[fault]
    with pytest.raises(ModelError, match=rf"compact\.onnx: {message}"):
        lint(changed("compact.onnx", change), tensorrt=tensorrt)


def zero_point(value: int, kind: type[np.generic]) -> Change:
    return lambda model: store(model, node(model, FIRST_Q).input[2], np.array(value, kind))


def quantised_bias(model: ModelProto) -> None:
    head = node(model, "head")
    shape = stored(model, head.input[2]).shape
    store(model, "bias", np.ones(shape, np.int32))
    store(model, "bias_scale", np.full(shape, 0.01, np.float32))
    store(model, "bias_zero", np.zeros(shape, np.int32))
    inputs = ["bias", "bias_scale", "bias_zero"]
    model.graph.node.insert(0, helper.make_node("DequantizeLinear", inputs, ["float_bias"], "bias_dq", axis=0))
    head.input[2] = "float_bias"


def scale_for_all_channels(model: ModelProto) -> None:
    dequantise = node(model, WEIGHTS_DQ)
    store(model, dequantise.input[1], np.array(0.01, np.float32))
    store(model, dequantise.input[2], np.array(0, np.int8))


def scales_along(name: str, axis: int) -> Change:
    def change(model: ModelProto) -> None:
        dequantise = node(model, name)
        channels = stored(model, dequantise.input[0]).shape[axis]
        store(model, dequantise.input[1], np.full(channels, 0.01, np.float32))
        store(model, dequantise.input[2], np.zeros(channels, np.int8))
        dequantise.attribute[0].i = axis

    return change


def half_a_pair(model: ModelProto) -> None:
    """The mask of what the integers of an activation are, straight to the output."""
    integers = node(model, FIRST_Q).output[0]
    store(model, "three", np.array(3, np.int8))
    model.graph.node.append(helper.make_node("Greater", [integers, "three"], ["above"], "above"))
    model.graph.node.append(helper.make_node("Cast", ["above"], ["mask"], "mask", to=TensorProto.UINT8))
    model.graph.output.append(helper.make_tensor_value_info("mask", TensorProto.UINT8, ["batch", 16, 16, 24]))


def no_zero_point(model: ModelProto) -> None:
    """Which makes the integers of ONNX's default type, uint8."""
    for name in (FIRST_Q, "relu_DequantizeLinear"):
        node(model, name).input.pop()


def another_scale_behind(model: ModelProto) -> None:
    store(model, "other_scale", np.array(0.5, np.float32))
    node(model, "relu_DequantizeLinear").input[1] = "other_scale"


def float_weights_quantised(model: ModelProto) -> None:
    dequantise = node(model, WEIGHTS_DQ)
    scale, zero = dequantise.input[1], dequantise.input[2]
    store(model, "weights", stored(model, dequantise.input[0]).astype(np.float32))
    model.graph.node.insert(0, helper.make_node("QuantizeLinear", ["weights", scale, zero], ["w"], "weights_q", axis=0))
    dequantise.input[0] = "w"


def int8_bias(model: ModelProto) -> None:
    quantised_bias(model)
    for name in ("bias", "bias_zero"):
        store(model, name, stored(model, name).astype(np.int8))


def scales_for_activations(model: ModelProto) -> None:
    store(model, "scales", np.full(16, 0.01, np.float32))
    store(model, "zeros", np.zeros(16, np.int8))
    for name in (FIRST_Q, "relu_DequantizeLinear"):
        node(model, name).input[1:] = ["scales", "zeros"]


INT8_FAULTS: dict[str, tuple[Change, str]] = {
    "zero point": (zero_point(3, np.int8), rf"node {FIRST_Q}: the zero point \S+ is not 0 everywhere"),
    "unsigned": (zero_point(0, np.uint8), rf"node {FIRST_Q}: the zero point \S+ is no stored int8"),
    "no zero point": (no_zero_point, rf"node {FIRST_Q}: the zero point '' is no"),
    "quantised bias": (
        quantised_bias,
        r"node bias_dq: dequantises bias, which is INT32; int8 wanted, and a float bias",
    ),
    "int8 bias": (int8_bias, r"node bias_dq: feeds head \(Conv\); only weights"),
    "weights per tensor": (scale_for_all_channels, rf"node {WEIGHTS_DQ}: .* 32 along axis 0 wanted"),
    "axis of the inputs": (scales_along(WEIGHTS_DQ, 1), rf"node {WEIGHTS_DQ}: .* 32 along axis 0 wanted"),
    "half a pair": (half_a_pair, rf"node {FIRST_Q}: is not followed by DequantizeLinear alone"),
    "two scales in a pair": (another_scale_behind, rf"node {FIRST_Q}: its scale \S+ is not that of relu_DequantizeL"),
    "float weights": (float_weights_quantised, r"node weights_q: quantises the constant weights; stored int8 wanted"),
    "negative scale": (
        lambda model: store(model, node(model, FIRST_Q).input[1], np.array(-0.5, np.float32)),
        rf"node {FIRST_Q}: the scale \S+ holds -0\.5; finite numbers above 0",
    ),
    "activations per channel": (
        scales_for_activations,
        rf"node {FIRST_Q}: the scale scales has 16 numbers; one wanted",
    ),
    "new opset": (lambda model: setattr(model.opset_import[0], "version", 21), "opset 21; at most 19 wanted"),
    "Int64": (lambda model: output_of_type(model, TensorProto.INT64), "output last is INT64; one of FLOAT, UINT8"),
}


@pytest.mark.parametrize("fault", INT8_FAULTS)
def test_what_tensorrt_does_not_take_is_refused_for_it(fault: str, changed: Callable[[str, Change], Path]) -> None:
    change, message = INT8_FAULTS[fault]
    path = changed("compact.int8.onnx", change)
    lint(path, tensorrt=False)
    with pytest.raises(ModelError, match=rf"compact\.int8\.onnx: {message}"):
        lint(path, tensorrt=True)


def test_transposed_convolution_has_its_channels_on_the_other_axis(changed: Callable[[str, Change], Path]) -> None:
    path = changed("classic.int8.onnx", scales_along("upsample.0.weight_DequantizeLinear", 0))
    with pytest.raises(ModelError, match=r"per output channel of upsample\.0; 16 along axis 1 wanted"):
        lint(path, tensorrt=True)


def test_half_precision_scales_need_opset_19(changed: Callable[[str, Change], Path]) -> None:
    path = changed("compact.int8-fp16.onnx", lambda model: setattr(model.opset_import[0], "version", 18))
    with pytest.raises(ModelError, match="is not valid ONNX"):
        lint(path, tensorrt=True)


@pytest.mark.parametrize("text", ["https://onnx.ai/docs/ops", "pytorch 2.13.0+cpu", "encoder/0 and/or 1"])
def test_text_that_names_no_place_is_let_through(text: str, changed: Callable[[str, Change], Path]) -> None:
    lint(changed("compact.onnx", lambda model: setattr(model, "doc_string", text)), tensorrt=True)


@pytest.mark.parametrize("content", [b"no model", None])
def test_what_is_no_model_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.onnx: is not an ONNX model"):
        lint(path, tensorrt=False)
