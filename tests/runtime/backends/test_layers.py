"""The layer-precision report: which layers each engine really runs in which precision, and what they weigh."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import openvino
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from tumortrace_runtime.backends import load_backend
from tumortrace_runtime.backends.backend import (
    Layer,
    count_precisions,
    layer_report,
    layers_that_ran,
    mac_share,
    most_macs,
)
from tumortrace_runtime.bundle import open_bundle

SIDE = 32
EACH_BACKEND = pytest.mark.parametrize("name", ["onnxruntime", "openvino"])

# Name, kind, and multiply-accumulates by hand: weights times the pixels that each is used at.
LAYERS = [
    ("first", "Conv", (16 * 4 * 3 * 3) * (32 * 32)),
    ("down", "Conv", (32 * 16 * 3 * 3) * (16 * 16)),
    ("groups", "Conv", (32 * 16 * 3 * 3) * (16 * 16)),
    ("up", "ConvTranspose", (32 * 16 * 2 * 2) * (16 * 16)),
    ("mix", "MatMul", (32 * 32) * (16 * 32)),
    ("head", "Conv", (3 * 16 * 1 * 1) * (32 * 32)),
]
SHAPES = {
    "first.weight": (16, 4, 3, 3),
    "first.bias": (16,),
    "down.weight": (32, 16, 3, 3),
    "groups.weight": (32, 16, 3, 3),
    "up.weight": (32, 16, 2, 2),
    "up.bias": (16,),
    "mix.weight": (32, 32),
    "head.weight": (3, 16, 1, 1),
    "head.bias": (3,),
}


def network() -> onnx.ModelProto:
    """A layer of every kind, with padding, stride, groups, a bias or none, and channels that fill no register."""
    random = np.random.default_rng(7)
    nodes = [
        helper.make_node("Conv", ["image", "first.weight", "first.bias"], ["a"], "first", pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("Conv", ["b", "down.weight"], ["c"], "down", pads=[1] * 4, strides=[2, 2]),
        helper.make_node("Conv", ["c", "groups.weight"], ["d"], "groups", pads=[1] * 4, group=2),
        helper.make_node("ConvTranspose", ["d", "up.weight", "up.bias"], ["e"], "up", strides=[2, 2]),
        helper.make_node("MatMul", ["e", "mix.weight"], ["f"], "mix"),
        helper.make_node("Conv", ["f", "head.weight", "head.bias"], ["logits"], "head"),
    ]
    graph = helper.make_graph(
        nodes,
        "every-kind",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 4, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [numpy_helper.from_array(random.standard_normal(shape, np.float32) / 8, key) for key, shape in SHAPES.items()],
    )
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


class Batches(CalibrationDataReader):  # type: ignore[misc]
    """One calibration batch."""

    def __init__(self) -> None:
        image = np.random.default_rng(1).standard_normal((2, 4, SIDE, SIDE), np.float32)
        self.batches = iter([{"image": image}])

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        return next(self.batches, None)


Model = Callable[[str, str], Path]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Gives the file of `network` for an engine, with the convolutions of the names given quantised ("" for none)."""
    folder = tmp_path_factory.mktemp("layers")
    onnx.save(network(), folder / "model.onnx")

    def make(engine: str, quantised: str) -> Path:
        if not quantised:
            return folder / "model.onnx"
        file = folder / f"{quantised.replace(' ', '-')}.onnx"
        if not file.exists():
            quantise(folder / "model.onnx", file, quantised.split())
            openvino.save_model(openvino.convert_model(file), file.with_suffix(".xml"), compress_to_fp16=True)
        return file if engine == "onnxruntime" else file.with_suffix(".xml")

    return make


def quantise(source: Path, path: Path, names: list[str]) -> None:
    quantize_static(
        source,
        path,
        Batches(),
        quant_format=QuantFormat.QDQ,
        nodes_to_quantize=names,
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
    )


@EACH_BACKEND
def test_layers_have_the_names_of_the_model_and_the_macs_of_one_slice(name: str, model: Model) -> None:
    with load_backend(name, model(name, ""), precision="fp32") as backend:
        assert [(layer.name, layer.kind, layer.macs) for layer in backend.layers] == LAYERS
        assert backend.layer_precisions == {"fp32": 6}
        assert backend.executed_precision == "fp32"


@EACH_BACKEND
@pytest.mark.parametrize("quantised", ["first down groups", "down groups", "first"])
def test_each_layer_has_the_precision_that_it_ran_in(name: str, quantised: str, model: Model) -> None:
    with load_backend(name, model(name, quantised), precision="int8") as backend:
        assert [(layer.name, layer.kind, layer.macs) for layer in backend.layers] == LAYERS
        assert ran_in(backend.layers, "int8") == quantised.split()
        assert ran_in(backend.layers, "fp32") == [layer for layer, *_ in LAYERS if layer not in quantised.split()]
        assert backend.layer_precisions == count_precisions(backend.layers)


