"""TensorRT: NVIDIA GPUs and Jetsons. Takes the ONNX files of a bundle's `tensorrt` folder; TENSORRT.md says how."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tumortrace_runtime.backends.backend import LATENCY, Backend, Layer, check_contract, own_size_alone
from tumortrace_runtime.backends.cuda import find_device, find_devices
from tumortrace_runtime.backends.cuda_memory import open_gpu
from tumortrace_runtime.backends.request import Request
from tumortrace_runtime.backends.tensorrt_build import engine_for, tensorrt_package
from tumortrace_runtime.backends.tensorrt_layers import executed_layers
from tumortrace_runtime.backends.tensorrt_recipe import RECIPE, read_recipe
from tumortrace_runtime.backends.tensorrt_session import Session
from tumortrace_runtime.errors import BackendError
from tumortrace_runtime.preprocess import IntegerInput

DEFAULT_DEVICE = "0"

_log = logging.getLogger(__name__)


def devices() -> list[str]:
    """The CUDA indices of the GPUs here.

    Raises:
        BackendError: there is no driver, or TensorRT is not installed.
    """
    found = [str(device.index) for device in find_devices()]
    tensorrt_package()
    return found


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
) -> TensorRtBackend:
    """Load the cached engine, or build it first; see `tumortrace_runtime.backends.load_backend`.

    With mode "throughput" there are two sessions, so that one's batch is prepared and finished while the GPU runs the
    other's; with "latency" one, in half the memory. `threads` changes nothing, since the network runs on the GPU; nor
    does `cached`: engines take minutes to build.
    """
    if grid_px is not None:
        raise own_size_alone("tensorrt")
    gpu_device = find_device(device)
    trt = tensorrt_package()
    folder = model_path.parent
    recipe = read_recipe(folder / RECIPE)
    if precision not in recipe.engines or recipe.engines[precision].onnx != model_path.name:
        raise BackendError(f"{model_path}: {folder / RECIPE} does not name it for {precision}.")
    with ExitStack() as undo:
        gpus = [open_gpu(gpu_device) for _ in range(1 if mode == LATENCY else 2)]
        for gpu in gpus:
            undo.callback(gpu.close)
        made = engine_for(folder, precision, gpu_device, _log.warning)
        sessions = [Session(trt, made.engine, gpu, recipe.batch.max, shared=gpu_device.integrated) for gpu in gpus]
        check_contract(model_path, sessions[0].taken, integer_input)
        undo.pop_all()
    return TensorRtBackend(sessions, device, str(trt.__version__), integer_input, made.layers)


class TensorRtBackend(Backend):
    """A deserialised engine with buffers for every session; see `tumortrace_runtime.backends.Backend`."""

    name = "tensorrt"

    def __init__(
        self,
        sessions: Sequence[Session],
        device: str,
        version: str,
        integer_input: IntegerInput | None,
        layers: Sequence[Layer],
    ) -> None:
        """Take over sessions; `load` makes them."""
        ran = executed_layers(layers, sessions[0].information)
        super().__init__(device, version, sessions[0].taken, integer_input, ran)
        self._sessions = sessions

    def close(self) -> None:
        """Give back engine, streams and memory."""
        super().close()
        for session in self._sessions:
            session.close()
        self._sessions = ()

    def _open_requests(self) -> Sequence[Request]:
        return self._sessions
