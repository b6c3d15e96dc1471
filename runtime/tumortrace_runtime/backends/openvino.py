"""OpenVINO: Intel CPUs, GPUs and NPUs. Takes OpenVINO IR (`.xml` with its `.bin`), and ONNX unless it is quantised."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino

from tumortrace_runtime.backends import openvino_cache
from tumortrace_runtime.backends.backend import (
    CONV,
    CONV_TRANSPOSE,
    MATMUL,
    UNKNOWN_PRECISION,
    Backend,
    Layer,
    Taken,
    check_contract,
    count_macs,
    first_line,
    layers_that_ran,
    missing_device,
)
from tumortrace_runtime.backends.openvino_cache import Compiled
from tumortrace_runtime.backends.request import Request, aligned
from tumortrace_runtime.errors import BackendError
from tumortrace_runtime.inference import BATCH_SIZE
from tumortrace_runtime.preprocess import IntegerInput

DEFAULT_DEVICE = "CPU"

_KINDS = {
    "Convolution": CONV,
    "GroupConvolution": CONV,
    "ConvolutionBackpropData": CONV_TRANSPOSE,
    "GroupConvolutionBackpropData": CONV_TRANSPOSE,
    "MatMul": MATMUL,
}
_ARITHMETIC_KERNELS = {"Convolution", "GroupConvolution", "Deconvolution", "FullyConnected", "MatMul"}
_PRECISIONS = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "i8": "int8", "u8": "int8"}


def devices() -> list[str]:
    """The devices that OpenVINO finds here, such as CPU, GPU.0 or NPU."""
    return list(openvino.Core().available_devices)


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
) -> OpenVinoBackend:
    """Compile a model; see `tumortrace_runtime.backends.load_backend`."""
    if precision == "int8" and model_path.suffix != ".xml":
        # The IR is what an export measured; read directly, the Q/DQ ONNX of one network gave other logits in 2026.4.
        raise BackendError(f"{model_path}: at int8 OpenVINO wants IR (.xml), made by openvino.convert_model.")
    core = openvino.Core()
    _check_device(core, device, precision)
    config = _config(device, precision, threads, mode)
    try:
        compiled = _compile(core, model_path, config, grid_px, integer_input, device=device, cached=cached)
        taken = _taken(model_path, compiled.model)
    except RuntimeError as problem:
        raise BackendError(f"{model_path}: OpenVINO cannot load it on {device} ({first_line(problem)}).") from problem
    check_contract(model_path, taken, integer_input)
    return OpenVinoBackend(compiled.model, taken, integer_input, compiled.layers)


class OpenVinoBackend(Backend):
    """A compiled model; see `tumortrace_runtime.backends.Backend`."""

    name = "openvino"

    def __init__(
        self,
        compiled: openvino.CompiledModel,
        taken: Taken,
        integer_input: IntegerInput | None,
        layers: tuple[Layer, ...],
    ) -> None:
        """Take over a compiled model; `load` makes it."""
        device = ",".join(compiled.get_property("EXECUTION_DEVICES"))
        super().__init__(device, str(openvino.__version__).split("-")[0], taken, integer_input, layers)
        self._compiled: openvino.CompiledModel | None = compiled

    def close(self) -> None:
        """Give back the compiled model."""
        super().close()
        self._compiled = None

    def _open_requests(self) -> list[Request]:
        assert self._compiled is not None
        try:
            at_a_time = int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
            return [_OpenVinoRequest(self._compiled, self.device) for _ in range(at_a_time + 1)]
        except RuntimeError as problem:
            raise BackendError(f"openvino: no memory on {self.device} ({first_line(problem)}).") from problem


class _OpenVinoRequest(Request):
    def __init__(self, compiled: openvino.CompiledModel, device: str) -> None:
        self.input = _buffer(compiled.inputs[0])
        self.outputs = {port.get_any_name(): _buffer(port) for port in compiled.outputs}
        self._device = device
        self._request = compiled.create_infer_request()
        self._request.set_input_tensor(openvino.Tensor(self.input, shared_memory=True))
        for place, values in enumerate(self.outputs.values()):
            self._request.set_output_tensor(place, openvino.Tensor(values, shared_memory=True))

    def start(self, count: int) -> None:
        with self._told():
            self._request.start_async()

    def wait(self) -> None:
        with self._told():
            self._request.wait()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as problem:
            raise BackendError(f"openvino: inference on {self._device} failed ({first_line(problem)}).") from problem


def _buffer(port: Any) -> npt.NDArray[Any]:
    return aligned(tuple(port.get_shape()), port.get_element_type().to_dtype())


def _compile(
    core: openvino.Core,
    model_path: Path,
    config: Mapping[str, Any],
    grid_px: tuple[int, int] | None,
    integer_input: IntegerInput | None,
    *,
    device: str,
    cached: bool,
) -> Compiled:
    """The model, from the cache if it is to be `cached`, the device is the CPU, and it is there."""
    # With a batch of fixed size OpenVINO leaves out changes of layout that it else makes.
    batch_size = 1 if device == DEFAULT_DEVICE else BATCH_SIZE
    keeps = cached and device == DEFAULT_DEVICE
    kept = openvino_cache.place_of(model_path, device, config, (batch_size, *(grid_px or ()))) if keeps else None
    if kept and (found := openvino_cache.read(core, kept)):
        return found
    model = core.read_model(model_path)
    if grid_px is not None:
        _resize(model_path, model, grid_px, integer_input)
    _taken(model_path, model)
    compiled_model = core.compile_model(_of_batch(model, batch_size), device, config)
    known = list(_layers(model))
    layers = layers_that_ran(known, list(_kernels(compiled_model, {name for name, _ in known})))
    compiled = Compiled(compiled_model, layers)
    if kept:
        openvino_cache.write(kept, compiled)
    return compiled


def _check_device(core: openvino.Core, device: str, precision: str) -> None:
    present = core.available_devices
    if not any(name == device or name.startswith(f"{device}.") for name in present):
        raise missing_device("openvino", device, present)
    capabilities = core.get_property(device, "OPTIMIZATION_CAPABILITIES")
    if precision == "bf16" and "BF16" not in capabilities:
        raise BackendError(f"openvino: {device} has no bf16 arithmetic; it has: {', '.join(sorted(capabilities))}.")


def _config(device: str, precision: str, threads: int | None, mode: str) -> dict[str, Any]:
    config: dict[str, Any] = {
        "PERFORMANCE_HINT": mode.upper(),
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


def _taken(model_path: Path, model: openvino.Model | openvino.CompiledModel) -> Taken:
    """What a model takes, whatever its batch size."""
    if len(model.inputs) != 1:
        raise BackendError(f"{model_path}: {len(model.inputs)} inputs found; one wanted.")
    shape, kind = model.input(0).get_partial_shape(), model.input(0).get_element_type()
    if len(shape) != 4 or any(dimension.is_dynamic for dimension in list(shape)[1:]):
        raise BackendError(f"{model_path}: input {shape} found; (n, channels, rows, columns) with fixed sizes wanted.")
    return Taken(np.dtype(kind.to_dtype()).name, tuple(dimension.get_length() for dimension in list(shape)[1:]))


def _resize(
    model_path: Path, model: openvino.Model, grid_px: tuple[int, int], integer_input: IntegerInput | None
) -> None:
    """Give the model slices of another size.

    Raises:
        BackendError: something in it is made for its own size.
    """
    image = list(model.input(0).get_partial_shape())
    if integer_input is None:
        image[2:] = grid_px
    else:
        image[1:3] = (size // integer_input.block_px for size in grid_px)
    try:
        model.reshape([1, *image[1:]])
    except RuntimeError as problem:
        size = "x".join(map(str, grid_px))
        raise BackendError(
            f"{model_path}: cannot be run on {size} px ({first_line(problem)}); leave the margins in."
        ) from problem


def _of_batch(model: openvino.Model, size: int) -> openvino.Model:
    fixed = model.clone()
    fixed.reshape({port: [size, *list(port.get_partial_shape())[1:]] for port in fixed.inputs})
    return fixed


def _layers(model: openvino.Model) -> Iterator[tuple[str, Layer]]:
    """Each layer of the model as it was read, under OpenVINO's name for it."""
    for node in _of_batch(model, 1).get_ordered_ops():
        if kind := _KINDS.get(node.get_type_name()):
            image, weights = (node.input_value(port).get_shape() for port in (0, 1))
            macs = count_macs(kind, image, weights, node.output(0).get_shape())
            yield node.get_friendly_name(), Layer(_onnx_name(node), kind, UNKNOWN_PRECISION, macs)


