"""Training, from prepared cases to the best checkpoint; read top to bottom, this file tells how it goes.

A run's folder holds `config.json`, `metrics.csv`, `curves.png`, `best/` (the checkpoint to use) and `last/` (all that
an exact resume needs). Every batch and its augmentation are drawn by (seed, step), so a run that was killed and resumed
gives the same weights as one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer

from tumortrace.augment import augment
from tumortrace.average import average_weights
from tumortrace.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tumortrace.config import TrainConfig
from tumortrace.curves import write_metrics
from tumortrace.dataset import SliceSampler, TrainingCase
from tumortrace.distil import distillation_loss
from tumortrace.ensemble import Ensemble
from tumortrace.hardware import open_fabric
from tumortrace.losses import Loss, build_loss
from tumortrace.model import ModelConfig, channels_last, family_config
from tumortrace.predict import TorchNetwork
from tumortrace.progress import Progress, silent
from tumortrace.run import Run
from tumortrace.run_folder import open_folder
from tumortrace.state import Epoch, load_state, save_state
from tumortrace.supervision import Supervised, supervised_loss
from tumortrace_runtime.errors import SpecError
from tumortrace_runtime.inference import BATCH_SIZE, segment_prepared
from tumortrace_runtime.metrics import dice
from tumortrace_runtime.preprocess import REFERENCE_CHANNEL
from tumortrace_runtime.settings import require, to_dict


def train(
    run: Run,
    out: Path,
    *,
    fabric: Fabric | None = None,
    resume: bool = False,
    progress: Progress = silent,
    report: Callable[[Epoch, bool], None] = lambda epoch, best: None,
) -> Checkpoint:
    """Train until the epochs are done or patience is over, and return the best checkpoint.

    Args:
        run: configuration and data.
        out: the run's folder.
        fabric: launched hardware to train on; the CPU if None. Its first process validates, writes and reports.
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
    fabric = fabric or open_fabric("cpu", precision=config.precision)
    model_config = family_config(config.model, config.preprocessing.in_channels)
    check_config(config, fabric.world_size, taught=bool(run.teachers))
    _check_cases(run)
    loss = build_loss(config.loss)
    if fabric.is_global_zero or resume:  # what one process refuses to resume, all do: none waits for it in vain
        description = {"config": to_dict(config), "data": dict(run.provenance)}
        open_folder(out, description, resume=resume)
    fabric.barrier()
    torch.manual_seed(config.seed)
    learner = _Learner(config, model_config, fabric)
    history = learner.restore(out / "last") if resume and (out / "last").exists() else []
    sampler = SliceSampler(run.training, config.preprocessing.context, config.tumour_share)
    teachers = Ensemble([one.checkpoint for one in run.teachers]).to(fabric.device) if run.teachers else None

    while len(history) < config.epochs and not out_of_patience(history, config.patience):
        epoch, scores = _train_epoch(len(history) + 1, learner, run, sampler, loss, teachers, progress)
        history.append(epoch)
        is_best = epoch is best_epoch(history)
        if fabric.is_global_zero:
            checkpoint = _checkpoint(run, model_config, learner.evaluated, epoch, scores)
            if is_best:
                save_checkpoint(out / "best", checkpoint)
            write_metrics(out, history)
            save_state(out / "last", checkpoint, learner.network, learner.optimizer, history)
            report(epoch, is_best)
    fabric.barrier()
    return load_checkpoint(out / "best")


def _train_epoch(
    number: int,
    learner: _Learner,
    run: Run,
    sampler: SliceSampler,
    loss: Loss,
    teachers: Ensemble | None,
    progress: Progress,
) -> tuple[Epoch, dict[str, float]]:
    """Train for the epoch with this number, counted from 1, and validate: what came of it, and Dice by case."""
    config, fabric = learner.config, learner.fabric
    started = time.perf_counter()
    first = (number - 1) * config.steps_per_epoch
    with progress(range(first, first + config.steps_per_epoch), f"epoch {number}") as steps:
        losses = [train_step(step, learner, sampler, loss, teachers) for step in steps]
    scores = fabric.broadcast(validate(learner.evaluated, run.validation, config) if fabric.is_global_zero else {})
    epoch = Epoch(
        epoch=number,
        learning_rate=learning_rate_at(first + config.steps_per_epoch - 1, config),
        train_loss=float(np.mean(losses)),
        validation_dice=float(np.mean(list(scores.values()))),
        worst_dice=min(scores.values()),
        seconds=time.perf_counter() - started,
    )
    return fabric.broadcast(epoch), scores


