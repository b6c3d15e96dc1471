"""TensorRT: NVIDIA GPUs and Jetsons. Takes the ONNX files of a bundle's `tensorrt` folder; TENSORRT.md says how."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from tumortrace_runtime.backends.backend import Backend, Layer, check_contract, own_size_alone
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

    `threads` and `mode` change nothing, since the network runs on the GPU, one batch after the other; nor does
    `cached`: engines take minutes to build.
    """
    if grid_px is not None:
        raise own_size_alone("tensorrt")
    gpu_device = find_device(device)
    trt = tensorrt_package()
    folder = model_path.parent
    recipe = read_recipe(folder / RECIPE)
    if precision not in recipe.engines or recipe.engines[precision].onnx != model_path.name:
        raise BackendError(f"{model_path}: {folder / RECIPE} does not name it for {precision}.")
    gpu = open_gpu(gpu_device)
    try:
        made = engine_for(folder, precision, gpu_device, _log.warning)
        session = Session(trt, made.engine, gpu, recipe.batch.max, shared=gpu_device.integrated)
        check_contract(model_path, session.taken, integer_input)
    except BaseException:
        gpu.close()
        raise
    return TensorRtBackend(session, device, str(trt.__version__), integer_input, made.layers)


class TensorRtBackend(Backend):
    """A deserialised engine with its buffers; see `tumortrace_runtime.backends.Backend`."""

    name = "tensorrt"

    def __init__(
        self,
        session: Session,
        device: str,
        version: str,
        integer_input: IntegerInput | None,
        layers: Sequence[Layer],
    ) -> None:
        """Take over a session; `load` makes it."""
        ran = executed_layers(layers, session.information)
        super().__init__(device, version, session.taken, integer_input, ran)
        self._session: Session | None = session

    def close(self) -> None:
        """Give back engine, stream and memory."""
        super().close()
        if self._session is not None:
            self._session.close()
        self._session = None

    def _open_requests(self) -> list[Request]:
        assert self._session is not None
        return [self._session]
