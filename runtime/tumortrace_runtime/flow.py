"""A scan on its way through a network: slices are prepared, run and finished at the same time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.backends import Backend
from tumortrace_runtime.crop import Crop, Window
from tumortrace_runtime.postprocessor import Postprocessor
from tumortrace_runtime.preprocess.native import Preprocessor

Array = npt.NDArray[Any]


class Flow:
    """Runs slices of the scan that a preprocessor has open, for a postprocessor that has begun with the first of them.

    Args:
        preprocessor: what prepares slices.
        postprocessor: what takes the network's output; slices that are not run it gets as background.
        backend: the network for the whole grid.
        crop: what runs the window alone; None where the network sees the whole grid.
        window: what it sees.
        timings_ms: wall-clock milliseconds are added to preprocess, postprocess, and infer, what remained to wait for
            the network.

    Attributes:
        statistics: of the bottleneck, (slices, 2 x channels) float32; None while nothing ran or the network has none.
    """

    def __init__(
        self,
        preprocessor: Preprocessor,
        postprocessor: Postprocessor,
        backend: Backend,
        crop: Crop | None,
        window: Window,
        timings_ms: dict[str, float],
    ) -> None:
        self._timings_ms = timings_ms
        self._preprocessor, self._postprocessor = preprocessor, postprocessor
        self._backend = backend if crop is None else crop.backend(window)
        self._crop, self._window = crop, window
        self._batches: list[range] = []
        self._done = 0
        self._statistics: list[Array] = []

    @property
    def statistics(self) -> npt.NDArray[np.float32] | None:
        """See the class."""
        return np.concatenate(self._statistics) if self._statistics else None

    def run(self, slices: Sequence[int], first: int, stop: int) -> None:
        """Run some of the slices from `first` to `stop` - 1.

        Args:
            slices: which, in their order.
            first: the slice that the postprocessor takes to be the first.
            stop: one past the last slice.

        Raises:
            BackendError: the engine failed.
            InputError: a logit is NaN.
        """
        self._batches = consecutive(slices, len(self._backend.requests[0].input))
        self._done = first
        with timed(self._timings_ms, "infer"):
            own_ms = -sum(self._timings_ms.values())
            self._backend.run_batches([len(batch) for batch in self._batches], self._fill, self._take)
            own_ms += sum(self._timings_ms.values())
        self._timings_ms["infer"] -= own_ms
        self._postprocessor.skip(stop - self._done)

    def _fill(self, number: int, images: Array) -> None:
        batch = self._batches[number]
        with timed(self._timings_ms, "preprocess"):
            if self._crop is None:
                self._prepare(batch, images)
            else:
                self._crop.fill(self._window, images, lambda whole: self._prepare(batch, whole))

    def _prepare(self, batch: range, images: Array) -> None:
        if self._backend.integer_input is None:
            self._preprocessor.network_batch(batch.start, batch.stop, images)
        else:
            self._preprocessor.packed_batch(batch.start, batch.stop, self._backend.integer_input, images)

    def _take(self, number: int, outputs: Mapping[str, Array]) -> None:
        output, *others = outputs.values()
        with timed(self._timings_ms, "postprocess"):
            self._postprocessor.skip(self._batches[number].start - self._done)
            self._postprocessor.add(output if self._crop is None else self._crop.on_grid(self._window, output))
            self._statistics += [values.copy() for values in others]
        self._done = self._batches[number].stop


def consecutive(slices: Sequence[int], most: int) -> list[range]:
    """Slices as ranges of such as follow one another, each of at most `most`.

    >>> consecutive([0, 1, 2, 5, 6], most=2)
    [range(0, 2), range(2, 3), range(5, 7)]
    """
    batches: list[range] = []
    for number in slices:
        if batches and batches[-1].stop == number and len(batches[-1]) < most:
            batches[-1] = range(batches[-1].start, number + 1)
        else:
            batches.append(range(number, number + 1))
    return batches


@contextmanager
def timed(timings_ms: dict[str, float], stage: str) -> Iterator[None]:
    """Add the wall-clock milliseconds of a `with` block to those of a stage."""
    started = time.perf_counter()
    yield
    timings_ms[stage] += (time.perf_counter() - started) * 1e3
