"""ONNX Runtime: CPUs everywhere, and what its other execution providers reach. Takes ONNX."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import onnxruntime

from tumortrace_runtime.backends.backend import (
    Batch,
    check_batch,
    count_precisions,
    first_line,
    missing_device,
    most_layers,
)
from tumortrace_runtime.errors import BackendError

DEFAULT_DEVICE = "CPUExecutionProvider"

_ARITHMETIC_LAYERS = {
    *("Conv", "FusedConv", "NhwcFusedConv", "ConvTranspose", "MatMul", "Gemm", "FusedMatMul"),
    *("QLinearConv", "ConvInteger", "QLinearMatMul", "MatMulInteger", "QGemm"),
}
_PRECISIONS = {"float": "fp32", "float16": "fp16", "bfloat16": "bf16", "int8": "int8", "uint8": "int8"}
_FATAL_ONLY = 4

Layer = tuple[str, str]
"""The execution provider that ran a layer, and the type of the layer's input."""


def devices() -> list[str]:
    """The execution providers of this installation, such as CPUExecutionProvider."""
    return list(onnxruntime.get_available_providers())


def load(model_path: Path, *, device: str, precision: str, threads: int | None) -> OnnxRuntimeBackend:
    """Open a session and run it once; see `tumortrace_runtime.backends.load_backend`."""
    if device not in devices():
        raise missing_device("onnxruntime", device, devices())
    if precision == "bf16":
        raise BackendError("onnxruntime: has no bf16 to ask for; it runs what the file says: fp32, fp16 or int8.")
    with tempfile.TemporaryDirectory(prefix="tumortrace-") as folder:
        try:
            session = onnxruntime.InferenceSession(
                model_path, _options(threads, Path(folder)), providers=[device], enable_fallback=False
            )
            image_shape = _image_shape(model_path, session)
            layers = list(_layers_that_ran(session, image_shape))
        except BackendError:
            raise
        except Exception as problem:  # ONNX Runtime's own error types share no base but Exception
            raise BackendError(
                f"{model_path}: ONNX Runtime cannot load it on {device} ({first_line(problem)})."
            ) from problem
    return OnnxRuntimeBackend(session, device, image_shape, layers)


class OnnxRuntimeBackend:
    """An open session; see `tumortrace_runtime.backends.Backend`."""

    name = "onnxruntime"

    def __init__(self, session: Any, device: str, image_shape: tuple[int, ...], layers: list[Layer]) -> None:
        """Take over a session; `load` makes it.

        Raises:
            BackendError: a convolution or matrix product ran elsewhere than on `device`.
        """
        elsewhere = sorted({provider for provider, _ in layers} - {device})
        if elsewhere:
            raise BackendError(f"onnxruntime: asked for {device}, but layers ran on {', '.join(elsewhere)}.")
        self._session: Any = session
        self._image_shape = image_shape
        self._input_name = session.get_inputs()[0].name
        self.device = device
        self.version = str(onnxruntime.__version__)
        self.layer_precisions = count_precisions(_PRECISIONS[kind] for _, kind in layers)
        self.executed_precision = most_layers(self.layer_precisions)

    def run(self, batch: Batch) -> Batch:
        """(n, channels, rows, columns) float32 to (n, classes, rows, columns) float32 logits."""
        check_batch(batch, self._image_shape)
        if self._session is None:
            raise BackendError("onnxruntime: the model has been closed.")
        try:
            (logits,) = self._session.run(None, {self._input_name: batch})
        except Exception as problem:  # ONNX Runtime's own error types share no base but Exception
            raise BackendError(f"onnxruntime: inference on {self.device} failed ({first_line(problem)}).") from problem
        result: Batch = np.asarray(logits, np.float32)
        return result

    def close(self) -> None:
        """Give back the session."""
        self._session = None

    def __enter__(self) -> OnnxRuntimeBackend:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _options(threads: int | None, trace_folder: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = _FATAL_ONLY  # errors come as exceptions
    options.enable_profiling = True
    options.profile_file_prefix = str(trace_folder / "trace")
    # Threads that spin between runs save nothing here, and slow whatever works meanwhile to half its speed.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if threads is not None:
        options.intra_op_num_threads = threads
    return options


def _image_shape(model_path: Path, session: Any) -> tuple[int, ...]:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        raise BackendError(f"{model_path}: {len(inputs)} inputs and {len(outputs)} outputs found; one each wanted.")
    shape, kind = inputs[0].shape, inputs[0].type
    if kind != "tensor(float)" or len(shape) != 4 or not all(isinstance(size, int) for size in shape[1:]):
        raise BackendError(
            f"{model_path}: input {kind} {shape} found; float32 (n, channels, rows, columns) with fixed sizes wanted."
        )
    return tuple(shape[1:])


def _layers_that_ran(session: Any, image_shape: tuple[int, ...]) -> Iterator[Layer]:
    """Run once with the profiler on, and read from its trace what ran where; later runs are not profiled."""
    blank = np.zeros((1, *image_shape), np.float32)
    session.run(None, {session.get_inputs()[0].name: blank})
    for event in json.loads(Path(session.end_profiling()).read_bytes()):
        facts = event.get("args", {})
        if event["name"].endswith("_kernel_time") and facts.get("op_name") in _ARITHMETIC_LAYERS:
            yield facts["provider"], next(iter(facts["input_type_shape"][0]))
