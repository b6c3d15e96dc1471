"""What every engine offers, and what engines share: the report of their layers, and checks."""

from __future__ import annotations

import math
import os
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.backends.request import Fill, Request, Take, run_through
from tumortrace_runtime.errors import BackendError, InputError
from tumortrace_runtime.preprocess import IntegerInput

Batch = npt.NDArray[Any]
Outputs = dict[str, npt.NDArray[Any]]
B = TypeVar("B", bound="Backend")

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
"""What can be asked for, the widest first."""

LATENCY, THROUGHPUT = "latency", "throughput"
MODES = (LATENCY, THROUGHPUT)
"""Whether all of a CPU's threads work on one slice, which is done the sooner, or each on its own, so that more are."""

UNKNOWN_PRECISION = "unknown"
_WIDEST_FIRST = (*PRECISIONS, UNKNOWN_PRECISION)

CONV, CONV_TRANSPOSE, MATMUL = "Conv", "ConvTranspose", "MatMul"
"""The kinds of layers that multiply and accumulate, by ONNX's names."""


@dataclass(frozen=True)
class Layer:
    """A convolution, transposed convolution or matrix product of a loaded model.

    Attributes:
        name: of its node in the ONNX model, such as "encoder.0.0.0"; the same on every engine.
        kind: "Conv", "ConvTranspose" or "MatMul".
        precision: what it really runs in, one of `PRECISIONS`; "unknown" where the engine does not tell.
        macs: multiply-accumulates per slice, without what the engine pads.
    """

    name: str
    kind: str
    precision: str
    macs: int


@dataclass(frozen=True)
class Taken:
    """What a loaded model takes.

    Attributes:
        dtype: "float32", "int8" or "uint8".
        image_shape: of one image of a batch.
    """

    dtype: str
    image_shape: tuple[int, ...]


class Backend(ABC):
    """A model that an engine has loaded, to be used in a `with` block.

    Attributes:
        name: key in `tumortrace_runtime.backends.BACKENDS`.
        device: where it really runs, by the engine's own name.
        version: of the engine.
        taken: the batches that it takes.
        integer_input: how the model takes its input as integers; None where it takes float32.
        layers: what multiplies and accumulates, in the model's order; the precisions are read from the loaded engine
            and not from the file.
        layer_precisions: how many of `layers` really run in which precision.
        executed_precision: the one with the most multiply-accumulates, the wider where two have as many; "unknown"
            where the engine does not tell.
    """

    name: ClassVar[str]

    def __init__(
        self, device: str, version: str, taken: Taken, integer_input: IntegerInput | None, layers: Sequence[Layer]
    ) -> None:
        self.device = device
        self.version = version
        self.taken = taken
        self.integer_input = integer_input
        self.layers = layers
        self.layer_precisions: Mapping[str, int] = count_precisions(layers)
        self.executed_precision = most_macs(layers)
        self._requests: Sequence[Request] | None = None
        self._lock = threading.Lock()
        self._process = os.getpid()

    @property
    def requests(self) -> Sequence[Request]:
        """As many requests as keep the engine busy, one more than it runs at a time; the same ones each time.

        Raises:
            BackendError: the backend has been closed, or the engine has no memory for them.
        """
        if self._requests is None:
            self._requests = self._open_requests()
        if not self._requests:
            raise BackendError(f"{self.name}: the model has been closed.")
        if self._process != os.getpid():
            raise BackendError(
                f"{self.name}: the model was loaded before this process was forked, and its threads stayed there; load "
                'it in every process, or start processes with multiprocessing\'s "spawn".'
            )
        return self._requests

    def run(self, batch: Batch) -> npt.NDArray[Any]:
        """The model's first output of a batch: its logits, or its mask.

        Args:
            batch: C-contiguous; (n, channels, rows, columns) float32, or what `integer_input` says, as `packed_batch`
                gives it.

        Returns:
            (n, classes, rows, columns) float32 logits, or (n, rows, columns) uint8 classes; the caller's own.

        Raises:
            InputError: another shape, dtype or memory layout than the model takes.
            BackendError: the engine failed, or has been closed.
        """
        return next(iter(self.run_all(batch).values()))

    def run_all(self, batch: Batch) -> Outputs:
        """Every output of a batch by its name, the first one first; see `run`."""
        check_batch(batch, self.taken)
        first, size = self.requests[0].outputs, len(self.requests[0].input)
        results = {name: np.empty((len(batch), *values.shape[1:]), values.dtype) for name, values in first.items()}
        parts = [slice(start, min(start + size, len(batch))) for start in range(0, len(batch), size)]

        def fill(part: int, images: npt.NDArray[Any]) -> None:
            np.copyto(images, batch[parts[part]])

        def take(part: int, outputs: Mapping[str, npt.NDArray[Any]]) -> None:
            for name, values in outputs.items():
                results[name][parts[part]] = values

        self.run_batches([part.stop - part.start for part in parts], fill, take)
        return results

    def run_batches(self, counts: Sequence[int], fill: Fill, take: Take) -> None:
        """Run batch after batch in `requests`; see `run_through`. Threads wait for each other."""
        with self._lock:
            run_through(self.requests, counts, fill, take)

    def close(self) -> None:
        """Give back memory and threads; closing twice does nothing."""
        self._requests = ()

    @abstractmethod
    def _open_requests(self) -> Sequence[Request]:
        """What `requests` gives from now on."""

    def __enter__(self: B) -> B:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def count_precisions(layers: Iterable[Layer]) -> dict[str, int]:
    """How many layers run in which precision, the widest first."""
    counts = Counter(layer.precision for layer in layers)
    return {precision: counts[precision] for precision in _WIDEST_FIRST if counts[precision]}


