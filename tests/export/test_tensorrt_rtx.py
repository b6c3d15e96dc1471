"""NVIDIA's own ONNX parser and builder take what is exported for TensorRT, and refuse what the lint refuses.

They come from `tensorrt-rtx`, which needs neither GPU nor driver to build. It is a sibling of TensorRT with a newer
parser: what it refuses TensorRT will refuse; what it takes is no proof of speed, of layers' precisions, or for 10.3.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from tumortrace.model import ModelConfig, build_model
from tumortrace_export.onnx_lint import lint
from tumortrace_export.onnx_model import onnx_model, save_onnx
from tumortrace_export.outputs import give_mask, give_statistics
from tumortrace_export.quantise import activations, quantise
from tumortrace_export.tensorrt_model import to_strongly_typed
from tumortrace_export.tensorrt_recipe import RECIPE, write_recipe
from tumortrace_runtime.errors import ModelError

trt: Any = pytest.importorskip(
    "tensorrt_rtx", reason="NVIDIA's parser is not installed: pip install tensorrt-rtx==1.7.1.116 (230 MB, its licence)"
)

GRID = (32, 48)
NETWORKS = {
    "compact": ModelConfig("compact", in_channels=3, classes=1, widths=(16, 32, 48), stem=2),
    "classic": ModelConfig("classic", in_channels=2, classes=2, widths=(16, 32), stem=1),
}
FORMS = ("model.onnx", "model.int8.onnx", "model.fp16.onnx", "model.int8-fp16.onnx")


@dataclass(frozen=True)
class Engine:
    """What the builder made of a model: the plan's size, the output's type, and the batches that it takes."""

    size_bytes: int
    output: Any
    batches: list[int]


class RefusedError(Exception):
    """What the parser said."""


@pytest.fixture(scope="session")
def builder() -> Any:
    """One for the process: the first logger stays, whatever a second builder is given."""
    return trt.Builder(trt.Logger(trt.Logger.ERROR))


@pytest.fixture(scope="session")
def build(builder: Any) -> Callable[[Path], Engine]:
    """Parses and builds a model as a device does, with the recipe beside it."""

    def parse_and_build(path: Path) -> Engine:
        recipe = json.loads((path.parent / RECIPE).read_bytes())
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, builder.logger)
        if not parser.parse_from_file(str(path)):
            raise RefusedError("\n".join(parser.get_error(place).desc() for place in range(parser.num_errors)))
        config = builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, recipe["workspace_bytes"])
        profile = builder.create_optimization_profile()
        batches = [recipe["batch"][size] for size in ("min", "opt", "max")]
        profile.set_shape(recipe["input"], *((batch, *recipe["shape"]) for batch in batches))
        config.add_optimization_profile(profile)
        plan = builder.build_serialized_network(network, config)
        assert plan is not None, f"{path.name} was parsed, but not built"
        return Engine(plan.nbytes, network.get_output(0).dtype, [shape[0] for shape in profile.get_shape("input")])

    return parse_and_build


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both architectures in every form, with a recipe beside them."""
    folders = {name: tmp_path_factory.mktemp(name) for name in NETWORKS}
    for name, folder in folders.items():
        config = NETWORKS[name]
        fp32, int8, fp16, int8_fp16 = (folder / form for form in FORMS)
        torch.manual_seed(0)
        save_onnx(onnx_model(build_model(config), config.in_channels, GRID), fp32)
        model = onnx.load(fp32)
        onnx.save(quantise(model, dict.fromkeys(activations(model), 6.0)), int8)
        to_strongly_typed(fp32, fp16)
        to_strongly_typed(int8, int8_fp16)
        write_recipe(folder, (config.in_channels, *GRID), {"fp16": fp16.name, "int8": int8_fp16.name})
    return folders


@pytest.fixture
def changed(folders: dict[str, Path]) -> Callable[[Callable[[onnx.GraphProto], None]], Path]:
    """Writes a changed copy of the compact INT8 model for TensorRT."""

    def change(fault: Callable[[onnx.GraphProto], None]) -> Path:
        model = onnx.load(folders["compact"] / "model.int8-fp16.onnx")
        fault(model.graph)
        onnx.save(model, folders["compact"] / "changed.onnx")
        return folders["compact"] / "changed.onnx"

    return change


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("network", NETWORKS)
def test_every_form_of_the_family_is_built(
    network: str, form: str, folders: dict[str, Path], build: Callable[[Path], Engine]
) -> None:
    engine = build(folders[network] / form)
    assert engine.size_bytes > 10_000
    assert engine.output == trt.DataType.FLOAT
    assert engine.batches == [1, 4, 4]


