"""What a process of its own tells: times, memory, and a leak."""

from __future__ import annotations

import mmap
import time

import numpy as np

from tumortrace_runtime import Segmenter
from tumortrace_runtime.bench.candidates import Choice
from tumortrace_runtime.bench.start import measure_start, observe


def test_a_process_tells_its_first_mask_and_its_memory(tiny_bundle):
    scan = np.random.default_rng(3).integers(0, 200, (6, 64, 64, 3)).astype(np.uint8)
    found = measure_start(
        tiny_bundle, Choice("onnxruntime", "fp32", "CPUExecutionProvider", None), scan, growth_slices=20
    )
    assert 50 < found.first_mask_ms < 60_000
    assert 20e6 < found.peak_bytes < 2e9
    assert found.growth_slices == 24
    assert found.growth_bytes < 20e6


def test_a_leak_is_growth(tiny_bundle, tmp_path):
    kept = []

    class Leaking(Segmenter):
        def segment(self, scan):
            kept.append(mmap.mmap(-1, 1 << 20))  # not the heap's, which may have room that it got before
            kept[-1].write(bytes(1 << 20))
            return super().segment(scan)

    scan = np.random.default_rng(3).integers(0, 200, (6, 64, 64, 3)).astype(np.uint8)
    np.save(tmp_path / "scan.npy", scan)
    engine = {"backend": "onnxruntime", "precision": "fp32"}
    asked = {"bundle": tiny_bundle, "scan": tmp_path / "scan.npy", "engine": engine, "started": time.time()}
    found = observe(asked | {"growth_slices": 180}, Leaking)
    assert len(kept) == 33
    assert found["growth_bytes"] > 25 * 2**20
