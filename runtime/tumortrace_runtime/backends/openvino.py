"""OpenVINO: Intel CPUs, GPUs and NPUs. Takes OpenVINO IR (`.xml` with its `.bin`), and ONNX unless it is quantised."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import openvino

from tumortrace_runtime.backends.backend import (
    Batch,
    check_batch,
    count_precisions,
    first_line,
    missing_device,
    most_layers,
)
from tumortrace_runtime.errors import BackendError

DEFAULT_DEVICE = "CPU"

_ARITHMETIC_LAYERS = {"Convolution", "GroupConvolution", "Deconvolution", "FullyConnected", "MatMul"}
_PRECISIONS = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "i8": "int8", "u8": "int8"}


def devices() -> list[str]:
    """The devices that OpenVINO finds here, such as CPU, GPU.0 or NPU."""
    return list(openvino.Core().available_devices)


def load(model_path: Path, *, device: str, precision: str, threads: int | None) -> OpenVinoBackend:
    """Compile a model; see `tumortrace_runtime.backends.load_backend`."""
    if precision == "int8" and model_path.suffix != ".xml":
        # The IR is what an export measured; read directly, the Q/DQ ONNX of one network gave other logits in 2026.4.
        raise BackendError(f"{model_path}: at int8 OpenVINO wants IR (.xml), made by openvino.convert_model.")
    core = openvino.Core()
    _check_device(core, device, precision)
    try:
        compiled = core.compile_model(core.read_model(model_path), device, _config(device, precision, threads))
    except RuntimeError as problem:
        raise BackendError(f"{model_path}: OpenVINO cannot load it on {device} ({first_line(problem)}).") from problem
    return OpenVinoBackend(model_path, compiled)


class OpenVinoBackend:
    """A compiled model with its one inference request; see `tumortrace_runtime.backends.Backend`."""

    name = "openvino"

    def __init__(self, model_path: Path, compiled: openvino.CompiledModel) -> None:
        """Take over a compiled model; `load` makes it.

        Raises:
            BackendError: the model does not take one image of fixed size and give one map of logits.
        """
        self._image_shape = _image_shape(model_path, compiled)
        self._request: Any = compiled.create_infer_request()
        self.device = ",".join(compiled.get_property("EXECUTION_DEVICES"))
        self.version = str(openvino.__version__).split("-")[0]
        self.layer_precisions = count_precisions(_layer_precisions(compiled))
        self.executed_precision = most_layers(self.layer_precisions)

    def run(self, batch: Batch) -> Batch:
        """(n, channels, rows, columns) float32 to (n, classes, rows, columns) float32 logits."""
        check_batch(batch, self._image_shape)
        if self._request is None:
            raise BackendError("openvino: the model has been closed.")
        try:
            outputs = self._request.infer([batch], share_inputs=True, share_outputs=False)
        except RuntimeError as problem:
            raise BackendError(f"openvino: inference on {self.device} failed ({first_line(problem)}).") from problem
        logits: Batch = np.asarray(outputs[0], np.float32)
        return logits

    def close(self) -> None:
        """Give back the compiled model."""
        self._request = None

    def __enter__(self) -> OpenVinoBackend:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _check_device(core: openvino.Core, device: str, precision: str) -> None:
    present = core.available_devices
    if not any(name == device or name.startswith(f"{device}.") for name in present):
        raise missing_device("openvino", device, present)
    capabilities = core.get_property(device, "OPTIMIZATION_CAPABILITIES")
    if precision == "bf16" and "BF16" not in capabilities:
        raise BackendError(f"openvino: {device} has no bf16 arithmetic; it has: {', '.join(sorted(capabilities))}.")


def _config(device: str, precision: str, threads: int | None) -> dict[str, Any]:
    config: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": _float_arithmetic(device, precision),
    }
    if threads is not None:
        config["INFERENCE_NUM_THREADS"] = threads
    return config


def _float_arithmetic(device: str, precision: str) -> str:
    # Left to itself, OpenVINO runs FP32 models in bf16 on CPUs that have it; told f16, such a CPU takes bf16 too.
    if precision == "bf16":
        return "bf16"
    return "f32" if precision == "fp32" or device == "CPU" else "f16"


def _image_shape(model_path: Path, compiled: openvino.CompiledModel) -> tuple[int, ...]:
    if len(compiled.inputs) != 1 or len(compiled.outputs) != 1:
        raise BackendError(
            f"{model_path}: {len(compiled.inputs)} inputs and {len(compiled.outputs)} outputs found; one each wanted."
        )
    shape = compiled.input(0).get_partial_shape()
    if len(shape) != 4 or any(dimension.is_dynamic for dimension in list(shape)[1:]):
        raise BackendError(f"{model_path}: input {shape} found; (n, channels, rows, columns) with fixed sizes wanted.")
    return tuple(dimension.get_length() for dimension in list(shape)[1:])


def _layer_precisions(compiled: openvino.CompiledModel) -> Iterator[str]:
    for layer in compiled.get_runtime_model().get_ordered_ops():
        facts = layer.get_rt_info()
        if _text(facts, "layerType") not in _ARITHMETIC_LAYERS:
            continue
        # The kernel's name ends with the type it computes in ("brgconv_avx512_f32"). "runtimePrecision" is that of the
        # stored weights: it says f16 where weights stored as f16 are computed with in f32.
        kernel = _text(facts, "primitiveType").rsplit("_", 1)[-1].lower()
        yield _PRECISIONS.get(kernel) or _PRECISIONS[_text(facts, "runtimePrecision")]


def _text(facts: Any, key: str) -> str:
    fact = facts[key]
    return str(getattr(fact, "value", fact))
