"""From ONNX to a TensorRT engine, on the device that will run it."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tumortrace_runtime.backends.cuda import Device, PrimaryContext
from tumortrace_runtime.backends.tensorrt_cache import Cached, Plan, default_folder, fetch, key_for
from tumortrace_runtime.backends.tensorrt_layers import network_layers
from tumortrace_runtime.backends.tensorrt_recipe import RECIPE, Recipe, read_recipe, source_file
from tumortrace_runtime.errors import BackendError
from tumortrace_runtime.files import sha256_file, write_bytes


def tensorrt_package() -> Any:
    """NVIDIA's `tensorrt`. Without a driver its objects crash the process: find the device first.

    Raises:
        BackendError: it is not installed.
    """
    try:
        return importlib.import_module("tensorrt")
    except ImportError as problem:
        raise BackendError(
            f"tensorrt cannot be imported ({problem}); `tumortrace doctor` prints the command that installs it here."
        ) from problem


def engine_for(
    folder: Path,
    precision: str,
    device: Device,
    report: Callable[[str], None],
    *,
    cache: Path | None = None,
    rebuild: bool = False,
) -> Cached[Any]:
    """The deserialised engine for a device, from the cache or built now.

    Args:
        folder: where the bundle keeps its recipe and the ONNX files.
        precision: "fp16" or "int8".
        device: the GPU.
        report: gets a line when an engine is built.
        cache: folder of the cache; None for the user's own.
        rebuild: build even where the cache has one.

    Raises:
        BackendError: TensorRT is missing, the recipe has no such engine, or none can be built.
        BundleError: recipe or ONNX file do not hold.
        OutputError: the cache cannot be written.
    """
    trt = tensorrt_package()
    recipe = read_recipe(folder / RECIPE)
    onnx = source_file(folder, recipe, precision)
    key = key_for(recipe.engines[precision].sha256, sha256_file(folder / RECIPE), str(trt.__version__), device)
    cache = default_folder() if cache is None else cache
    timings = cache / key.timings_place

    def build() -> Plan:
        known = timings.read_bytes() if timings.is_file() else b""
        plan, measured = build_plan(trt, onnx, recipe, precision, known)
        write_bytes(timings, measured)
        return plan

    primary = PrimaryContext(device)
    try:
        with primary.current():
            return fetch(cache, key, build, lambda plan: load_plan(trt, plan), report, rebuild=rebuild)
    finally:
        primary.close()


def load_plan(trt: Any, plan: bytes) -> Any:
    """Deserialise an engine; None where TensorRT refuses."""
    return _runtime(trt).deserialize_cuda_engine(plan)


def build_plan(trt: Any, onnx: Path, recipe: Recipe, precision: str, timings: bytes) -> tuple[Plan, bytes]:
    """Build an engine with the module `trt`.

    Args:
        trt: NVIDIA's `tensorrt`, or another module with the same names.
        onnx: the network; from TensorRT 10 on, its types are the precision.
        recipe: shapes and memory.
        precision: "fp16" or "int8"; only TensorRT 8.6 asks for it.
        timings: what earlier builds measured, or nothing.

    Returns:
        The engine, and the timings with those of this build.

    Raises:
        BackendError: the file does not parse, or TensorRT builds no engine.
    """
    log = logger(trt)
    log.errors.clear()
    builder = trt.Builder(log)
    network = builder.create_network(_network_flags(trt))
    parser = trt.OnnxParser(network, log)  # the network borrows its weights
    if not parser.parse_from_file(str(onnx)):
        problems = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        raise BackendError(f"{onnx}: TensorRT {trt.__version__} cannot read it ({_first(problems)}).")
    layers = network_layers(trt, network)
    config = _config(trt, builder, recipe, precision)
    _use_timings(config, timings)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BackendError(f"{onnx}: TensorRT {trt.__version__} built no engine ({_first(log.errors)}).")
    measured = config.get_timing_cache()
    return Plan(bytes(plan), layers), b"" if measured is None else bytes(measured.serialize())


@functools.cache
def logger(trt: Any) -> Any:
    """A logger that keeps errors in its list `errors`. TensorRT wants one for the whole process."""

    class ErrorList(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.errors.append(message)

    return ErrorList()


@functools.cache
def _runtime(trt: Any) -> Any:
    return trt.Runtime(logger(trt))  # outlives its engines


def _config(trt: Any, builder: Any, recipe: Recipe, precision: str) -> Any:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, recipe.workspace_bytes)
    config.clear_flag(trt.BuilderFlag.TF32)  # FP32 layers keep FP32's mantissa
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # the inspector tells precisions only then
    profile = builder.create_optimization_profile()
    batch = recipe.batch
    profile.set_shape(recipe.input, *((size, *recipe.shape) for size in (batch.min, batch.opt, batch.max)))
    config.add_optimization_profile(profile)
    if not _strongly_typed(trt):
        config.set_flag(trt.BuilderFlag.FP16)
        if precision == "int8":
            config.set_flag(trt.BuilderFlag.INT8)
    return config


def _strongly_typed(trt: Any) -> bool:
    """Whether the network's own types fix the precision: from TensorRT 10 on, and not in 8.6."""
    return hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")


def _network_flags(trt: Any) -> int:
    flags = trt.NetworkDefinitionCreationFlag
    return 1 << int(flags.STRONGLY_TYPED if _strongly_typed(trt) else flags.EXPLICIT_BATCH)


def _use_timings(config: Any, timings: bytes) -> None:
    for known in (timings, b""):  # those of another version or device are refused
        cache = config.create_timing_cache(known)
        if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
            return


def _first(problems: list[str]) -> str:
    return problems[0].strip().rstrip(".") if problems else "it does not say why"
