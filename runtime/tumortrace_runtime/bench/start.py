"""A process of its own for each candidate: how soon its first mask is there, and how much memory it takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.bench.candidates import Choice
from tumortrace_runtime.bench.results import Start
from tumortrace_runtime.errors import BackendError
from tumortrace_runtime.segmenter import Segmenter

_PROCESS = """
import json, sys
from tumortrace_runtime import Segmenter
from tumortrace_runtime.bench.start import observe
print(json.dumps(observe(json.loads(sys.argv[1]), Segmenter)))
"""


def measure_start(bundle: Path, choice: Choice, scan: npt.NDArray[Any], *, growth_slices: int) -> Start:
    """Start processes that segment a scan, the last of them again and again.

    Args:
        bundle: its folder.
        choice: what is measured.
        scan: (slices, rows, columns, channels), the largest.
        growth_slices: over how many slices memory is watched.

    Raises:
        BackendError: a process failed.
    """
    with tempfile.TemporaryDirectory(prefix="tumortrace-") as folder:
        path = Path(folder, "scan.npy")
        np.save(path, scan)
        asked = {
            "bundle": str(bundle),
            "scan": str(path),
            "engine": {
                "backend": choice.backend,
                "precision": choice.precision,
                "device": choice.device,
                "threads": choice.threads,
            },
        }
        # The first start fills what the engine keeps on disk.
        _, start, last = (_start(asked | {"growth_slices": slices}, folder) for slices in (0, 0, growth_slices))
    return Start(
        first_mask_ms=min(start["first_mask_ms"], last["first_mask_ms"]),
        peak_bytes=last["peak_bytes"],
        mapped_bytes=last["mapped_bytes"],
        growth_bytes=last["growth_bytes"],
        growth_slices=last["growth_slices"],
    )


def _start(asked: Mapping[str, Any], cache: str) -> dict[str, Any]:
    command = [sys.executable, "-c", _PROCESS, json.dumps(dict(asked) | {"started": time.time()})]
    done = subprocess.run(
        command, env=os.environ | {"XDG_CACHE_HOME": cache}, check=False, capture_output=True, text=True
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"ended with {done.returncode}"]
        raise BackendError(f"bench: a process of its own failed ({said[-1]}).")
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def observe(asked: Mapping[str, Any], make: Callable[..., Segmenter]) -> dict[str, Any]:
    """What a process does: segment a slice, then the scan, then the scan again and again.

    Args:
        asked: `bundle`, `scan` (an .npy file), `engine` (what `make` is given besides), `started` (seconds of the
            clock) and `growth_slices`.
        make: `Segmenter`.

    Returns:
        The fields of `results.Start`.
    """
    scan = np.load(asked["scan"], mmap_mode="r")
    with make(asked["bundle"], **asked["engine"]) as segmenter:
        middle = len(scan) // 2
        segmenter.segment(np.ascontiguousarray(scan[middle : middle + 1]))
        told = {"first_mask_ms": (time.time() - asked["started"]) * 1e3, "growth_bytes": 0, "growth_slices": 0}
        whole = np.array(scan)
        for _ in range(2):
            segmenter.segment(whole)
        told["peak_bytes"], told["mapped_bytes"] = _status_bytes("VmHWM"), _status_bytes("RssFile")
        before = _own_bytes()
        while told["growth_slices"] < asked["growth_slices"]:
            segmenter.segment(whole)
            told["growth_slices"] += len(whole)
        told["growth_bytes"] = _own_bytes() - before
    return told


def _own_bytes() -> int:
    return _status_bytes("VmRSS") - _status_bytes("RssFile")


def _status_bytes(name: str) -> int:
    """What Linux says of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024
