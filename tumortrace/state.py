"""What an exact resume needs beside the checkpoint: the weights as they are trained, moments, history; no pickle."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tumortrace.checkpoint import Checkpoint, load_checkpoint, write_checkpoint
from tumortrace_runtime.errors import CheckpointError
from tumortrace_runtime.files import atomic_directory, read_json, write_json

TRAINED = "trained.safetensors"
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


def save_state(
    path: Path, checkpoint: Checkpoint, network: nn.Module, optimizer: Optimizer, history: list[Epoch]
) -> None:
    """Write the state in place of an older one, whole or not at all.

    Args:
        path: its folder.
        checkpoint: what would be evaluated now: the average of the weights, where one is kept.
        network: what is trained, as the last step left it.
        optimizer: its moments are kept.
        history: all epochs so far.

    Raises:
        OutputError: the folder could not be written.
    """
    with atomic_directory(path, replace=True) as folder:
        write_checkpoint(folder, checkpoint)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
        (folder / TRAINED).write_bytes(safetensors.torch.save(tensors))
        (folder / MOMENTS).write_bytes(safetensors.torch.save(_flatten(optimizer)))
        write_json(folder / HISTORY, [asdict(epoch) for epoch in history])


def load_state(path: Path, network: nn.Module, optimizer: Optimizer) -> tuple[Checkpoint, list[Epoch]]:
    """Read the state, and put weights into `network` and moments into `optimizer`.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    checkpoint = load_checkpoint(path)
    network.load_state_dict(_read(path / TRAINED))
    state = optimizer.state_dict()
    state["state"] = _unflatten(_read(path / MOMENTS))
    optimizer.load_state_dict(state)
    rows = read_json(path / HISTORY, CheckpointError)
    try:
        return checkpoint, [Epoch(**row) for row in rows]
    except TypeError as problem:
        raise CheckpointError(f"{path / HISTORY}: is not a list of epochs ({problem}).") from problem


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as problem:
        raise CheckpointError(f"{path}: cannot be read ({problem}).") from problem


def _flatten(optimizer: Optimizer) -> dict[str, Tensor]:
    states = optimizer.state_dict()["state"]
    return {
        f"{number}.{key}": tensor.cpu().contiguous()
        for number, state in states.items()
        for key, tensor in state.items()
    }


def _unflatten(tensors: dict[str, Tensor]) -> dict[int, dict[str, Any]]:
    states: dict[int, dict[str, Any]] = {}
    for key, tensor in tensors.items():
        number, name = key.split(".", 1)
        states.setdefault(int(number), {})[name] = tensor
    return states
