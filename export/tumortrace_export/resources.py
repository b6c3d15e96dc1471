"""Whether this machine has room for an export, checked before it begins."""

from __future__ import annotations

import shutil
from pathlib import Path

from tumortrace_runtime.errors import InputError, OutputError

DISK_PER_PARAMETER_BYTES = 40
"""Every artefact of one parameter: 4 bytes in FP32, 2 in each FP16 file, 1 in each INT8 file; the archive as much."""

DISK_BASE_BYTES = 32 << 20
MEMORY_BASE_BYTES = 1 << 30
"""PyTorch, the engines and their compiled models."""

NETWORK_MEMORY_FACTOR = 40
"""Copies of the weights that are held at a time, by PyTorch, ONNX and the engines, with room for activations."""


def check_room(out: Path, parameters: int, voxels: int, *, root: Path = Path("/")) -> None:
    """Refuse an export that would run out of disk or memory.

    Args:
        out: the bundle.
        parameters: of the network.
        voxels: float32 ones that are held at a time, sequences counted, on the network's grid.
        root: where /proc is found.

    Raises:
        OutputError: too little disk.
        InputError: too little memory.
    """
    place = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    free, needed = shutil.disk_usage(place).free, DISK_BASE_BYTES + DISK_PER_PARAMETER_BYTES * parameters
    if free < needed:
        raise OutputError(f"{place}: {_mb(free)} free, about {_mb(needed)} wanted for this export; free some first.")
    available = _available_memory(root)
    wanted = MEMORY_BASE_BYTES + 4 * (NETWORK_MEMORY_FACTOR * parameters + voxels)
    if available is not None and available < wanted:
        raise InputError(
            f"memory: {_mb(available)} available, about {_mb(wanted)} wanted for this export; end other programs, or "
            "take a split with fewer validation cases."
        )


def _available_memory(root: Path) -> int | None:
    """What Linux says can be had without swapping, or None where it says nothing."""
    try:
        lines = (root / "proc" / "meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.0f} MB"
