"""A CUDA stream and memory that host and device use: through PyCUDA, or cuda-python where PyCUDA is not installed."""

from __future__ import annotations

import ctypes
import functools
import importlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.backends.backend import first_line
from tumortrace_runtime.backends.cuda import Device, PrimaryContext, check
from tumortrace_runtime.errors import BackendError

# Values of cuda.h, which stay as they are.
_STREAM_NON_BLOCKING = 1
_HOST_MAPPED = 2

# cuda-python's module by its name, and by the one that it had before 12.8.
_CUDA_PYTHON = ("cuda.bindings.driver", "cuda.cuda")


@dataclass(frozen=True)
class Buffer:
    """Memory for one tensor on both sides.

    Attributes:
        host: (bytes,) uint8, page-locked.
        address: of the device's side.
        shared: whether the device works on the host's side itself, so that nothing is to be copied.
    """

    host: npt.NDArray[np.uint8]
    address: int
    shared: bool


class Gpu(Protocol):
    """A stream on one device, and memory.

    Attributes:
        stream: the stream's handle.
    """

    stream: int

    def current(self) -> AbstractContextManager[None]:
        """A `with` block in which the calling thread works on this device; all other methods want one around them.

        Raises:
            BackendError: from the block, for every CUDA error in it.
        """
        ...

    def allocate(self, size_bytes: int, *, shared: bool) -> Buffer:
        """Memory that stays until `close`."""
        ...

    def upload(self, buffer: Buffer, size_bytes: int) -> None:
        """Put a copy of the first bytes, from host to device, into the stream."""
        ...

    def download(self, buffer: Buffer, size_bytes: int) -> None:
        """Put a copy of the first bytes, from device to host, into the stream."""
        ...

    def synchronize(self) -> None:
        """Wait until the stream is done."""
        ...

    def close(self) -> None:
        """Give back stream and memory."""
        ...


def open_gpu(device: Device) -> Gpu:
    """A stream and memory on `device`, through PyCUDA, or through cuda-python where PyCUDA is not installed.

    Raises:
        BackendError: neither is installed, or CUDA refuses.
    """
    for make in (_PyCuda, _CudaPython):
        try:
            return make(device)
        except ImportError:
            continue
    raise BackendError("tensorrt: neither PyCUDA nor cuda-python is installed; `tumortrace doctor` prints the command.")


class _PyCuda:
    """Through PyCUDA (https://documen.tician.de/pycuda/driver.html)."""

    def __init__(self, device: Device) -> None:
        self._driver: Any = importlib.import_module("pycuda.driver")
        self._context = _pycuda_context(device.index)
        self._owned: list[Any] = []
        with self.current():
            self._stream: Any = self._driver.Stream(_STREAM_NON_BLOCKING)
            self.stream = int(self._stream.handle)

    @contextmanager
    def current(self) -> Iterator[None]:
        try:
            self._context.push()
            try:
                yield
            finally:
                self._driver.Context.pop()
        except self._driver.Error as problem:
            raise BackendError(f"tensorrt: CUDA failed ({first_line(problem)}).") from problem

    def allocate(self, size_bytes: int, *, shared: bool) -> Buffer:
        host = self._driver.pagelocked_empty(size_bytes, np.uint8, mem_flags=_HOST_MAPPED if shared else 0)
        self._owned.append(host.base)
        if shared:
            return Buffer(host, int(host.base.get_device_pointer()), shared=True)
        self._owned.append(self._driver.mem_alloc(size_bytes))
        return Buffer(host, int(self._owned[-1]), shared=False)

    def upload(self, buffer: Buffer, size_bytes: int) -> None:
        self._driver.memcpy_htod_async(buffer.address, buffer.host[:size_bytes], self._stream)

    def download(self, buffer: Buffer, size_bytes: int) -> None:
        self._driver.memcpy_dtoh_async(buffer.host[:size_bytes], buffer.address, self._stream)

    def synchronize(self) -> None:
        self._stream.synchronize()

    def close(self) -> None:
        with self.current():
            while self._owned:
                self._owned.pop().free()
            self._stream = None


@functools.cache
def _pycuda_context(index: int) -> Any:
    # Kept until the process ends: PyCUDA leaves a primary context that it gives back on the thread's stack.
    driver: Any = importlib.import_module("pycuda.driver")
    driver.init()
    return driver.Device(index).retain_primary_context()


class _CudaPython:
    """Through cuda-python (https://nvidia.github.io/cuda-python/cuda-bindings/latest/module/driver.html)."""

    def __init__(self, device: Device) -> None:
        self._driver = _cuda_python()
        self._context = PrimaryContext(device)
        self.current = self._context.current
        self._owned: list[tuple[str, int]] = []
        with self.current():
            self._stream: Any = self._call("cuStreamCreate", _STREAM_NON_BLOCKING)
            self.stream = int(self._stream)

    def allocate(self, size_bytes: int, *, shared: bool) -> Buffer:
        start = int(self._call("cuMemHostAlloc", size_bytes, _HOST_MAPPED if shared else 0))
        self._owned.append(("cuMemFreeHost", start))
        host = np.ctypeslib.as_array((ctypes.c_uint8 * size_bytes).from_address(start))
        if shared:
            return Buffer(host, int(self._call("cuMemHostGetDevicePointer", start, 0)), shared=True)
        address = int(self._call("cuMemAlloc", size_bytes))
        self._owned.append(("cuMemFree", address))
        return Buffer(host, address, shared=False)

    def upload(self, buffer: Buffer, size_bytes: int) -> None:
        self._call("cuMemcpyHtoDAsync", buffer.address, buffer.host.ctypes.data, size_bytes, self._stream)

    def download(self, buffer: Buffer, size_bytes: int) -> None:
        self._call("cuMemcpyDtoHAsync", buffer.host.ctypes.data, buffer.address, size_bytes, self._stream)

    def synchronize(self) -> None:
        self._call("cuStreamSynchronize", self._stream)

    def close(self) -> None:
        with self.current():
            while self._owned:
                self._call(*self._owned.pop())
            self._call("cuStreamDestroy", self._stream)
        self._context.close()

    def _call(self, function: str, *arguments: Any) -> Any:
        try:
            status, *values = getattr(self._driver, function)(*arguments)
        except RuntimeError as problem:  # another cuda-python than the driver serves
            raise BackendError(f"tensorrt: cuda-python cannot call {function} ({first_line(problem)}).") from problem
        check(function, int(status))
        return values[0] if values else None


def _cuda_python() -> Any:
    newer, older = _CUDA_PYTHON
    try:
        return importlib.import_module(newer)
    except ImportError:
        return importlib.import_module(older)
