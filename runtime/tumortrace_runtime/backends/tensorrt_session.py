"""A TensorRT engine at work: its tensors, their memory on both sides, and one recorded pass for each batch size."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.backends.backend import Taken
from tumortrace_runtime.backends.cuda import Graph, record
from tumortrace_runtime.backends.cuda_memory import Buffer, Gpu
from tumortrace_runtime.backends.request import Request
from tumortrace_runtime.errors import BackendError

Array = npt.NDArray[Any]

_TYPES: dict[str, np.dtype[Any]] = {
    "FLOAT": np.dtype(np.float32),
    "HALF": np.dtype(np.float16),
    "INT8": np.dtype(np.int8),
    "UINT8": np.dtype(np.uint8),
}


class Session(Request):
    """An engine with a context and a graph for each batch size, and buffers for the largest.

    Attributes:
        input, outputs: as of any `Request`, in page-locked memory.
        taken: what it takes.
        information: what the engine's inspector tells of its layers, as JSON.
    """

    def __init__(self, trt: Any, engine: Any, gpu: Gpu, largest_batch: int, *, shared: bool) -> None:
        """Take over engine and GPU, and run once.

        Args:
            trt: NVIDIA's `tensorrt`.
            engine: an `ICudaEngine`.
            gpu: where it runs.
            largest_batch: of its optimisation profile.
            shared: whether CPU and GPU share one memory.

        Raises:
            BackendError: it takes more than one input, a tensor is of an unknown type or size, or it fails.
        """
        self._engine, self._gpu, self._largest = engine, gpu, largest_batch
        names = map(engine.get_tensor_name, range(engine.num_io_tensors))
        self._tensors = [_tensor(trt, engine, name) for name in names]
        self.taken = _taken(self._tensors)
        self._passes: dict[int, _Pass] = {}
        with gpu.current():
            self._buffers = {
                tensor.name: gpu.allocate(largest_batch * tensor.image_bytes, shared=shared) for tensor in self._tensors
            }
            inspector = engine.create_engine_inspector()
            inspector.execution_context = self._pass(largest_batch).context  # which knows sizes, and so formats
            self.information = str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
        (self.input,) = (self._host(tensor) for tensor in self._tensors if tensor.is_input)
        self.outputs = {tensor.name: self._host(tensor) for tensor in self._tensors if not tensor.is_input}

    def start(self, count: int) -> None:
        """Put copies and network for `count` images into the stream; see `Request`."""
        with self._gpu.current():
            self._pass(count).launch()

    def wait(self) -> None:
        """Wait until the stream is done; see `Request`."""
        with self._gpu.current():
            self._gpu.synchronize()

    def close(self) -> None:
        """Give back graphs, contexts, stream and memory."""
        with self._gpu.current():
            for ready in self._passes.values():
                ready.close()
        self._passes, self._engine = {}, None
        self._gpu.close()

    def _host(self, tensor: _Tensor) -> Array:
        """The host's side of a tensor."""
        filled: Array = self._buffers[tensor.name].host.view(tensor.dtype)
        return filled.reshape(self._largest, *tensor.image_shape)

    def _pass(self, count: int) -> _Pass:
        if count not in self._passes:
            self._passes[count] = _Pass(self._engine, self._gpu, self._tensors, self._buffers, count)
        return self._passes[count]


@dataclass(frozen=True)
class _Tensor:
    """An input or output of an engine; `image_shape` is without the batch."""

    name: str
    is_input: bool
    dtype: np.dtype[Any]
    image_shape: tuple[int, ...]

    @property
    def image_bytes(self) -> int:
        return math.prod(self.image_shape) * self.dtype.itemsize


def _tensor(trt: Any, engine: Any, name: str) -> _Tensor:
    kind = engine.get_tensor_dtype(name).name
    image_shape = tuple(int(size) for size in list(engine.get_tensor_shape(name))[1:])
    if kind not in _TYPES or min(image_shape, default=0) < 1:
        raise BackendError(f"tensorrt: {name} is {kind} {image_shape}; {', '.join(_TYPES)} of fixed size wanted.")
    return _Tensor(name, engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT, _TYPES[kind], image_shape)


def _taken(tensors: Sequence[_Tensor]) -> Taken:
    inputs = [tensor for tensor in tensors if tensor.is_input]
    if len(inputs) != 1:
        raise BackendError(f"tensorrt: the engine takes {len(inputs)} inputs; one wanted.")
    return Taken(inputs[0].dtype.name, inputs[0].image_shape)


class _Pass:
    """The engine made ready for batches of one size, as a CUDA graph where it can be recorded.

    It has an execution context of its own, since a graph holds the state that its context had.
    """

    def __init__(
        self, engine: Any, gpu: Gpu, tensors: Sequence[_Tensor], buffers: Mapping[str, Buffer], count: int
    ) -> None:
        self.context = engine.create_execution_context()
        self._gpu, self._tensors, self._buffers, self._count = gpu, tensors, buffers, count
        if self.context is None or not all(map(self._bind, tensors)):
            raise BackendError(f"tensorrt: no context for batches of {count} is to be had; GPU memory may be short.")
        self._enqueue()  # TensorRT wants one run before it is recorded
        gpu.synchronize()
        self._graph: Graph | None = record(gpu.stream, self._enqueue)

    def launch(self) -> None:
        """Put copies and network into the stream."""
        if self._graph is None:
            self._enqueue()
        else:
            self._graph.launch(self._gpu.stream)

    def close(self) -> None:
        if self._graph is not None:
            self._graph.close()
        self.context = None

    def _bind(self, tensor: _Tensor) -> bool:
        shaped = not tensor.is_input or self.context.set_input_shape(tensor.name, (self._count, *tensor.image_shape))
        return bool(shaped and self.context.set_tensor_address(tensor.name, self._buffers[tensor.name].address))

    def _enqueue(self) -> None:
        self._copy(self._gpu.upload, of_inputs=True)
        if not self.context.execute_async_v3(self._gpu.stream):
            raise BackendError("tensorrt: the engine could not be started.")
        self._copy(self._gpu.download, of_inputs=False)

    def _copy(self, copy: Callable[[Buffer, int], None], *, of_inputs: bool) -> None:
        for tensor in self._tensors:
            buffer = self._buffers[tensor.name]
            if tensor.is_input == of_inputs and not buffer.shared:
                copy(buffer, self._count * tensor.image_bytes)