def test_a_quantised_layer_that_an_engine_computes_in_float_is_told(model: Model) -> None:
    """ONNX Runtime has no INT8 transposed convolution: it dequantises."""
    with load_backend("onnxruntime", model("onnxruntime", "groups up"), precision="int8") as backend:
        assert ran_in(backend.layers, "int8") == ["groups"]
    with load_backend("openvino", model("openvino", "groups up"), precision="int8") as backend:
        assert ran_in(backend.layers, "int8") == ["groups", "up"]


@EACH_BACKEND
@pytest.mark.parametrize(("quantised", "executed"), [("down groups", "int8"), ("first up", "fp32")])
def test_the_executed_precision_is_that_of_the_most_work(
    name: str, quantised: str, executed: str, model: Model
) -> None:
    macs = {layer: work for layer, _, work in LAYERS}
    with load_backend(name, model(name, quantised), precision="int8") as backend:
        assert backend.executed_precision == executed
        in_int8 = sum(macs[layer] for layer in ran_in(backend.layers, "int8"))
        assert mac_share(backend.layers, "int8") == in_int8 / sum(macs.values())


@EACH_BACKEND
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_u_net_is_reported_as_pytorch_runs_it(name: str, precision: str, tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    model_path, taken = bundle.artefact(name, precision), bundle.integer_input(name, precision)
    expected = macs_by_pytorch()
    if (name, precision) == ("openvino", "int8"):  # its head is a 4 x 4 convolution with a 3 x 3 window per pixel
        expected["head"] = expected["head"] * 16 // 9
    with load_backend(name, model_path, precision=precision, integer_input=taken) as backend:
        assert {layer.name: layer.macs for layer in backend.layers} == expected
        assert {layer.kind for layer in backend.layers} == {"Conv"}
        assert "unknown" not in backend.layer_precisions


def macs_by_pytorch() -> dict[str, int]:
    """Of each convolution of the tiny bundle's network, by the sizes that pass through it."""
    import torch

    from tumortrace.model import build_model, family_config

    network = build_model(family_config("unet-xs", 9)).eval()
    counts = {}
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(
                lambda module, _, result, name=name: counts.update({name: module.weight.numel() * result[0, 0].numel()})
            )
    with torch.no_grad():
        network(torch.zeros(1, 9, 64, 64))
    return counts


def ran_in(layers: Sequence[Layer], precision: str) -> list[str]:
    return [layer.name for layer in layers if layer.precision == precision]


FIRST, SECOND, HEAD = (Layer(name, "Conv", "unknown", macs) for name, macs in (("a", 60), ("b", 30), ("c", 10)))
KNOWN = [("a", FIRST), ("b", SECOND), ("c", HEAD)]


@pytest.mark.parametrize(
    ("kernels", "precisions"),
    [
        ([("a", "int8"), ("b", "int8"), ("c", "fp32")], ["int8", "int8", "fp32"]),
        ([("c", "fp32"), ("x", "int8"), ("y", "int8")], ["int8", "int8", "fp32"]),
        ([("c", "fp32"), ("x", "int8"), ("y", "fp32")], ["unknown", "unknown", "fp32"]),
        ([("c", "fp32"), ("x", "int8")], ["unknown", "unknown", "fp32"]),
        ([], ["unknown", "unknown", "unknown"]),
    ],
)
def test_a_renamed_layer_gets_a_precision_only_where_there_is_no_doubt(
    kernels: list[tuple[str, str]], precisions: list[str]
) -> None:
    layers = layers_that_ran(KNOWN, kernels)
    assert [layer.precision for layer in layers] == precisions
    assert [(layer.name, layer.macs) for layer in layers] == [("a", 60), ("b", 30), ("c", 10)]


def test_the_wider_of_two_precisions_with_as_much_work_is_told() -> None:
    layers = [Layer("a", "Conv", "int8", 50), Layer("b", "Conv", "bf16", 20), Layer("c", "Conv", "bf16", 30)]
    assert most_macs(layers) == "bf16"
    assert mac_share(layers, "int8") == mac_share(layers, "bf16") == 0.5
    assert mac_share(layers, "fp32") == 0.0


def test_a_model_without_layers_has_no_precision() -> None:
    assert most_macs([]) == "unknown"
    assert count_precisions([]) == {}
    assert layer_report([]) == {"layers": [], "int8_mac_share": 0.0}


def test_the_report_is_json() -> None:
    layers = [Layer("a", "Conv", "int8", 300), Layer("b", "ConvTranspose", "fp32", 100)]
    assert json.loads(json.dumps(layer_report(layers))) == {
        "layers": [
            {"name": "a", "kind": "Conv", "precision": "int8", "macs": 300},
            {"name": "b", "kind": "ConvTranspose", "precision": "fp32", "macs": 100},
        ],
        "int8_mac_share": 0.75,
    }
