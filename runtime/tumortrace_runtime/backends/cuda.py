"""NVIDIA's GPUs as the driver library itself tells: devices, their primary context, recorded graphs.

The library is asked through ctypes: it is there before any toolkit or Python package is, so that a machine without it
is told so before TensorRT is touched; and PyCUDA has no stream capture.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tumortrace_runtime.backends.backend import missing_device
from tumortrace_runtime.errors import BackendError

# Values of cuda.h, which stay as they are.
_MULTIPROCESSORS, _INTEGRATED, _CAPABILITY_MAJOR, _CAPABILITY_MINOR = 16, 18, 75, 76
_CAPTURE_OF_THIS_THREAD = 1
_NAME_BYTES = 256


@dataclass(frozen=True)
class Device:
    """An NVIDIA GPU.

    Attributes:
        index: CUDA's.
        name: as the driver has it.
        compute_capability: such as "8.7".
        multiprocessors: how many it has.
        integrated: whether CPU and GPU share one memory, as on a Jetson.
    """

    index: int
    name: str
    compute_capability: str
    multiprocessors: int
    integrated: bool


def find_devices() -> list[Device]:
    """The GPUs that the driver offers, CUDA_VISIBLE_DEVICES applied.

    Raises:
        BackendError: there is no driver, or it does not start.
    """
    count = ctypes.c_int()
    _call("cuDeviceGetCount", ctypes.byref(count))
    return [_device(index) for index in range(count.value)]


def find_device(name: str) -> Device:
    """The GPU with the CUDA index `name`.

    Raises:
        BackendError: there is no driver, or no such GPU.
    """
    found = {str(device.index): device for device in find_devices()}
    if name not in found:
        raise missing_device("tensorrt", name, found)
    return found[name]


class PrimaryContext:
    """A device's primary context, the one that the CUDA runtime, and so TensorRT, uses."""

    def __init__(self, device: Device) -> None:
        """Retain it.

        Raises:
            BackendError: the driver refuses.
        """
        self._handle = ctypes.c_void_p()
        self._device = _handle(device.index)
        _call("cuDevicePrimaryCtxRetain", ctypes.byref(self._handle), self._device)

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make it the calling thread's own inside the `with` block."""
        _call("cuCtxPushCurrent_v2", self._handle)
        try:
            yield
        finally:
            _call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))

    def close(self) -> None:
        """Release it."""
        _call("cuDevicePrimaryCtxRelease_v2", self._device)


class Graph:
    """Work that was recorded from a stream, launched as a whole."""

    def __init__(self, handle: ctypes.c_void_p) -> None:
        self._handle = handle

    def launch(self, stream: int) -> None:
        """Put the work into `stream`.

        Raises:
            BackendError: the driver refuses.
        """
        _call("cuGraphLaunch", self._handle, ctypes.c_void_p(stream))

    def close(self) -> None:
        """Give back what the driver keeps for it."""
        _call("cuGraphExecDestroy", self._handle)


def record(stream: int, work: Callable[[], None]) -> Graph | None:
    """Record what `work` puts into `stream`, without running it.

    Returns:
        The graph, or None for work that cannot be recorded.
    """
    recorded = ctypes.c_void_p()
    _call("cuStreamBeginCapture_v2", ctypes.c_void_p(stream), _CAPTURE_OF_THIS_THREAD)
    try:
        work()
        whole = True
    except BackendError:
        whole = False
    ended = _driver().cuStreamEndCapture(ctypes.c_void_p(stream), ctypes.byref(recorded))
    if not recorded:
        return None
    try:
        return _instantiate(recorded) if whole and ended == 0 else None
    finally:
        _call("cuGraphDestroy", recorded)


def _instantiate(recorded: ctypes.c_void_p) -> Graph | None:
    executable, no_flags = ctypes.c_void_p(), ctypes.c_ulonglong(0)
    refused = _driver().cuGraphInstantiateWithFlags(ctypes.byref(executable), recorded, no_flags)
    return None if refused else Graph(executable)


@functools.cache
def _driver() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError as problem:
        raise BackendError(
            "tensorrt: no NVIDIA driver here (no libcuda.so.1); it runs on NVIDIA GPUs alone."
        ) from problem
    if status := library.cuInit(0):
        raise BackendError(f"tensorrt: NVIDIA's driver finds no GPU that it can use ({_error_name(library, status)}).")
    return library


def _call(function: str, *arguments: Any) -> None:
    check(function, getattr(_driver(), function)(*arguments))


def check(function: str, status: int) -> None:
    """Refuse to go on after a driver function that gave another `status` than 0.

    Raises:
        BackendError: names function and error.
    """
    if status:
        raise BackendError(f"tensorrt: CUDA failed ({function}: {_error_name(_driver(), status)}).")


def _error_name(library: ctypes.CDLL, status: int) -> str:
    name = ctypes.c_char_p()
    library.cuGetErrorName(status, ctypes.byref(name))
    return (name.value or f"error {status}".encode()).decode()


def _handle(index: int) -> ctypes.c_int:
    device = ctypes.c_int()
    _call("cuDeviceGet", ctypes.byref(device), index)
    return device


def _device(index: int) -> Device:
    device, name = _handle(index), ctypes.create_string_buffer(_NAME_BYTES)
    _call("cuDeviceGetName", name, _NAME_BYTES, device)
    return Device(
        index=index,
        name=name.value.decode(),
        compute_capability=f"{_attribute(_CAPABILITY_MAJOR, device)}.{_attribute(_CAPABILITY_MINOR, device)}",
        multiprocessors=_attribute(_MULTIPROCESSORS, device),
        integrated=bool(_attribute(_INTEGRATED, device)),
    )


def _attribute(attribute: int, device: ctypes.c_int) -> int:
    value = ctypes.c_int()
    _call("cuDeviceGetAttribute", ctypes.byref(value), attribute, device)
    return value.value
