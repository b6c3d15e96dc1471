from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tumortrace_runtime import _native

_STUB = Path(__file__).resolve().parents[2] / "runtime" / "tumortrace_runtime" / "_native.pyi"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            {"planes": np.zeros((0, 3, 8, 8), np.float32)}, r"planes of shape \(0, 3, 8, 8\) are empty", id="empty"
        ),
        pytest.param(
            {"start": 3, "stop": 2}, "no slices 3 to 2; 0 <= start <= stop <= 5 wanted", id="start after stop"
        ),
        pytest.param({"start": 4, "stop": 6}, "no slices 4 to 6", id="stop after the scan"),
        pytest.param({"block": 3}, "block is 3; 1, 2 or 4 wanted", id="block of 3"),
        pytest.param({"block": 0}, "block is 0", id="block of 0"),
        pytest.param({"planes": np.zeros((5, 3, 8, 7), np.float32)}, "rows and columns in multiples of 2", id="odd"),
        pytest.param({"scale": 0.0}, "scale is 0.0", id="scale 0"),
        pytest.param({"scale": -1.0}, "scale is -1.0", id="negative scale"),
        pytest.param({"scale": float("inf")}, "scale is inf", id="infinite scale"),
        pytest.param({"scale": float("nan")}, "scale is nan", id="scale NaN"),
        pytest.param({"zero_point": 128}, "zero_point is 128; -128 to 127 wanted", id="zero point"),
        pytest.param({"context": 2}, r"out has shape \(2, 4, 4, 36\); \(2, 4, 4, 60\) wanted", id="context"),
        pytest.param({"context": 65535}, r"\(2, 4, 4, 1572852\) wanted", id="large context"),
        pytest.param({"out": np.zeros((2, 4, 4, 35), np.int8)}, r"out has shape \(2, 4, 4, 35\)", id="out"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _native.pack_batch(**_packing() | change)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"planes": np.zeros((5, 3, 8, 8))}, id="float64 planes"),
        pytest.param({"planes": np.zeros((5, 3, 8, 16), np.float32)[..., ::2]}, id="strided planes"),
        pytest.param({"planes": np.zeros((3, 8, 8), np.float32)}, id="planes without slices"),
        pytest.param({"out": np.zeros((2, 4, 4, 36), np.int16)}, id="int16 out"),
        pytest.param({"out": np.zeros((2, 4, 4, 72), np.int8)[..., ::2]}, id="strided out"),
        pytest.param({"out": np.broadcast_to(np.int8(0), (2, 4, 4, 36))}, id="read-only out"),
        pytest.param({"start": -1}, id="negative start"),
        pytest.param({"context": -1}, id="negative context"),
        pytest.param({"context": 65536}, id="context beyond any scan"),
        pytest.param({"zero_point": 0.5}, id="fractional zero point"),
    ],
)
def test_no_batch_is_converted_behind_the_callers_back(change: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        _native.pack_batch(**_packing() | change)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_a_batch_is_written_where_the_caller_says(dtype: type[np.int8 | np.uint8]) -> None:
    out = np.full((2, 4, 4, 36), 99, dtype)
    _native.pack_batch(**_packing() | {"zero_point": 7, "out": out})
    assert (out == 7).all()


def test_a_batch_of_no_slices_is_nothing() -> None:
    _native.pack_batch(**_packing() | {"start": 5, "stop": 5, "out": np.empty((0, 4, 4, 36), np.int8)})


def test_other_threads_run_meanwhile() -> None:
    planes = np.zeros((64, 4, 256, 256), np.float32)
    out = np.empty((64, 128, 128, 48), np.int8)
    packing = _packing() | {"planes": planes, "start": 0, "stop": 64, "out": out}
    assert _ticks_during(lambda: _native.pack_batch(**packing)) > 0


def _packing() -> dict[str, Any]:
    """Arguments of `pack_batch` that fit."""
    planes, out = np.zeros((5, 3, 8, 8), np.float32), np.zeros((2, 4, 4, 36), np.int8)
    numbers = {"start": 1, "stop": 3, "context": 1, "block": 2, "scale": 0.5, "zero_point": 0}
    return {"planes": planes, "out": out} | numbers


def _ticks_during(call: Callable[[], object]) -> int:
    """How often another Python thread got round while `call` ran, the median of five times."""
    ticks, done = 0, threading.Event()

    def tick() -> None:
        nonlocal ticks
        while not done.is_set():
            ticks += 1

    def ticks_during_a_call() -> int:
        before = ticks
        call()
        return ticks - before

    ticker = threading.Thread(target=tick)
    ticker.start()
    counts = sorted(ticks_during_a_call() for _ in range(5))
    done.set()
    ticker.join()
    return counts[2]


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
