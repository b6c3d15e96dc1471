"""A stand-in for NVIDIA's `tensorrt`: the names that the runtime uses, an engine that ONNX Runtime computes.

It keeps the order of calls that TensorRT wants (shapes and addresses before a run, a run before a capture) and works in
the stream of the stand-in `libcuda.so.1`, so that buffers, copies and graphs are tested where there is no GPU.
STANDIN_TENSORRT sets the version: 8.6 has no strongly typed networks.
"""

from __future__ import annotations

import ctypes
import enum
import json
import os
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import onnxruntime

__version__ = os.environ.get("STANDIN_TENSORRT", "10.3.0.30")
_MAGIC = b"stand-in engine\n"
_DRIVER = ctypes.CDLL("libcuda.so.1")
_HOST_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_TYPES = {"tensor(float)": "FLOAT", "tensor(uint8)": "UINT8", "tensor(float16)": "HALF", "tensor(int8)": "INT8"}


class _Severity(enum.Enum):
    INTERNAL_ERROR, ERROR, WARNING = range(3)


class ILogger:
    Severity = _Severity
    INTERNAL_ERROR, ERROR, WARNING = _Severity


class TensorIOMode(enum.Enum):
    NONE, INPUT, OUTPUT = range(3)


class LayerType(enum.Enum):
    CONVOLUTION, DECONVOLUTION, MATRIX_MULTIPLY = range(3)


class LayerInformationFormat(enum.Enum):
    ONELINE, JSON = range(2)


class ProfilingVerbosity(enum.Enum):
    LAYER_NAMES_ONLY, NONE, DETAILED = range(3)


class MemoryPoolType(enum.Enum):
    WORKSPACE = 0


BuilderFlag = enum.Enum("BuilderFlag", "TF32 FP16 INT8" if __version__.startswith("8") else "TF32")
NetworkDefinitionCreationFlag = enum.IntEnum(
    "NetworkDefinitionCreationFlag", {"EXPLICIT_BATCH": 0} if __version__.startswith("8") else {"STRONGLY_TYPED": 1}
)


class ILayer:
    type = LayerType.CONVOLUTION
    name = "first"

    def get_input(self, _: int) -> Any:
        return SimpleNamespace(shape=(-1, 4, 32, 32))

    def get_output(self, _: int) -> Any:
        return SimpleNamespace(shape=(-1, 16, 32, 32))


class IConvolutionLayer(ILayer):
    kernel_size_nd = (3, 3)
    num_output_maps = 16
    num_groups = 1


class IDeconvolutionLayer(IConvolutionLayer):
    pass


class IMatrixMultiplyLayer(ILayer):
    pass


class Builder:
    def __init__(self, logger: ILogger) -> None:
        assert isinstance(logger, ILogger)
        self.logger = logger

    def create_network(self, flags: int) -> Any:
        assert flags == 1 << next(iter(NetworkDefinitionCreationFlag))
        return SimpleNamespace(num_layers=1, get_layer=lambda _: ILayer(), onnx=b"")

    def create_builder_config(self) -> Any:
        return _Config()

    def create_optimization_profile(self) -> Any:
        shapes: dict[str, Any] = {}
        return SimpleNamespace(shapes=shapes, set_shape=lambda name, *sizes: shapes.update({name: sizes}))

    def build_serialized_network(self, network: Any, config: _Config) -> bytes | None:
        assert BuilderFlag.TF32 not in config.flags and config.profile is not None and config.workspace
        if "STANDIN_BUILD_FAILS" in os.environ:
            self.logger.log(ILogger.Severity.ERROR, "no tactic fits.")
            return None
        about = {"flags": sorted(flag.name for flag in config.flags), "profile": config.profile.shapes}
        return _MAGIC + json.dumps(about).encode() + b"\n" + network.onnx


class _Config:
    def __init__(self) -> None:
        self.flags = {BuilderFlag.TF32}
        self.profile: Any = None
        self.workspace = 0
        self.profiling_verbosity = ProfilingVerbosity.LAYER_NAMES_ONLY
        self.set_flag, self.clear_flag = self.flags.add, self.flags.remove

    def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None:
        self.workspace = size

    def add_optimization_profile(self, profile: Any) -> int:
        self.profile = profile
        return 0

    def create_timing_cache(self, data: bytes) -> bytes:
        return data

    def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        return cache in (b"", b"measured")

    def get_timing_cache(self) -> Any:
        return SimpleNamespace(serialize=lambda: b"measured")


