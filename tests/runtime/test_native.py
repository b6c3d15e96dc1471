from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tumortrace_runtime import _native

_STUB = Path(__file__).resolve().parents[2] / "runtime" / "tumortrace_runtime" / "_native.pyi"

any_logits = arrays.arrays(np.float32, arrays.array_shapes(max_dims=4, max_side=20), elements=st.floats(width=32))
thresholds = st.floats(width=32, allow_nan=False)


@given(any_logits, thresholds)
def test_threshold_is_what_numpy_says(logits: npt.NDArray[np.float32], threshold: float) -> None:
    mask = np.full(logits.shape, 7, np.uint8)
    foreground, nan_count = _native.threshold_logits(logits, threshold, mask)
    np.testing.assert_array_equal(mask, logits > np.float32(threshold))
    assert (foreground, nan_count) == (mask.sum(), np.isnan(logits).sum())


def test_read_only_logits_are_read() -> None:
    logits = np.ones(5, np.float32)
    logits.flags.writeable = False
    assert _native.threshold_logits(logits, 0.0, np.empty(5, np.uint8)) == (5, 0)


def test_empty_arrays_have_nothing_above() -> None:
    assert _native.threshold_logits(np.empty((0, 4), np.float32), 0.0, np.empty(0, np.uint8)) == (0, 0)


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="mask has 5 voxels, logits have 6"):
        _native.threshold_logits(np.zeros((2, 3), np.float32), 0.0, np.zeros(5, np.uint8))


@pytest.mark.parametrize(
    ("logits", "mask"),
    [
        pytest.param(np.zeros(6), np.zeros(6, np.uint8), id="float64 logits"),
        pytest.param(np.zeros(12, np.float32)[::2], np.zeros(6, np.uint8), id="strided logits"),
        pytest.param(np.zeros((2, 3), np.float32, order="F"), np.zeros((2, 3), np.uint8), id="column-major logits"),
        pytest.param(np.zeros(6, np.float32), np.zeros(6, np.bool_), id="boolean mask"),
        pytest.param(np.zeros(6, np.float32), np.zeros(12, np.uint8)[::2], id="strided mask"),
        pytest.param(np.zeros(6, np.float32), np.broadcast_to(np.uint8(0), 6), id="read-only mask"),
        pytest.param([0.0] * 6, np.zeros(6, np.uint8), id="a list"),
    ],
)
def test_nothing_is_converted_behind_the_callers_back(logits: object, mask: object) -> None:
    with pytest.raises(TypeError):
        _native.threshold_logits(logits, 0.0, mask)  # type: ignore[arg-type]


def test_other_threads_run_meanwhile() -> None:
    logits = np.zeros(1 << 26, np.float32)
    mask = np.empty(logits.shape, np.uint8)
    ticks, done = 0, threading.Event()

    def tick() -> None:
        nonlocal ticks
        while not done.is_set():
            ticks += 1

    def ticks_during_a_call() -> int:
        before = ticks
        _native.threshold_logits(logits, 0.0, mask)
        return ticks - before

    ticker = threading.Thread(target=tick)
    ticker.start()
    counts = sorted(ticks_during_a_call() for _ in range(5))
    done.set()
    ticker.join()
    assert counts[2] > 0


def test_cpu_features_are_those_that_the_kernel_lists() -> None:
    words = Path("/proc/cpuinfo").read_text().split()
    known = {"avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16"}
    known |= {"asimdhp", "asimddp", "i8mm", "bf16"}
    assert set(_native.cpu_features()) == known.intersection(words)


def test_the_stub_is_up_to_date(tmp_path: Path) -> None:
    fresh = tmp_path / "_native.pyi"
    command = [sys.executable, "-m", "nanobind.stubgen", "-q", "-m", "tumortrace_runtime._native", "-o", str(fresh)]
    subprocess.run(command, check=True)
    assert _STUB.read_text() == fresh.read_text(), "run `make stub`"
