from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import numpy_helper
from torch import nn

from tumortrace.checkpoint import Checkpoint
from tumortrace.predict import network_runner
from tumortrace_export.openvino_ir import write_ir
from tumortrace_export.quantise import quantise
from tumortrace_runtime.backends import load_backend
from tumortrace_runtime.errors import OutputError

Floats = npt.NDArray[np.float32]
Batches = Callable[[], Iterator[Floats]]


class Graph:
    """A quantised model, to be looked into."""

    def __init__(self, path: Path) -> None:
        graph = onnx.load(path).graph
        self.nodes = list(graph.node)
        self.output = graph.output[0].name
        self.values = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
        self.producers = {name: node for node in graph.node for name in node.output}

    def of_type(self, *types: str) -> list[onnx.NodeProto]:
        return [node for node in self.nodes if node.op_type in types]


@pytest.fixture(scope="module")
def graph(int8_file: Path) -> Graph:
    return Graph(int8_file)


@pytest.fixture(scope="module")
def reference(checkpoint: Checkpoint, slices: Floats) -> Floats:
    return network_runner(checkpoint.network())(slices)


@pytest.fixture(scope="module")
def by_onnxruntime(int8_file: Path, slices: Floats) -> Floats:
    with load_backend("onnxruntime", int8_file, precision="int8") as backend:
        return backend.run(slices)


def test_every_zero_point_is_0(graph: Graph) -> None:
    zero_points = [graph.values[node.input[2]] for node in graph.of_type("QuantizeLinear", "DequantizeLinear")]
    assert len(zero_points) > 40
    assert all(points.dtype == np.int8 for points in zero_points)
    assert not any(points.any() for points in zero_points)


def test_weights_are_int8_per_channel_and_use_the_whole_range(graph: Graph) -> None:
    convolutions = graph.of_type("Conv")
    assert len(convolutions) == 11
    for convolution in convolutions:
        dequantise = graph.producers[convolution.input[1]]
        weights, scales = (graph.values[name] for name in dequantise.input[:2])
        assert dequantise.op_type == "DequantizeLinear"
        assert weights.dtype == np.int8
        assert scales.shape == (len(weights),)
        assert next(item.i for item in dequantise.attribute if item.name == "axis") == 0
        assert (np.abs(weights.astype(int)).max(axis=(1, 2, 3)) == 127).all()


def test_activations_are_int8_with_one_scale(graph: Graph) -> None:
    quantised = graph.of_type("QuantizeLinear")
    assert quantised
    for node in quantised:
        assert graph.values[node.input[1]].shape == ()
        assert graph.values[node.input[1]] > 0
    for convolution in graph.of_type("Conv", "Add", "Resize"):
        assert graph.producers[convolution.input[0]].op_type == "DequantizeLinear"


def test_a_bias_stays_float(graph: Graph) -> None:
    for convolution in graph.of_type("Conv"):
        assert graph.values[convolution.input[2]].dtype == np.float32
    sources = [node.input[0] for node in graph.of_type("DequantizeLinear") if node.input[0] in graph.values]
    stored = {graph.values[name].dtype for name in sources}
    assert stored == {np.dtype(np.int8)}  # TensorRT takes no int32


def test_what_enters_a_relu_has_the_scale_of_what_leaves_it(graph: Graph) -> None:
    scales = {node.input[0]: node.input[1] for node in graph.of_type("QuantizeLinear")}
    relus = graph.of_type("Relu")
    assert len(relus) == 8
    for relu in relus:
        dequantise = graph.producers[relu.input[0]]
        quantise_node = graph.producers[dequantise.input[0]]
        assert dequantise.input[1] == quantise_node.input[1] == scales[relu.output[0]]


def test_logits_are_not_rounded(graph: Graph, by_onnxruntime: Floats) -> None:
    shuffle = graph.producers[graph.output]
    assert shuffle.op_type == "DepthToSpace"
    assert graph.producers[shuffle.input[0]].op_type == "Conv"
    assert len(np.unique(by_onnxruntime)) > 1000  # of int8, 256


