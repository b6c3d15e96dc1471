"""A stand-in for PyCUDA's driver module over the stand-in `libcuda.so.1`: the functions that the runtime calls."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

_DRIVER = ctypes.CDLL("libcuda.so.1")


class Error(Exception):
    """PyCUDA's base of all errors."""


def _call(function: str, *arguments: Any) -> None:
    if status := getattr(_DRIVER, function)(*arguments):
        raise Error(f"{function} failed: {status}")


def init(flags: int = 0) -> None:
    _call("cuInit", flags)


class Device:
    def __init__(self, number: int) -> None:
        self._handle = ctypes.c_int()
        _call("cuDeviceGet", ctypes.byref(self._handle), number)

    def retain_primary_context(self) -> Context:
        handle = ctypes.c_void_p()
        _call("cuDevicePrimaryCtxRetain", ctypes.byref(handle), self._handle)
        return Context(handle)


class Context:
    def __init__(self, handle: ctypes.c_void_p) -> None:
        self._handle = handle

    def push(self) -> None:
        _call("cuCtxPushCurrent_v2", self._handle)

    @staticmethod
    def pop() -> None:
        _call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))


class Stream:
    def __init__(self, flags: int = 0) -> None:
        self._handle = ctypes.c_void_p()
        _call("cuStreamCreate", ctypes.byref(self._handle), flags)

    @property
    def handle(self) -> int:
        return self._handle.value or 0

    def synchronize(self) -> None:
        _call("cuStreamSynchronize", self._handle)


class PagelockedHostAllocation:
    def __init__(self, size: int, mem_flags: int) -> None:
        self._start = ctypes.c_void_p()
        _call("cuMemHostAlloc", ctypes.byref(self._start), ctypes.c_size_t(size), mem_flags)
        shape, data = (size,), (self._start.value, False)
        self.__array_interface__ = {"shape": shape, "typestr": "|u1", "data": data, "version": 3}

    def get_device_pointer(self) -> int:
        address = ctypes.c_uint64()
        _call("cuMemHostGetDevicePointer_v2", ctypes.byref(address), self._start, 0)
        return address.value

    def free(self) -> None:
        _call("cuMemFreeHost", self._start)


def pagelocked_empty(shape: int, dtype: Any, order: str = "C", mem_flags: int = 0) -> Any:
    assert (dtype, order) == (np.uint8, "C")
    return np.asarray(PagelockedHostAllocation(shape, mem_flags))


class DeviceAllocation:
    def __init__(self, size: int) -> None:
        self._address = ctypes.c_uint64()
        _call("cuMemAlloc_v2", ctypes.byref(self._address), ctypes.c_size_t(size))

    def __int__(self) -> int:
        return self._address.value

    def free(self) -> None:
        _call("cuMemFree_v2", self._address)


mem_alloc = DeviceAllocation


def _memory(array: Any) -> tuple[ctypes.c_void_p, ctypes.c_size_t]:
    assert array.flags.c_contiguous
    return ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)


def memcpy_htod_async(dest: int, src: Any, stream: Stream) -> None:
    start, size = _memory(src)
    _call("cuMemcpyHtoDAsync_v2", ctypes.c_uint64(dest), start, size, stream._handle)


def memcpy_dtoh_async(dest: Any, src: int, stream: Stream) -> None:
    start, size = _memory(dest)
    _call("cuMemcpyDtoHAsync_v2", start, ctypes.c_uint64(src), size, stream._handle)
