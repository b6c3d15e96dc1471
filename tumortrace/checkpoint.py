"""The checkpoint: a folder with `weights.safetensors` and `checkpoint.json`, and no pickle anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from tumortrace.model import ModelConfig, build_model
from tumortrace.quantisation import Quantisation
from tumortrace_runtime.confidence import Confidence
from tumortrace_runtime.errors import CheckpointError, SpecError
from tumortrace_runtime.files import atomic_directory, read_json, sha256_file, write_json
from tumortrace_runtime.postprocess import Postprocessing
from tumortrace_runtime.preprocess import Preprocessing
from tumortrace_runtime.settings import from_dict, to_dict

FORMAT = "tumortrace-checkpoint"
VERSION = 1
WEIGHTS = "weights.safetensors"
CONFIG = "checkpoint.json"


@dataclass(frozen=True)
class Checkpoint:
    """A trained network and all that it needs to be used.

    Attributes:
        model: the network's shape.
        preprocessing: what it was trained on.
        postprocessing: what turns its logits into a mask.
        training: provenance as JSON values: configuration, index and split hash, epoch, validation Dice.
        weights: parameters and buffers by name.
        quantisation: the scales of a network that was trained for INT8; None for others.
        confidence: calibration of its probabilities, and what scans it was made for; None before `calibrate`.
    """

    model: ModelConfig
    preprocessing: Preprocessing
    postprocessing: Postprocessing
    training: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    quantisation: Quantisation | None = None
    confidence: Confidence | None = None

    def network(self) -> nn.Module:
        """The network with these weights, in evaluation mode.

        Raises:
            CheckpointError: the weights do not fit the network.
        """
        _check_fit("the weights", self.model, self.weights)
        network = build_model(self.model)
        network.load_state_dict(dict(self.weights))
        return network.eval()


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint in place of an older one, whole or not at all.

    Raises:
        OutputError: the folder could not be written.
    """
    with atomic_directory(path, replace=True) as folder:
        write_checkpoint(folder, checkpoint)


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint's two files into a folder that is there."""
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in checkpoint.weights.items()}
    (folder / WEIGHTS).write_bytes(safetensors.torch.save(tensors))
    config = {
        "format": FORMAT,
        "version": VERSION,
        "weights_sha256": sha256_file(folder / WEIGHTS),
        "model": to_dict(checkpoint.model),
        "preprocessing": to_dict(checkpoint.preprocessing),
        "postprocessing": to_dict(checkpoint.postprocessing),
        "training": checkpoint.training,
        **({"quantisation": to_dict(checkpoint.quantisation)} if checkpoint.quantisation else {}),
        **({"confidence": to_dict(checkpoint.confidence)} if checkpoint.confidence else {}),
    }
    write_json(folder / CONFIG, config)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read and verify a checkpoint.

    Raises:
        CheckpointError: a file is missing or damaged, the checkpoint is of another format or version, or its weights
            do not fit its network.
    """
    if not (path / CONFIG).is_file():
        raise CheckpointError(f"{path}: is no checkpoint; a folder with {CONFIG} and {WEIGHTS} wanted.")
    config = read_json(path / CONFIG, CheckpointError)
    if not isinstance(config, dict) or config.get("format") != FORMAT or config.get("version") != VERSION:
        found = (config.get("format"), config.get("version")) if isinstance(config, dict) else "no object"
        raise CheckpointError(f"{path / CONFIG}: holds {found}; {FORMAT!r} version {VERSION} wanted.")
    try:
        checkpoint = Checkpoint(
            model=from_dict(ModelConfig, config["model"]),
            preprocessing=from_dict(Preprocessing, config["preprocessing"]),
            postprocessing=from_dict(Postprocessing, config["postprocessing"]),
            training=config["training"],
            weights=_load_weights(path / WEIGHTS, config["weights_sha256"]),
            quantisation=from_dict(Quantisation, config["quantisation"]) if "quantisation" in config else None,
            confidence=from_dict(Confidence, config["confidence"]) if "confidence" in config else None,
        )
    except KeyError as problem:
        raise CheckpointError(f"{path / CONFIG}: {problem} is missing.") from problem
    except (TypeError, AttributeError) as problem:
        raise CheckpointError(f"{path / CONFIG}: a field is of the wrong kind ({problem}).") from problem
    except SpecError as problem:
        raise CheckpointError(f"{path / CONFIG}: {problem}") from problem
    _check_fit(f"{path / WEIGHTS}: its tensors", checkpoint.model, checkpoint.weights)
    return checkpoint


def _load_weights(path: Path, sha256: str) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(f"{path}: is missing.")
    found = sha256_file(path)
    if found != sha256:
        raise CheckpointError(f"{path}: has SHA-256 {found[:12]}…, {sha256[:12]}… wanted; the file was altered.")
    try:
        return safetensors.torch.load_file(path)
    except safetensors.SafetensorError as problem:
        raise CheckpointError(f"{path}: cannot be read ({problem}).") from problem


def _check_fit(subject: str, config: ModelConfig, weights: Mapping[str, Tensor]) -> None:
    """Refuse weights that are not those of a network, before memory is taken for what the network says it is."""
    with torch.device("meta"):
        wanted = {key: _told(tensor) for key, tensor in build_model(config).state_dict().items()}
    found = {key: _told(tensor) for key, tensor in weights.items()}
    if unfit := [key for key in sorted(wanted | found) if found.get(key) != wanted.get(key)]:
        given, asked = (tensors.get(unfit[0], "nothing") for tensors in (found, wanted))
        raise CheckpointError(f"{subject} do not fit {config}: {unfit[0]!r} is {given}; {asked} wanted.")


def _told(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
