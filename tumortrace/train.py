"""Training, from prepared cases to the best checkpoint; read top to bottom, this file tells how it goes.

A run's folder holds `config.json`, `metrics.csv`, `curves.png`, `best/` (the checkpoint to use) and `last/` (all that
an exact resume needs). Every batch and its augmentation are drawn by (seed, step), so a run that was killed and resumed
gives the same weights as one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer

from tumortrace.augment import augment
from tumortrace.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tumortrace.config import TrainConfig
from tumortrace.curves import write_metrics
from tumortrace.dataset import SliceSampler, TrainingCase
from tumortrace.losses import Loss, build_loss
from tumortrace.model import ModelConfig, build_model, channels_last, family_config
from tumortrace.predict import TorchNetwork
from tumortrace.run import Run
from tumortrace.state import Epoch, load_state, save_state
from tumortrace_runtime.errors import OutputError, SpecError
from tumortrace_runtime.files import read_json, write_json
from tumortrace_runtime.inference import segment_prepared
from tumortrace_runtime.metrics import dice
from tumortrace_runtime.preprocess import REFERENCE_CHANNEL
from tumortrace_runtime.settings import to_dict

Progress = Callable[[Sequence[int], str], AbstractContextManager[Iterable[int]]]


def train(
    run: Run,
    out: Path,
    *,
    resume: bool = False,
    progress: Progress = lambda steps, label: nullcontext(steps),
    report: Callable[[Epoch, bool], None] = lambda epoch, best: None,
) -> Checkpoint:
    """Train until the epochs are done or patience is over, and return the best checkpoint.

    Args:
        run: configuration and data.
        out: the run's folder.
        resume: go on from `out`/last; without it, a folder that is already there is refused.
        progress: wraps the steps of an epoch, to show how far it is.
        report: called after each epoch with its metrics and whether it is the best so far.

    Raises:
        OutputError: `out` exists and `resume` is false, or it cannot be written.
        SpecError: a setting does not hold, there is no case to train or to validate on, or a resumed run had another
            configuration or other data.
        CheckpointError: the state to resume from is damaged.
    """
    config = run.config
    model_config = family_config(config.model, config.preprocessing.in_channels)
    _check(run, model_config)
    loss = build_loss(config.loss)
    _open_folder(run, out, resume)
    torch.manual_seed(config.seed)
    network = channels_last(build_model(model_config))
    optimizer = build_optimizer(network, config)
    history: list[Epoch] = []
    if resume and (out / "last").exists():
        checkpoint, history = _restore(out / "last", network, optimizer)
    sampler = SliceSampler(run.training, config.preprocessing.context, config.tumour_share)

    while len(history) < config.epochs and not out_of_patience(history, config.patience):
        started = time.perf_counter()
        first = len(history) * config.steps_per_epoch
        with progress(range(first, first + config.steps_per_epoch), f"epoch {len(history) + 1}") as steps:
            losses = [train_step(step, network, optimizer, sampler, loss, config) for step in steps]
        scores = validate(network, run.validation, config)
        epoch = Epoch(
            epoch=len(history) + 1,
            learning_rate=learning_rate_at(first + config.steps_per_epoch - 1, config),
            train_loss=float(np.mean(losses)),
            validation_dice=float(np.mean(list(scores.values()))),
            worst_dice=min(scores.values()),
            seconds=time.perf_counter() - started,
        )
        history.append(epoch)
        checkpoint = _checkpoint(run, model_config, network, epoch, scores)
        is_best = epoch is best_epoch(history)
        if is_best:
            save_checkpoint(out / "best", checkpoint)
        save_state(out / "last", checkpoint, optimizer, history)
        write_metrics(out, history)
        report(epoch, is_best)
    return load_checkpoint(out / "best")


def train_step(
    step: int, network: nn.Module, optimizer: Optimizer, sampler: SliceSampler, loss: Loss, config: TrainConfig
) -> float:
    """One batch forward and back; its loss. Everything random is drawn by (seed, step)."""
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    inputs, truth = sampler.batch(config.batch_size, np.random.default_rng((config.seed, step)))
    inputs, truth = augment(inputs, truth, config.augmentation, droppable_sequences(config), generator)
    batch = inputs.flatten(1, 2).contiguous(memory_format=torch.channels_last)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate_at(step, config)
    network.train()
    with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16"):
        logits = network(batch)
    value = loss(logits.float(), truth)
    optimizer.zero_grad(set_to_none=True)
    cast(Callable[[], None], value.backward)()
    optimizer.step()
    return float(value.detach())


def validate(network: nn.Module, cases: Sequence[TrainingCase], config: TrainConfig) -> dict[str, float]:
    """Dice of each case in 3-D, on its own grid, after post-processing."""
    runner = TorchNetwork(network.eval(), bf16=config.precision == "bf16")
    scores = {}
    for case in cases:
        mask = segment_prepared(runner, case.prepared, config.preprocessing.context, 8, config.postprocessing)
        scores[case.case_id] = dice(mask, case.truth)
    return scores


def build_optimizer(network: nn.Module, config: TrainConfig) -> Optimizer:
    """Adam or AdamW; weight decay leaves biases and batch norms alone."""
    if config.optimizer == "adam":
        return Adam(network.parameters(), lr=config.learning_rate)
    matrices = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return AdamW(groups, lr=config.learning_rate)


def learning_rate_at(step: int, config: TrainConfig) -> float:
    """Linear warm-up, then a half cosine that reaches 0 after the last step (Loshchilov and Hutter 2017)."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    total = config.epochs * config.steps_per_epoch
    done = (step - config.warmup_steps) / max(1, total - config.warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def best_epoch(history: Sequence[Epoch]) -> Epoch:
    """The first epoch with the highest mean validation Dice."""
    return max(history, key=lambda epoch: (epoch.validation_dice, -epoch.epoch))


def out_of_patience(history: Sequence[Epoch], patience: int) -> bool:
    """Whether the last `patience` epochs brought nothing better; never with a patience of 0."""
    return bool(history) and patience > 0 and len(history) - best_epoch(history).epoch >= patience


def droppable_sequences(config: TrainConfig) -> tuple[int, ...]:
    """Numbers of the sequences that augmentation may drop: all but the FLAIR, which shows the lesion."""
    return tuple(number for number, name in enumerate(config.preprocessing.channels) if name != REFERENCE_CHANNEL)


def refuse_existing(out: Path) -> None:
    """Refuse to begin a run where something is already.

    Raises:
        OutputError: `out` exists.
    """
    if out.exists():
        raise OutputError(f"{out}: already exists; go on with --resume, or choose another name.")


def _open_folder(run: Run, out: Path, resume: bool) -> None:
    description = {"config": to_dict(run.config), "data": dict(run.provenance)}
    if not resume:
        refuse_existing(out)
        write_json(out / "config.json", description)
        return
    stored = read_json(out / "config.json")
    if stored != description:
        changed = [key for part in description for key in _differences(stored.get(part, {}), description[part])]
        raise SpecError(f"{out}: was begun with another {', '.join(changed)}; resume with the same, or start anew.")


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]


def _check(run: Run, model: ModelConfig) -> None:
    if not (run.training and run.validation):
        found = f"{len(run.training)} training and {len(run.validation)} validation cases"
        raise SpecError(f"{found} given; at least one of each wanted.")
    grid = run.config.preprocessing.grid_px
    if any(size % model.reduction for size in grid):
        name = run.config.model
        raise SpecError(f"preprocessing.grid_px is {grid}; multiples of {model.reduction} wanted for {name}.")


def _restore(path: Path, network: nn.Module, optimizer: Optimizer) -> tuple[Checkpoint, list[Epoch]]:
    checkpoint, history = load_state(path, optimizer)
    network.load_state_dict(cast(dict[str, Tensor], checkpoint.weights))
    return checkpoint, history


def _checkpoint(
    run: Run, model: ModelConfig, network: nn.Module, epoch: Epoch, scores: Mapping[str, float]
) -> Checkpoint:
    training = {
        "config": to_dict(run.config),
        "data": dict(run.provenance),
        "epoch": epoch.epoch,
        "validation_dice": dict(scores),
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
    }
    weights = network.state_dict()
    return Checkpoint(model, run.config.preprocessing, run.config.postprocessing, training, weights)