def most_macs(layers: Sequence[Layer]) -> str:
    """The precision with the most multiply-accumulates, the wider of two with as many; "unknown" without layers."""
    return max(count_precisions(layers), key=lambda precision: mac_share(layers, precision), default=UNKNOWN_PRECISION)


def mac_share(layers: Iterable[Layer], precision: str) -> float:
    """The share, 0 to 1, of all multiply-accumulates that run in `precision`; 0 without layers.

    >>> mac_share([Layer("first", "Conv", "int8", 300), Layer("head", "Conv", "fp32", 100)], "int8")
    0.75
    """
    macs: Counter[str] = Counter()
    for layer in layers:
        macs[layer.precision] += layer.macs
    return macs[precision] / max(1, macs.total())


def layer_report(layers: Sequence[Layer]) -> dict[str, Any]:
    """The layer-precision report as JSON values: `layers`, each with its attributes, and `int8_mac_share`."""
    return {"layers": [asdict(layer) for layer in layers], "int8_mac_share": mac_share(layers, "int8")}


def count_macs(kind: str, image: Sequence[int], weights: Sequence[int], result: Sequence[int]) -> int:
    """Multiply-accumulates of a layer on one slice, of what it is given and gives in a batch of 1.

    Args:
        kind: of the layer.
        image: shape of its input: (1, channels, *pixels), or (..., k) for a matrix product.
        weights: shape of its kernel, groups apart or not, or of the matrix.
        result: shape of its output, as `image`.
    """
    if kind == MATMUL:
        return math.prod(result) * image[-1]
    pixels = image[2:] if kind == CONV_TRANSPOSE else result[2:]
    return math.prod(weights) * math.prod(pixels)


def layers_that_ran(known: Sequence[tuple[str, Layer]], kernels: Sequence[tuple[str, str]]) -> tuple[Layer, ...]:
    """The layers of a model with the precisions of the kernels that an engine runs them by.

    Engines rename some layers. Where all kernels of unknown names run in one precision and are as many as the layers
    without a kernel, these ran in that precision; else theirs is "unknown".

    Args:
        known: each layer of the model under the name that the engine has for it.
        kernels: name and precision of each that the engine runs.
    """
    names = {name for name, _ in known}
    precisions = {name: precision for name, precision in kernels if name in names}
    renamed = [precision for name, precision in kernels if name not in names]
    left = [name for name, _ in known if name not in precisions]
    rest = renamed[0] if len(set(renamed)) == 1 and len(renamed) == len(left) else UNKNOWN_PRECISION
    return tuple(replace(layer, precision=precisions.get(name, rest)) for name, layer in known)


def check_contract(model_path: Path, taken: Taken, integer_input: IntegerInput | None) -> None:
    """Refuse a model that does not take its input as the bundle says.

    Raises:
        BackendError: it takes another type.
    """
    wanted = "float32" if integer_input is None else integer_input.dtype
    if taken.dtype != wanted:
        raise BackendError(f"{model_path}: takes {taken.dtype}, but {wanted} was to be given to it; export anew.")


def check_batch(batch: Batch, taken: Taken) -> None:
    """Refuse a batch that a model does not take.

    Raises:
        InputError: another shape, dtype or memory layout.
    """
    if batch.dtype != taken.dtype or batch.ndim != 4 or batch.shape[1:] != taken.image_shape or not batch.shape[0]:
        wanted = ", ".join(map(str, taken.image_shape))
        raise InputError(f"batch: {batch.dtype} of shape {batch.shape} given; {taken.dtype} (n, {wanted}) wanted.")
    if not batch.flags.c_contiguous:
        raise InputError("batch: not C-contiguous; pass numpy.ascontiguousarray(batch).")


def first_line(problem: BaseException) -> str:
    """What an engine's error says, without the source lines that engines put around it."""
    lines = [line.strip() for line in str(problem).splitlines()]
    told = [line for line in lines if line and not line.startswith("Exception from ")]
    return (told or [type(problem).__name__])[0].rstrip(".")


def missing_device(engine: str, device: str, present: Iterable[str]) -> BackendError:
    """The error for a device that is not there; it lists what is."""
    return BackendError(f"{engine}: no device {device!r} here; there are: {', '.join(present) or 'none'}.")


def own_size_alone(engine: str) -> BackendError:
    """The error for slices of another size on an engine that cannot give a model one."""
    return BackendError(f"{engine}: runs a model at its own size alone; leave the margins in, or take openvino.")
