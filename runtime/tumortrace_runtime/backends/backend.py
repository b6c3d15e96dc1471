"""What every engine offers, and the checks that they share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.errors import BackendError, InputError

Batch = npt.NDArray[np.float32]

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
"""What can be asked for, the widest first."""

UNKNOWN_PRECISION = "unknown"


class Backend(Protocol):
    """A model that an engine has loaded, to be used in a `with` block.

    Attributes:
        name: key in `tumortrace_runtime.backends.BACKENDS`.
        device: where it really runs, by the engine's own name.
        version: of the engine.
        layer_precisions: how many convolutions and matrix products really run in which precision, read from the loaded
            engine and not from the file.
        executed_precision: the one of `layer_precisions` with the most layers, the wider where two have as many;
            "unknown" where the engine does not tell.
    """

    name: str
    device: str
    version: str
    layer_precisions: Mapping[str, int]
    executed_precision: str

    def run(self, batch: Batch) -> Batch:
        """The logits of a batch.

        Args:
            batch: (n, channels, rows, columns) float32, C-contiguous; it is read in place, and not kept.

        Returns:
            (n, classes, rows, columns) float32, the caller's own.

        Raises:
            InputError: another shape, dtype or memory layout than the model takes.
            BackendError: the engine failed, or has been closed.
        """
        ...

    def close(self) -> None:
        """Give back memory and threads; closing twice does nothing."""
        ...

    def __enter__(self) -> Backend: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def most_layers(layer_precisions: Mapping[str, int]) -> str:
    """The precision with the most layers, the wider where two have as many; "unknown" where there are none."""
    if not layer_precisions:
        return UNKNOWN_PRECISION
    return max(layer_precisions, key=lambda precision: (layer_precisions[precision], -PRECISIONS.index(precision)))


def count_precisions(precisions: Iterable[str]) -> dict[str, int]:
    """How many layers run in which precision, the widest first."""
    counts = Counter(precisions)
    return {precision: counts[precision] for precision in PRECISIONS if counts[precision]}


def check_batch(batch: Batch, image_shape: tuple[int, ...]) -> None:
    """Refuse a batch that a model of (channels, rows, columns) `image_shape` does not take.

    Raises:
        InputError: another shape, dtype or memory layout.
    """
    if batch.dtype != np.float32 or batch.ndim != 4 or batch.shape[1:] != image_shape or not batch.shape[0]:
        wanted = ", ".join(map(str, image_shape))
        raise InputError(f"batch: {batch.dtype} of shape {batch.shape} given; float32 (n, {wanted}) wanted.")
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
