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
    assert 20e6 < found.own_bytes < found.peak_bytes < 2e9
    assert found.growth_slices == 24
    assert found.growth_bytes < 20e6


def test_a_leak_is_growth(tiny_bundle, tmp_path):
    kept = []

    class Leaking(Segmenter):
        def segment(self, scan):
            kept.append(mmap.mmap(-1, 1 << 20))  # not the heap's, which may have room that it got before
            kept[-1].write(bytes(1 << 20))
            return super().segment(scan)

    found = observe_growth(Leaking, tiny_bundle, tmp_path)
    assert len(kept) == 33
    assert found["growth_bytes"] > 25 * 2**20


def test_files_that_a_process_maps_are_not_its_own_memory(tiny_bundle, tmp_path):
    size = 4 << 20
    (tmp_path / "file").write_bytes(bytes(size))
    held = []

    class Mapping(Segmenter):
        def segment(self, scan):
            with (tmp_path / "file").open("rb") as file:
                held.append(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
            assert not np.frombuffer(held[-1], np.uint8)[::4096].any()
            return super().segment(scan)

    without, found = (observe_growth(make, tiny_bundle, tmp_path) for make in (Segmenter, Mapping))
    assert len(held) == 33
    assert found["mapped_bytes"] - without["mapped_bytes"] >= 3 * size
    assert found["growth_bytes"] < 20e6 < 30 * size


def observe_growth(make, bundle, folder):
    scan = np.random.default_rng(3).integers(0, 200, (6, 64, 64, 3)).astype(np.uint8)
    np.save(folder / "scan.npy", scan)
    engine = {"backend": "onnxruntime", "precision": "fp32"}
    asked = {"bundle": bundle, "scan": folder / "scan.npy", "engine": engine, "started": time.time()}
    return observe(asked | {"growth_slices": 180}, make)