class OnnxParser:
    def __init__(self, network: Any, logger: ILogger) -> None:
        self.network = network

    def parse_from_file(self, path: str) -> bool:
        with open(path, "rb") as file:  # noqa: PTH123
            self.network.onnx = file.read()
        try:
            onnxruntime.InferenceSession(self.network.onnx, providers=["CPUExecutionProvider"])
        except Exception:
            return False
        return True

    num_errors = 1

    def get_error(self, _: int) -> Any:
        return SimpleNamespace(desc=lambda: "it is no network.")


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        assert isinstance(logger, ILogger)

    def deserialize_cuda_engine(self, plan: bytes) -> ICudaEngine | None:
        return ICudaEngine(plan) if plan.startswith(_MAGIC) else None


class ICudaEngine:
    def __init__(self, plan: bytes) -> None:
        about, _, onnx = plan.removeprefix(_MAGIC).partition(b"\n")
        self.about = json.loads(about)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        self.tensors = {item.name: item for item in (*inputs, *outputs)}
        self.inputs = {item.name for item in inputs}
        self.num_io_tensors = len(self.tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name=_TYPES.get(self.tensors[name].type, "INT64"))

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, *self.tensors[name].shape[1:])

    def create_execution_context(self) -> IExecutionContext | None:
        return None if "STANDIN_NO_CONTEXT" in os.environ else IExecutionContext(self)

    def create_engine_inspector(self) -> Any:
        return _Inspector()


class _Inspector:
    execution_context: Any = None

    def get_engine_information(self, form: LayerInformationFormat) -> str:
        assert form is LayerInformationFormat.JSON and self.execution_context.runs > 0
        kernel = {"Name": "first + relu", "LayerType": "CaskConvolution", "Weights": {"Type": "Int8"}}
        return json.dumps({"Layers": [kernel]})


class IExecutionContext:
    made: ClassVar[list[IExecutionContext]] = []

    def __init__(self, engine: ICudaEngine) -> None:
        self.engine, self.count, self.runs = engine, 0, 0
        self.addresses: dict[str, int] = {}
        self.call = _HOST_FUNCTION(self.compute)  # kept as long as graphs may call it
        IExecutionContext.made.append(self)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert not self.runs, "TensorRT's graphs hold the state that the context had"
        smallest, _, largest = (size[0] for size in self.engine.about["profile"][name])
        self.count = shape[0]
        return bool(smallest <= shape[0] <= largest and list(shape[1:]) == self.engine.tensors[name].shape[1:])

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return address > 0

    def execute_async_v3(self, stream: int) -> bool:
        assert set(self.addresses) == set(self.engine.tensors) and self.count
        capturing = ctypes.c_int()
        _DRIVER.cuStreamIsCapturing(ctypes.c_void_p(stream), ctypes.byref(capturing))
        assert self.runs or not capturing, "TensorRT wants one run before a capture"
        if capturing and "STANDIN_NO_CAPTURE" in os.environ:
            return False
        self.runs += 1
        return not _DRIVER.cuLaunchHostFunc(ctypes.c_void_p(stream), self.call, None)

    def compute(self, _: int | None) -> None:
        given = {name: self._array(name) for name in self.engine.inputs}
        names = [name for name in self.engine.tensors if name not in self.engine.inputs]
        for name, result in zip(names, self.engine.session.run(names, given), strict=True):
            self._array(name)[...] = result

    def _array(self, name: str) -> Any:
        kind = {"FLOAT": np.float32, "HALF": np.float16, "UINT8": np.uint8, "INT8": np.int8}
        dtype = np.dtype(kind[self.engine.get_tensor_dtype(name).name])
        shape = (self.count, *self.engine.tensors[name].shape[1:])
        size = int(np.prod(shape)) * dtype.itemsize
        return np.frombuffer((ctypes.c_uint8 * size).from_address(self.addresses[name]), dtype).reshape(shape)