def _onnx_name(node: openvino.Node) -> str:
    # An ONNX node with a bias becomes two: the addition has its name, the other is X/WithoutBiases or has none.
    name = str(node.get_friendly_name())
    if re.fullmatch(rf"{node.get_type_name()}_(at_)?\d+", name):
        followers = [target.get_node() for target in node.output(0).get_target_inputs()]
        name = next((str(item.get_friendly_name()) for item in followers if item.get_type_name() == "Add"), name)
    return name.removesuffix("/WithoutBiases")


def _kernels(compiled: openvino.CompiledModel, names: Collection[str]) -> Iterator[tuple[str, str]]:
    """Name and precision of what the device runs, under the one of `names` that it stands for, where there is one."""
    for kernel in compiled.get_runtime_model().get_ordered_ops():
        facts = kernel.get_rt_info()
        if _text(facts, "layerType") not in _ARITHMETIC_KERNELS:
            continue
        # The kernel's name ends with the type it computes in ("brgconv_avx512_f32"). "runtimePrecision" is that of the
        # stored weights: it says f16 where weights stored as f16 are computed with in f32.
        computes_in = _text(facts, "primitiveType").rsplit("_", 1)[-1].lower()
        precision = _PRECISIONS.get(computes_in) or _PRECISIONS[_text(facts, "runtimePrecision")]
        origins = [name for name in _text(facts, "originalLayersNames").split(",") if name in names]
        for name in origins or [kernel.get_friendly_name()]:
            yield name, precision


def _text(facts: Any, key: str) -> str:
    fact = facts[key]
    return str(getattr(fact, "value", fact))