def test_nothing_is_stored_that_is_not_used(graph: Graph) -> None:
    assert set(graph.values) == {name for node in graph.nodes for name in node.input} & set(graph.values)


def test_ranges_reach_to_the_rarest_value(onnx_file: Path, calibration: Batches, tmp_path: Path) -> None:
    *batches, last = calibration()
    last = last.copy()
    last[0, 4, 30, 30] = 50.0
    quantise(onnx_file, [*batches, last], tmp_path / "model.onnx")
    first = next(node for node in Graph(tmp_path / "model.onnx").nodes if node.op_type == "QuantizeLinear")
    assert Graph(tmp_path / "model.onnx").values[first.input[1]] == pytest.approx(50.0 / 127, rel=0.01)


def test_int8_logits_are_near_those_of_fp32(by_onnxruntime: Floats, reference: Floats) -> None:
    spread = float(np.ptp(reference))
    error = np.abs(by_onnxruntime - reference)
    assert spread > 3
    assert error.mean() < 0.01 * spread
    assert error.max() < 0.1 * spread
    assert ((by_onnxruntime > 0) != (reference > 0)).mean() < 0.005


def test_both_engines_compute_the_same_int8(
    int8_file: Path, slices: Floats, by_onnxruntime: Floats, reference: Floats, tmp_path: Path
) -> None:
    """Within 2 % of the logits' spread at every pixel."""
    write_ir(int8_file, tmp_path / "model.xml")
    with load_backend("openvino", tmp_path / "model.xml", precision="int8") as backend:
        by_openvino = backend.run(slices)
        assert backend.layer_precisions == {"int8": 11}

    assert np.abs(by_openvino - by_onnxruntime).max() < 0.02 * np.ptp(reference)


def test_equal_sources_give_equal_bytes(onnx_file: Path, int8_file: Path, calibration: Batches, tmp_path: Path) -> None:
    quantise(onnx_file, calibration(), tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == int8_file.read_bytes()
    for name in ("one", "two"):
        write_ir(int8_file, tmp_path / f"{name}.xml")
    for suffix in (".xml", ".bin"):
        assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()


def test_an_ir_that_the_disk_has_no_room_for_is_refused(int8_file: Path, tmp_path: Path, files_of_at_most: Any) -> None:
    with files_of_at_most(50_000), pytest.raises(OutputError, match=r"model\.xml: cannot be written"):
        write_ir(int8_file, tmp_path / "model.xml")


def test_logging_is_as_it_was(onnx_file: Path, calibration: Batches, tmp_path: Path) -> None:
    assert logging.root.manager.disable == logging.NOTSET
    with pytest.raises(RuntimeError):
        raise_through_quantise(onnx_file, tmp_path)
    assert logging.root.manager.disable == logging.NOTSET


def raise_through_quantise(source: Path, folder: Path) -> None:
    def broken() -> Iterator[Floats]:
        raise RuntimeError
        yield

    quantise(source, broken(), folder / "model.onnx")


def test_the_classic_network_is_quantised_too(classic: nn.Module, classic_file: Path, tmp_path: Path) -> None:
    batches = np.random.default_rng(0).standard_normal((4, 1, 2, 32, 48)).astype(np.float32)
    quantise(classic_file, batches, tmp_path / "model.onnx")

    graph = Graph(tmp_path / "model.onnx")
    assert graph.producers[graph.output].op_type == "Conv"
    convolutions = graph.of_type("Conv", "ConvTranspose")
    assert {node.op_type for node in convolutions} == {"Conv", "ConvTranspose"}
    for node in convolutions:
        assert graph.values[graph.producers[node.input[1]].input[0]].dtype == np.int8
    expected = network_runner(classic)(batches[0])
    with load_backend("onnxruntime", tmp_path / "model.onnx", precision="int8") as backend:
        assert np.abs(backend.run(batches[0]) - expected).mean() < 0.03 * np.ptp(expected)
