"""What training runs on: one CPU, one GPU or several of either, by way of Lightning Fabric."""

from __future__ import annotations

import logging
from typing import Any, Literal

from lightning_fabric import Fabric

from tumortrace_runtime.errors import SpecError
from tumortrace_runtime.settings import require

ACCELERATORS = ("auto", "cpu", "cuda", "mps")
_PRECISIONS: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed"}


def open_fabric(accelerator: str = "auto", devices: int = 1, precision: Literal["fp32", "bf16"] = "fp32") -> Fabric:
    """The hardware to train on; with several devices, each gets a process of its own once `launch` is called.

    Args:
        accelerator: "cpu", "cuda", "mps", or "auto" for the first GPU if there is one, else the CPU.
        devices: how many, each with an equal part of every batch; on a CPU, processes.
        precision: of forward and backward pass; weights stay float32.

    Raises:
        SpecError: this machine has no such accelerator, or fewer of it, or there is none of that name.
    """
    require(accelerator in ACCELERATORS, "accelerator", accelerator, f"one of {', '.join(ACCELERATORS)}")
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces what was asked for
    try:
        return Fabric(accelerator=accelerator, devices=devices, precision=_PRECISIONS[precision])
    except (RuntimeError, ValueError) as problem:
        raise SpecError(
            f"accelerator {accelerator} with {devices} device(s): not to be had here; "
            "choose another with --accelerator, or fewer with --devices."
        ) from problem
