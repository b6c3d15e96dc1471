"""ONNX Runtime: CPUs everywhere, and what its other execution providers reach. Takes ONNX."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from tumortrace_runtime.backends.backend import (
    CONV,
    CONV_TRANSPOSE,
    MATMUL,
    THROUGHPUT,
    UNKNOWN_PRECISION,
    Backend,
    Layer,
    Taken,
    check_contract,
    count_macs,
    first_line,
    layers_that_ran,
    missing_device,
    own_size_alone,
)
from tumortrace_runtime.backends.request import Request, aligned
from tumortrace_runtime.errors import BackendError
from tumortrace_runtime.inference import BATCH_SIZE
from tumortrace_runtime.machine import cpu_threads
from tumortrace_runtime.preprocess import IntegerInput

DEFAULT_DEVICE = "CPUExecutionProvider"

_KINDS = {"Conv": CONV, "ConvTranspose": CONV_TRANSPOSE, "MatMul": MATMUL, "Gemm": MATMUL}
_ARITHMETIC_KERNELS = {
    *_KINDS,
    *("FusedConv", "NhwcFusedConv", "FusedMatMul"),
    *("QLinearConv", "ConvInteger", "QLinearMatMul", "MatMulInteger", "QGemm"),
}
_PRECISIONS = {"float": "fp32", "float16": "fp16", "bfloat16": "bf16", "int8": "int8", "uint8": "int8"}
_INPUT_TYPES = {"tensor(float)": "float32", "tensor(int8)": "int8", "tensor(uint8)": "uint8"}
_FATAL_ONLY = 4


def devices() -> list[str]:
    """The execution providers of this installation, such as CPUExecutionProvider."""
    return list(onnxruntime.get_available_providers())


def load(
    model_path: Path,
    *,
    device: str,
    precision: str,
    threads: int | None,
    integer_input: IntegerInput | None,
    mode: str,
    grid_px: tuple[int, int] | None,
    cached: bool,
) -> OnnxRuntimeBackend:
    """Open a session and run it once; see `tumortrace_runtime.backends.load_backend`.

    `cached` changes nothing: ONNX Runtime keeps nothing.
    """
    if grid_px is not None:
        raise own_size_alone("onnxruntime")
    if device not in devices():
        raise missing_device("onnxruntime", device, devices())
    if precision == "bf16":
        raise BackendError("onnxruntime: has no bf16 to ask for; it runs what the file says: fp32, fp16 or int8.")
    try:
        with tempfile.TemporaryDirectory(prefix="tumortrace-") as folder:
            at_a_time = (threads or cpu_threads()) if mode == THROUGHPUT and device == DEFAULT_DEVICE else 1
            threads = 1 if at_a_time > 1 else threads
            session = _open(model_path, device, _options(threads, Path(folder) / "trace"))
            taken = _taken(model_path, session)
            check_contract(model_path, taken, integer_input)
            kernels = [node for node in _trace(session, taken) if node.operator in _ARITHMETIC_KERNELS]
            plain = _open(model_path, DEFAULT_DEVICE, _as_written(_options(threads, Path(folder) / "plain")))
            known = list(_layers(_trace(plain, taken)))
    except BackendError:
        raise
    except Exception as problem:  # ONNX Runtime's own error types share no base but Exception
        raise BackendError(
            f"{model_path}: ONNX Runtime cannot load it on {device} ({first_line(problem)})."
        ) from problem
    if elsewhere := sorted({kernel.provider for kernel in kernels} - {device}):
        raise BackendError(f"onnxruntime: asked for {device}, but layers ran on {', '.join(elsewhere)}.")
    layers = layers_that_ran(known, [(kernel.name, kernel.precision) for kernel in kernels])
    return OnnxRuntimeBackend(session, device, taken, integer_input, layers, at_a_time)


@dataclass(frozen=True)
class _Node:
    """A node that ran: its operator and execution provider, and the shapes of what it took and gave."""

    name: str
    operator: str
    provider: str
    precision: str
    inputs: list[list[int]]
    outputs: list[list[int]]


class OnnxRuntimeBackend(Backend):
    """An open session; see `tumortrace_runtime.backends.Backend`."""

    name = "onnxruntime"

    def __init__(
        self,
        session: Any,
        device: str,
        taken: Taken,
        integer_input: IntegerInput | None,
        layers: tuple[Layer, ...],
        at_a_time: int,
    ) -> None:
        """Take over a session that `at_a_time` threads call; `load` makes it."""
        super().__init__(device, str(onnxruntime.__version__), taken, integer_input, layers)
        self._session: Any = session
        self._at_a_time = at_a_time
        self._callers = ThreadPoolExecutor(at_a_time, thread_name_prefix="onnxruntime")

    def close(self) -> None:
        """Give back session and threads."""
        super().close()
        self._callers.shutdown()
        self._session = None

    def _open_requests(self) -> list[Request]:
        return [self._open_request() for _ in range(self._at_a_time + 1)]

    def _open_request(self) -> Request:
        blank = np.zeros((1, *self.taken.image_shape), self.taken.dtype)
        size = 1 if self.device == DEFAULT_DEVICE else BATCH_SIZE
        (input_,) = self._session.get_inputs()
        names = [output.name for output in self._session.get_outputs()]
        images = self._session.run(names, {input_.name: blank})
        return _OnnxRuntimeRequest(
            self._session,
            self._callers,
            (input_.name, aligned((size, *self.taken.image_shape), self.taken.dtype)),
            {name: aligned((size, *image.shape[1:]), image.dtype) for name, image in zip(names, images, strict=True)},
        )


class _OnnxRuntimeRequest(Request):
    def __init__(
        self,
        session: Any,
        callers: ThreadPoolExecutor,
        input_: tuple[str, npt.NDArray[Any]],
        outputs: Mapping[str, npt.NDArray[Any]],
    ) -> None:
        name, self.input = input_
        self.outputs = outputs
        self._run = partial(session.run_with_iobinding, binding := session.io_binding())
        self._callers = callers
        self._running: Future[None] | None = None
        binding.bind_input(name, "cpu", 0, self.input.dtype, self.input.shape, self.input.ctypes.data)
        for name, values in outputs.items():
            binding.bind_output(name, "cpu", 0, values.dtype, values.shape, values.ctypes.data)

    def start(self, count: int) -> None:
        self._running = self._callers.submit(self._run)

    def wait(self) -> None:
        assert self._running is not None
        try:
            self._running.result()
        except Exception as problem:  # ONNX Runtime's own error types share no base but Exception
            raise BackendError(f"onnxruntime: inference failed ({first_line(problem)}).") from problem


def _open(model_path: Path, device: str, options: Any) -> Any:
    return onnxruntime.InferenceSession(model_path, options, providers=[device], enable_fallback=False)


def _options(threads: int | None, trace: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = _FATAL_ONLY  # errors come as exceptions
    options.enable_profiling = True
    options.profile_file_prefix = str(trace)
    # Threads that spin between runs save nothing here, and slow whatever works meanwhile to half its speed.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if threads is not None:
        options.intra_op_num_threads = threads
    return options


def _as_written(options: Any) -> Any:
    """`options`, but for the graph as the file has it: optimising renames nodes and pads their tensors."""
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_prepacking", "1")  # the trace leaves out packed weights
    return options


def _taken(model_path: Path, session: Any) -> Taken:
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise BackendError(f"{model_path}: {len(inputs)} inputs found; one wanted.")
    shape, kind = inputs[0].shape, inputs[0].type
    if kind not in _INPUT_TYPES or len(shape) != 4 or not all(isinstance(size, int) for size in shape[1:]):
        raise BackendError(
            f"{model_path}: input {kind} {shape} found; float32 (n, channels, rows, columns) with fixed sizes wanted."
        )
    return Taken(_INPUT_TYPES[kind], tuple(shape[1:]))


def _trace(session: Any, taken: Taken) -> Iterator[_Node]:
    """Run once with the profiler on, and read from its trace what ran where; later runs are not profiled."""
    blank = np.zeros((1, *taken.image_shape), taken.dtype)
    session.run(None, {session.get_inputs()[0].name: blank})
    for event in json.loads(Path(session.end_profiling()).read_bytes()):
        if event["name"].endswith("_kernel_time"):
            yield _node(event["name"].removesuffix("_kernel_time"), event["args"])


def _node(name: str, facts: Mapping[str, Any]) -> _Node:
    takes, gives = facts["input_type_shape"], facts["output_type_shape"]  # a list of {type: shape}
    return _Node(
        name=re.sub(r"_token_\d+$", "", name),  # added where it runs in another memory layout
        operator=facts["op_name"],
        provider=facts["provider"],
        precision=_PRECISIONS.get(next((kind for tensor in takes for kind in tensor), ""), UNKNOWN_PRECISION),
        inputs=[shape for tensor in takes for shape in tensor.values()],
        outputs=[shape for tensor in gives for shape in tensor.values()],
    )


def _layers(nodes: Iterable[_Node]) -> Iterator[tuple[str, Layer]]:
    for node in nodes:
        if kind := _KINDS.get(node.operator):
            macs = count_macs(kind, node.inputs[0], node.inputs[1], node.outputs[0])
            yield node.name, Layer(node.name, kind, UNKNOWN_PRECISION, macs)
