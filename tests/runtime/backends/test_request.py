"""Batches on their way through requests: in order, some at a time, and none left running."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest

from tumortrace_runtime.backends import MODES, load_backend
from tumortrace_runtime.backends.request import Request, aligned, run_through
from tumortrace_runtime.errors import BackendError


class Doubling(Request):
    """Doubles what it is given, on another thread."""

    def __init__(self, pool: ThreadPoolExecutor, images: int) -> None:
        self.input = np.zeros((images, 2), np.float32)
        self.outputs = {"doubled": np.zeros((images, 2), np.float32)}
        self._pool = pool
        self._run: Future[None] | None = None
        self.running = False

    def start(self, count: int) -> None:
        assert not self.running, "started while a run is under way"
        self.running = True
        self._run = self._pool.submit(self._double, count)

    def wait(self) -> None:
        assert self._run is not None
        self.running = False
        self._run.result()

    def _double(self, count: int) -> None:
        if np.isnan(self.input).any():
            raise BackendError("engine: failed.")
        self.outputs["doubled"][:count] = 2 * self.input[:count]


@pytest.fixture
def doubling():
    with ThreadPoolExecutor(2) as pool:
        yield lambda count, images=3: [Doubling(pool, images) for _ in range(count)]


Make = Callable[..., list[Doubling]]


@pytest.mark.parametrize("requests", [1, 2, 3, 5])
@pytest.mark.parametrize("counts", [[], [1], [3, 3, 2], [1] * 7])
def test_batches_come_out_in_their_order(requests: int, counts: list[int], doubling: Make) -> None:
    filled, taken = [], []

    def fill(batch: int, images: np.ndarray) -> None:
        assert len(images) == counts[batch]
        images[...] = batch
        filled.append(batch)

    def take(batch: int, outputs: dict[str, np.ndarray]) -> None:
        assert outputs["doubled"].shape == (counts[batch], 2)
        assert len(filled) <= batch + requests
        taken.append(float(outputs["doubled"].mean()))

    run_through(doubling(requests), counts, fill, take)

    assert filled == list(range(len(counts)))
    assert taken == [2.0 * batch for batch in range(len(counts))]


def test_later_batches_are_filled_before_the_first_is_taken(doubling: Make) -> None:
    steps = []

    run_through(
        doubling(3),
        [1] * 4,
        lambda batch, images: steps.append(f"fill {batch}"),
        lambda batch, outputs: steps.append(f"take {batch}"),
    )

    assert steps == ["fill 0", "fill 1", "fill 2", "take 0", "fill 3", "take 1", "take 2", "take 3"]


@pytest.mark.parametrize("where", ["fill", "take", "run"])
def test_whatever_fails_no_run_is_left(where: str, doubling: Make) -> None:
    requests = doubling(3)

    def fill(batch: int, images: np.ndarray) -> None:
        images[...] = np.nan if where == "run" and batch == 2 else 1
        if where == "fill" and batch == 4:
            raise BackendError("fill: failed.")

    def take(batch: int, outputs: dict[str, np.ndarray]) -> None:
        if where == "take" and batch == 1:
            raise BackendError("take: failed.")

    with pytest.raises(BackendError, match="failed"):
        run_through(requests, [1] * 6, fill, take)

    assert not any(request.running for request in requests)


@pytest.mark.parametrize("shape", [(1, 3), (5, 7, 2), (64,)])
def test_buffers_begin_where_a_cache_line_does(shape: tuple[int, ...]) -> None:
    buffer = aligned(shape, np.float32)

    assert buffer.shape == shape
    assert buffer.flags.c_contiguous
    assert buffer.ctypes.data % 64 == 0


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("threads", [1, 3])
def test_engines_read_and_write_their_requests_in_place(engine: str, mode: str, threads: int, tiny_bundle) -> None:
    images = np.random.default_rng(0).standard_normal((7, 9, 64, 64)).astype(np.float32)
    with load_backend(engine, tiny_bundle / "model.onnx", mode=mode, threads=threads) as backend:
        expected = backend.run(images)
        requests = backend.requests
        before = [request.input for request in requests]
        found = np.zeros_like(expected)

        def take(number: int, outputs) -> None:
            found[number] = next(iter(outputs.values()))

        backend.run_batches([1] * 7, lambda number, out: np.copyto(out, images[number : number + 1]), take)

        assert 2 <= len(requests) <= threads + 1
        assert all(request.input is buffer for request, buffer in zip(backend.requests, before, strict=True))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_an_unknown_mode_is_refused(engine: str, tiny_bundle) -> None:
    with pytest.raises(BackendError, match="mode 'fast' is unknown; known are latency, throughput"):
        load_backend(engine, tiny_bundle / "model.onnx", mode="fast")