def test_layers_kept_in_float_are_built(folders: dict[str, Path], build: Callable[[Path], Engine]) -> None:
    folder = folders["compact"]
    names = [node.name for node in onnx.load(folder / "model.onnx").graph.node if node.op_type in ("Conv", "Relu")]
    to_strongly_typed(folder / "model.int8.onnx", folder / "kept.onnx", keep_float=names[3:6])
    assert build(folder / "kept.onnx").size_bytes > 10_000


@pytest.mark.parametrize("form", ["model.onnx", "model.int8.onnx"])
@pytest.mark.parametrize("network", NETWORKS)
def test_a_mask_is_built(network: str, form: str, folders: dict[str, Path], build: Callable[[Path], Engine]) -> None:
    folder = folders[network]
    onnx.save(give_mask(onnx.load(folder / form), 0.0), folder / "mask.onnx")
    to_strongly_typed(folder / "mask.onnx", folder / "mask.fp16.onnx")
    lint(folder / "mask.fp16.onnx", tensorrt=True)
    assert build(folder / "mask.fp16.onnx").output == trt.DataType.UINT8


@pytest.mark.parametrize("network", NETWORKS)
def test_statistics_in_float_are_built(network: str, folders: dict[str, Path], build: Callable[[Path], Engine]) -> None:
    folder = folders[network]
    source = onnx.load(folder / "model.onnx")
    model = give_statistics(source)
    onnx.save(model, folder / "statistics.onnx")
    added = {node.name for node in model.graph.node} - {node.name for node in source.graph.node}
    to_strongly_typed(folder / "statistics.onnx", folder / "statistics.fp16.onnx", keep_float=added)
    lint(folder / "statistics.fp16.onnx", tensorrt=True)
    assert build(folder / "statistics.fp16.onnx").size_bytes > 10_000


def shifted(kind: str) -> Callable[[onnx.GraphProto], None]:
    """A zero point of 3 at the first node of a kind."""

    def change(graph: onnx.GraphProto) -> None:
        name = next(node.input[2] for node in graph.node if node.op_type == kind)
        item = next(item for item in graph.initializer if item.name == name)
        item.CopyFrom(numpy_helper.from_array(np.full_like(numpy_helper.to_array(item), 3), name))

    return change


def quantised_bias(graph: onnx.GraphProto) -> None:
    head = next(node for node in graph.node if node.name == "head")
    channels = next(item.dims[0] for item in graph.initializer if item.name == head.input[2])
    bias = np.ones(channels, np.int32), np.full(channels, 0.01, np.float16), np.zeros(channels, np.int32)
    names = ["bias", "bias_scale", "bias_zero"]
    graph.initializer.extend(numpy_helper.from_array(*item) for item in zip(bias, names, strict=True))
    graph.node.insert(0, helper.make_node("DequantizeLinear", names, ["float_bias"], "bias_dq", axis=0))
    head.input[2] = "float_bias"


def negative_scale(graph: onnx.GraphProto) -> None:
    name = next(node.input[1] for node in graph.node if node.op_type == "QuantizeLinear")
    item = next(item for item in graph.initializer if item.name == name)
    item.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(item), name))


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (shifted("QuantizeLinear"), "Non-zero zero point is not supported"),
        (shifted("DequantizeLinear"), "Non-zero zero point is not supported"),
        (quantised_bias, "input has type Int32"),
        (negative_scale, "Scale coefficients must all be positive"),
    ],
    ids=["shifted activation", "shifted weights", "int32 bias", "negative scale"],
)
def test_what_the_lint_refuses_nvidias_parser_refuses(
    fault: Callable[[onnx.GraphProto], None],
    reason: str,
    changed: Callable[[Callable[[onnx.GraphProto], None]], Path],
    build: Callable[[Path], Engine],
) -> None:
    path = changed(fault)
    with pytest.raises(ModelError):
        lint(path, tensorrt=True)
    with pytest.raises(RefusedError, match=reason):
        build(path)
