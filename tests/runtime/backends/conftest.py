"""A machine with stand-ins for NVIDIA's driver and TensorRT, for code that no machine without a GPU runs otherwise."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

_STANDIN = Path(__file__).parent / "standin"
Execute = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def no_driver() -> None:
    """Skip aloud where an NVIDIA driver answers."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return
    pytest.skip("not run: this machine has an NVIDIA driver")


@pytest.fixture(scope="session")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Execute:
    """Run Python statements in a process that finds the stand-ins; keywords are environment variables.

    PYCUDA=1 adds the stand-in for PyCUDA; without, memory goes through the real cuda-python.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("not run: no C compiler for the stand-in of NVIDIA's driver")
    folder = tmp_path_factory.mktemp("standin")
    library = folder / "libcuda.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, _STANDIN / "libcuda.c", "-ldl"], check=True)

    def execute(statements: str, **variables: str) -> subprocess.CompletedProcess[str]:
        paths = [str(_STANDIN), *([str(_STANDIN / "with_pycuda")] if "PYCUDA" in variables else [])]
        environment = os.environ | {"LD_LIBRARY_PATH": str(folder), "PYTHONPATH": os.pathsep.join(paths)} | variables
        command = [sys.executable, "-c", statements]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    return execute


@pytest.fixture(scope="session")
def tensorrt_folder(tmp_path_factory: pytest.TempPathFactory, write_tensorrt_recipe: Callable[..., None]) -> Path:
    """A folder as a bundle's `tensorrt`: two networks of float32 ends and FP16 between, and their recipe."""
    folder = tmp_path_factory.mktemp("tensorrt")
    files = {"fp16": "model.fp16.onnx", "int8": "model.int8-fp16.onnx"}
    for seed, file in enumerate(files.values(), start=1):
        onnx.save(_network(seed), folder / file)
    write_tensorrt_recipe(folder, (4, 32, 32), files)
    return folder


def _network(seed: int) -> onnx.ModelProto:
    """Two convolutions; the thresholded mask is a second output."""
    import numpy as np

    random = np.random.default_rng(seed)
    weights = {"first.weight": (16, 4, 3, 3), "second.weight": (1, 16, 1, 1)}
    values = {name: (random.standard_normal(shape) / 6).astype(np.float16) for name, shape in weights.items()}
    nodes = [
        helper.make_node("Cast", ["input"], ["half"], "to-half", to=TensorProto.FLOAT16),
        helper.make_node("Conv", ["half", "first.weight"], ["features"], "first", pads=[1] * 4),
        helper.make_node("Relu", ["features"], ["active"], "relu"),
        helper.make_node("Conv", ["active", "second.weight"], ["out"], "second"),
        helper.make_node("Cast", ["out"], ["logits"], "to-float", to=TensorProto.FLOAT),
        helper.make_node("Sign", ["logits"], ["sign"], "sign"),
        helper.make_node("Relu", ["sign"], ["ones"], "threshold"),
        helper.make_node("Cast", ["ones"], ["mask"], "to-mask", to=TensorProto.UINT8),
    ]
    graph = helper.make_graph(
        nodes,
        "two-convolutions",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 4, 32, 32])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1, 32, 32]),
            helper.make_tensor_value_info("mask", TensorProto.UINT8, ["batch", 1, 32, 32]),
        ],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
