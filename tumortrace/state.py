"""What an exact resume needs: the latest weights, the optimizer's moments and the history, as safetensors and JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor
from torch.optim import Optimizer

from tumortrace.checkpoint import Checkpoint, load_checkpoint, write_checkpoint
from tumortrace_runtime.errors import CheckpointError
from tumortrace_runtime.files import atomic_directory, read_json, write_json

MOMENTS = "optimizer.safetensors"
HISTORY = "history.json"


@dataclass(frozen=True)
class Epoch:
    """One row of `metrics.csv`; `epoch` counts from 1, losses and Dice are means, Dice over validation cases."""

    epoch: int
    learning_rate: float
    train_loss: float
    validation_dice: float
    worst_dice: float
    seconds: float


def save_state(path: Path, checkpoint: Checkpoint, optimizer: Optimizer, history: list[Epoch]) -> None:
    """Write the state in place of an older one, whole or not at all.

    Raises:
        OutputError: the folder could not be written.
    """
    with atomic_directory(path, replace=True) as folder:
        write_checkpoint(folder, checkpoint)
        (folder / MOMENTS).write_bytes(safetensors.torch.save(_flatten(optimizer)))
        write_json(folder / HISTORY, [asdict(epoch) for epoch in history])


def load_state(path: Path, optimizer: Optimizer) -> tuple[Checkpoint, list[Epoch]]:
    """Read the state and put the moments into `optimizer`, whose parameters are already in place.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    checkpoint = load_checkpoint(path)
    try:
        moments = safetensors.torch.load_file(path / MOMENTS)
    except (OSError, safetensors.SafetensorError) as problem:
        raise CheckpointError(f"{path / MOMENTS}: cannot be read ({problem}).") from problem
    state = optimizer.state_dict()
    state["state"] = _unflatten(moments)
    optimizer.load_state_dict(state)
    return checkpoint, [Epoch(**row) for row in read_json(path / HISTORY, CheckpointError)]


def _flatten(optimizer: Optimizer) -> dict[str, Tensor]:
    states = optimizer.state_dict()["state"]
    return {f"{number}.{key}": tensor.contiguous() for number, state in states.items() for key, tensor in state.items()}


def _unflatten(tensors: dict[str, Tensor]) -> dict[int, dict[str, Any]]:
    states: dict[int, dict[str, Any]] = {}
    for key, tensor in tensors.items():
        number, name = key.split(".", 1)
        states.setdefault(int(number), {})[name] = tensor
    return states
