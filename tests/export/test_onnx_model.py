from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from tumortrace.checkpoint import Checkpoint
from tumortrace.model import build_model
from tumortrace.predict import TorchNetwork
from tumortrace_export.onnx_model import INPUT, OPSET, OUTPUT, onnx_model, save_onnx
from tumortrace_export.tensorrt_model import to_strongly_typed
from tumortrace_runtime.errors import CheckpointError

CHECKOUT = Path(__file__).resolve().parents[2]


def run_onnx(path: Path, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {INPUT: batch})
    return np.asarray(logits)


@pytest.fixture(scope="module")
def fp16_file(onnx_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fp16") / "model.fp16.onnx"
    to_strongly_typed(onnx_file, path)
    return path


def test_logits_are_pytorchs(onnx_file: Path, checkpoint: Checkpoint, slices: npt.NDArray[np.float32]) -> None:
    expected = TorchNetwork(checkpoint.network()).run(slices)
    assert np.abs(expected).max() > 3
    np.testing.assert_allclose(run_onnx(onnx_file, slices), expected, atol=1e-4)


@pytest.mark.parametrize("count", [1, 3])
def test_the_batch_is_dynamic(count: int, onnx_file: Path, slices: npt.NDArray[np.float32]) -> None:
    logits = run_onnx(onnx_file, slices[:count])
    assert logits.shape == (count, 1, 64, 64)
    np.testing.assert_allclose(logits, run_onnx(onnx_file, slices)[:count], atol=1e-4)


def test_the_contract_of_input_and_output(onnx_file: Path) -> None:
    model = onnx.load(onnx_file)
    onnx.checker.check_model(model, full_check=True)
    (given,), (taken,) = model.graph.output, model.graph.input

    assert (taken.name, given.name) == (INPUT, OUTPUT)
    assert [taken.type.tensor_type.elem_type, given.type.tensor_type.elem_type] == [onnx.TensorProto.FLOAT] * 2
    assert [dimension.dim_value for dimension in taken.type.tensor_type.shape.dim][1:] == [9, 64, 64]
    assert taken.type.tensor_type.shape.dim[0].dim_param
    assert {item.domain: item.version for item in model.opset_import} == {"": OPSET}


def test_what_folds_is_folded_and_convolutions_have_their_names(onnx_file: Path, checkpoint: Checkpoint) -> None:
    nodes = onnx.load(onnx_file).graph.node
    assert "BatchNormalization" not in {node.op_type for node in nodes}
    convolutions = {name for name, module in checkpoint.network().named_modules() if isinstance(module, nn.Conv2d)}
    assert {node.name for node in nodes if node.op_type == "Conv"} == convolutions


def test_nothing_of_this_machine_is_in_the_file(onnx_file: Path, fp16_file: Path, int8_file: Path) -> None:
    for file in (onnx_file, fp16_file, int8_file):
        content = file.read_bytes()
        for trace in (str(CHECKOUT), sys.prefix, str(Path.home()), 'File "', ".py", "site-packages", "stack_trace"):
            assert trace.encode() not in content, (file.name, trace)


def test_equal_networks_give_equal_bytes(
    onnx_file: Path, fp16_file: Path, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    torch.manual_seed(5)
    build_model(checkpoint.model)  # what else the process did must not matter
    again = tmp_path / "again.onnx"
    save_onnx(onnx_model(checkpoint.network(), checkpoint.model.in_channels, checkpoint.preprocessing.grid_px), again)
    to_strongly_typed(again, tmp_path / "again.fp16.onnx")

    assert again.read_bytes() == onnx_file.read_bytes()
    assert (tmp_path / "again.fp16.onnx").read_bytes() == fp16_file.read_bytes()


def test_fp16_keeps_float_at_its_ends_and_is_half_the_size(
    onnx_file: Path, fp16_file: Path, slices: npt.NDArray[np.float32]
) -> None:
    logits, expected = run_onnx(fp16_file, slices), run_onnx(onnx_file, slices)
    assert logits.dtype == np.float32
    assert np.abs(logits - expected).max() < 0.01 * np.abs(expected).max()

    weights = [item.data_type for item in onnx.load(fp16_file).graph.initializer if len(item.dims) == 4]
    assert set(weights) == {onnx.TensorProto.FLOAT16}
    assert fp16_file.stat().st_size < 0.55 * onnx_file.stat().st_size


def test_the_classic_network_exports_too(classic: nn.Module, classic_file: Path) -> None:
    batch = np.random.default_rng(0).standard_normal((2, 2, 32, 48)).astype(np.float32)
    logits = run_onnx(classic_file, batch)
    assert logits.shape == (2, 2, 32, 48)
    np.testing.assert_allclose(logits, TorchNetwork(classic).run(batch), atol=1e-4, rtol=1e-4)


def test_a_network_that_onnx_cannot_express_is_refused(tmp_path: Path) -> None:
    class Doubting(nn.Module):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return batch if batch.sum() > 0 else -batch  # a branch on a value

    with pytest.raises(CheckpointError, match="the network cannot be written as ONNX"):
        save_onnx(onnx_model(Doubting(), 1, (16, 16)), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