class _Learner:
    """What training changes: the network with its supervision, the average of its weights, the optimizer's moments."""

    def __init__(self, config: TrainConfig, model: ModelConfig, fabric: Fabric) -> None:
        self.config = config
        self.fabric = fabric
        self.network = Supervised(model, deep=config.deep_supervision > 0)
        channels_last(self.network)
        self.optimizer = build_optimizer(self.network, config)
        self.on_device, self.stepper = fabric.setup(self.network, self.optimizer)
        self._average = average_weights(self.network.network, config.ema_decay) if config.ema_decay else None

    @property
    def evaluated(self) -> nn.Module:
        """The network that is validated and kept."""
        return self._average.module if self._average else self.network.network

    def restore(self, path: Path) -> list[Epoch]:
        """Go on from a saved state; returns its history."""
        checkpoint, history = load_state(path, self.network, self.optimizer)
        if self._average:
            self._average.module.load_state_dict(dict(checkpoint.weights))
            self._average.n_averaged.fill_(len(history) * self.config.steps_per_epoch)
        return history

    def step(self, loss: Tensor) -> None:
        """Change the weights against the loss's gradient."""
        self.stepper.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        self.stepper.step()
        if self._average:
            self._average.update_parameters(self.network.network)


def train_step(
    step: int, learner: _Learner, sampler: SliceSampler, loss: Loss, teachers: Ensemble | None = None
) -> float:
    """One batch forward and back; its loss. All that is random is drawn by (seed, step); each process takes a part."""
    config, fabric = learner.config, learner.fabric
    rank, world = fabric.global_rank, fabric.world_size
    generator = torch.Generator(fabric.device).manual_seed((config.seed * 1_000_003 + step) * world + rank)
    drawn = sampler.batch(config.batch_size, np.random.default_rng((config.seed, step)), slice(rank, None, world))
    inputs, truth = (tensor.to(fabric.device) for tensor in drawn)
    inputs, truth = augment(inputs, truth, config.augmentation, droppable_sequences(config), generator)
    batch = inputs.flatten(1, 2).contiguous(memory_format=torch.channels_last)
    for group in learner.optimizer.param_groups:
        group["lr"] = learning_rate_at(step, config)
    learner.on_device.train()
    logits = learner.on_device(batch)
    value = supervised_loss(logits, truth, loss, config.deep_supervision)
    if teachers is not None:
        with fabric.autocast():
            taught = teachers(batch)
        value = value + config.distillation * distillation_loss(logits[0], taught)
    learner.step(value)
    return float(value.detach())


def validate(network: nn.Module, cases: Sequence[TrainingCase], config: TrainConfig) -> dict[str, float]:
    """Dice of each case in 3-D, on its own grid, after post-processing."""
    runner = TorchNetwork(network.eval(), bf16=config.precision == "bf16")
    scores = {}
    for case in cases:
        mask = segment_prepared(runner, case.prepared, config.preprocessing.context, BATCH_SIZE, config.postprocessing)
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


def check_config(config: TrainConfig, processes: int = 1, *, taught: bool = False) -> None:
    """Refuse what cannot be trained, before anything is read or written for it.

    Args:
        config: how to train.
        processes: that share each batch.
        taught: whether there is a teacher.

    Raises:
        SpecError: settings do not go together.
    """
    build_loss(config.loss)
    step = family_config(config.model, config.preprocessing.in_channels).reduction
    for name, sides in (
        ("preprocessing.grid_px", config.preprocessing.grid_px),
        ("augmentation.patch_px", (config.augmentation.patch_px,)),
    ):
        given = "x".join(map(str, sides))
        if any(side % step for side in sides):
            raise SpecError(f"{name} is {given}; multiples of {step} wanted for {config.model}.")
    require(config.batch_size % processes == 0, "batch_size", config.batch_size, f"a multiple of {processes} devices")
    weight = "a weight above 0 (a teacher is given)" if taught else "0 (no teacher is given)"
    require(taught == (config.distillation > 0), "distillation", config.distillation, weight)


def _check_cases(run: Run) -> None:
    if not (run.training and run.validation):
        found = f"{len(run.training)} training and {len(run.validation)} validation cases"
        raise SpecError(f"{found} given; at least one of each wanted.")


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
