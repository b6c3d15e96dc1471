"""Engines that run a model. Each is *load* and *run*, nothing else, and is imported only when it is asked for.

with load_backend("openvino", path, device="CPU", precision="int8") as backend:
    logits = backend.run(batch)
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

from tumortrace_runtime.backends.backend import LATENCY, MODES, PRECISIONS, THROUGHPUT, Backend, Batch
from tumortrace_runtime.errors import BackendError
from tumortrace_runtime.libraries import is_optional, missing_library
from tumortrace_runtime.machine import cpu_quota
from tumortrace_runtime.preprocess import IntegerInput

__all__ = [
    "BACKENDS",
    "LATENCY",
    "MODES",
    "PRECISIONS",
    "THROUGHPUT",
    "Backend",
    "Batch",
    "default_device",
    "devices",
    "load_backend",
]

BACKENDS = {
    "openvino": "tumortrace_runtime.backends.openvino",
    "onnxruntime": "tumortrace_runtime.backends.onnxruntime",
    "tensorrt": "tumortrace_runtime.backends.tensorrt",
}
"""Name to module. A module offers `DEFAULT_DEVICE`, `devices()` and `load(...)`; the extra has the backend's name.

TensorRT has no extra, and its module imports it when it is used: `tumortrace doctor` prints what installs it.
"""


MOST_THREADS = 1024
"""As the native core has it."""


def load_backend(
    name: str,
    model_path: Path,
    *,
    device: str | None = None,
    precision: str = "fp32",
    threads: int | None = None,
    integer_input: IntegerInput | None = None,
    mode: str = THROUGHPUT,
    grid_px: tuple[int, int] | None = None,
    cached: bool = False,
) -> Backend:
    """Load a model into an engine.

    Args:
        name: key in `BACKENDS`.
        model_path: the artefact that fits engine and precision.
        device: the engine's own name of it; None for the engine's default.
        precision: one of `PRECISIONS`, the artefact's; "bf16" runs an "fp16" artefact.
        threads: CPU threads; None for the engine's choice, or what a container's limit leaves.
        integer_input: how the artefact takes its input as integers; None where it takes float32.
        mode: one of `MODES`.
        grid_px: (rows, columns) of the slices to run, for engines that can give a model another size; None for its own.
        cached: whether what an engine compiles is kept in the user's cache folder, where the next process finds it.

    Raises:
        BackendError: the backend or the mode is unknown or its library missing, the device is not there, the precision
            is not to be had on it, there are not so many threads, or the model cannot be loaded.
    """
    module = _module(name)
    if precision not in PRECISIONS:
        raise BackendError(f"precision {precision!r} is unknown; known are {', '.join(PRECISIONS)}.")
    if mode not in MODES:
        raise BackendError(f"mode {mode!r} is unknown; known are {', '.join(MODES)}.")
    if threads is not None and not (isinstance(threads, int) and 1 <= threads <= MOST_THREADS):
        raise BackendError(f"threads: {threads!r} given; 1 to {MOST_THREADS} wanted.")
    if not model_path.is_file():
        raise BackendError(f"{model_path}: no such model file.")
    chosen = module.DEFAULT_DEVICE if device is None else device
    backend: Backend = module.load(
        model_path,
        device=chosen,
        precision=precision,
        threads=threads or cpu_quota(),  # of which engines do not know
        integer_input=integer_input,
        mode=mode,
        grid_px=grid_px,
        cached=cached,
    )
    return backend


def devices(name: str) -> list[str]:
    """The devices that backend `name` finds on this machine, by the engine's own names.

    Raises:
        BackendError: the backend is unknown or its library missing.
    """
    found: list[str] = _module(name).devices()
    return found


def default_device(name: str) -> str:
    """The device that backend `name` takes when none is asked for.

    Raises:
        BackendError: the backend is unknown or its library missing.
    """
    device: str = _module(name).DEFAULT_DEVICE
    return device


def _module(name: str) -> ModuleType:
    if name not in BACKENDS:
        raise BackendError(f"backend {name!r} is unknown; known are {', '.join(BACKENDS)}.")
    try:
        return importlib.import_module(BACKENDS[name])
    except ImportError as problem:
        if not is_optional(name):
            raise
        raise BackendError(missing_library(problem, name)) from problem
