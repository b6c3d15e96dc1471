"""A run of a model on buffers of its own, and how several are kept going at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.errors import BackendError

Array = npt.NDArray[Any]

Fill = Callable[[int, Array], None]
"""Called as fill(batch, input), writes the images of that batch to `input`."""

Take = Callable[[int, Mapping[str, Array]], None]
"""Called as take(batch, outputs), uses what came of that batch, by name; it must not keep the arrays."""

_LINE_BYTES = 64


class Request(ABC):
    """A model's buffers for some images, which the engine reads and writes in place, and one run on them at a time.

    Attributes:
        input: (images, *image shape), to be written while no run is under way.
        outputs: by name, each (images, ...); they hold from `wait` to the next `start`.
    """

    input: Array
    outputs: Mapping[str, Array]

    @abstractmethod
    def start(self, count: int) -> None:
        """Begin a run on the first `count` images; what is in `outputs` after them means nothing.

        Raises:
            BackendError: the engine failed.
        """

    @abstractmethod
    def wait(self) -> None:
        """Wait for the run that was started; once more after an error, to be sure that it has ended.

        Raises:
            BackendError: the engine failed.
        """


def run_through(requests: Sequence[Request], counts: Sequence[int], fill: Fill, take: Take) -> None:
    """Run batch after batch: later ones are filled, and the results of earlier ones taken, while others run.

    Args:
        requests: what runs, in turn.
        counts: images of each batch, at most those of a request.
        fill: called for every batch in their order, on this thread.
        take: the same.

    Raises:
        BackendError: the engine failed. Whatever is raised, no run is under way any more.
    """
    running: deque[tuple[int, Request]] = deque()

    def take_first() -> None:
        batch, request = running[0]
        request.wait()
        running.popleft()
        take(batch, {name: values[: counts[batch]] for name, values in request.outputs.items()})

    try:
        for batch, count in enumerate(counts):
            if len(running) == len(requests):
                take_first()
            request = requests[batch % len(requests)]
            fill(batch, request.input[:count])
            request.start(count)
            running.append((batch, request))
        while running:
            take_first()
    finally:
        for _, request in running:
            with suppress(BackendError):  # what was raised first is what is told
                request.wait()


def aligned(shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    """Zeros that begin where a line of the processor's cache does, as engines like them."""
    wanted = np.dtype(dtype)
    size_bytes = int(np.prod(shape)) * wanted.itemsize
    memory = np.zeros(size_bytes + _LINE_BYTES, np.uint8)
    start = -memory.ctypes.data % _LINE_BYTES
    return memory[start : start + size_bytes].view(wanted).reshape(shape)
