"""A process of its own for each candidate: how soon its first mask is there, and how much memory it takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.bench.candidates import Choice
from tumortrace_runtime.bench.results import Start
from tumortrace_runtime.errors import BackendError

_STARTS = 3
_GROWTH_SLICES = 2000

_PROCESS = """
import json, os, sys, time
told = json.loads(sys.argv[1])
from tumortrace_runtime.bench.start import serve
serve(told)
"""


def measure_start(
    bundle: Path, choice: Choice, scan: npt.NDArray[Any], *, growth_slices: int = _GROWTH_SLICES
) -> Start:
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
        starts = [_start(asked | {"growth_slices": 0}, folder) for _ in range(1 + _STARTS)][1:]
        last = _start(asked | {"growth_slices": growth_slices}, folder)
    return Start(
        first_mask_ms=min(start["first_mask_ms"] for start in [*starts, last]),
        peak_bytes=last["peak_bytes"],
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


def serve(asked: Mapping[str, Any]) -> None:
    """What the process does: segment a slice, then the scan, then the scan again and again; tell it as JSON."""
    from tumortrace_runtime import Segmenter

    scan = np.load(asked["scan"], mmap_mode="r")
    with Segmenter(asked["bundle"], **asked["engine"]) as segmenter:
        middle = len(scan) // 2
        segmenter.segment(np.ascontiguousarray(scan[middle : middle + 1]))
        told = {"first_mask_ms": (time.time() - asked["started"]) * 1e3}
        whole = np.array(scan)
        segmenter.segment(whole)
        told |= {"peak_bytes": _status_bytes("VmHWM"), "growth_bytes": 0, "growth_slices": 0}
        if asked["growth_slices"]:
            segmenter.segment(whole)
            before, done = _status_bytes("VmRSS"), 0
            while done < asked["growth_slices"]:
                segmenter.segment(whole)
                done += len(whole)
            told |= {"growth_bytes": _status_bytes("VmRSS") - before, "growth_slices": done}
    print(json.dumps(told))


def _status_bytes(name: str) -> int:
    """What Linux says of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024
