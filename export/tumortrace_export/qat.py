"""Quantisation-aware training: a trained network fine-tuned in the very INT8 arithmetic that the export gives it.

Read top to bottom, this file tells how it goes. The network starts with the scales of post-training calibration and
learns them on, with its weights; beside the truth, its own float self teaches it. A run's folder is that of
`tumortrace.train`, and a run that was killed and resumed gives the same weights as one that was not.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import safetensors.torch
import torch
from torch import Tensor
from torch.optim import Adam

from tumortrace.augment import Augmentation, augment
from tumortrace.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tumortrace.config import TrainConfig, build_settings
from tumortrace.curves import write_metrics
from tumortrace.dataset import SliceSampler
from tumortrace.distil import distillation_loss
from tumortrace.ensemble import Ensemble
from tumortrace.index import Index
from tumortrace.losses import build_loss
from tumortrace.model import channels_last
from tumortrace.progress import Progress, silent
from tumortrace.provenance import require_own_split
from tumortrace.quantisation import Quantisation
from tumortrace.run import Run, open_run
from tumortrace.run_folder import open_folder
from tumortrace.split import Split
from tumortrace.state import Epoch, load_state, save_state
from tumortrace.train import best_epoch, droppable_sequences, validate
from tumortrace_export.calibration import calibration_batches, choose_cases
from tumortrace_export.folding import store_folded
from tumortrace_export.onnx_model import onnx_model, save_onnx
from tumortrace_export.overflow import probed
from tumortrace_export.quantise import activations
from tumortrace_export.quantised_network import QuantisedNetwork
from tumortrace_export.ranges import METHODS, Batch, amax, collect
from tumortrace_export.value_names import to_lasting
from tumortrace_runtime.errors import SpecError
from tumortrace_runtime.files import sha256_bytes
from tumortrace_runtime.settings import require, require_between, to_dict


@dataclass(frozen=True)
class QatConfig:
    """Everything that decides how a network is fine-tuned.

    Attributes:
        calibration: how the scales to begin with are set: one of `ranges.METHODS`.
        weight_bits: what weights are rounded to: 8, or 7 for CPUs without VNNI.
        distillation: weight of the cross-entropy with the probabilities of the network as it was, in float.
        augmentation: how batches are varied; by default as in the network's own training, but never cut to patches.
        loss: weights of the losses by name; by default those of the network's own training.
        learning_rate: of the weights, by Adam (Kingma and Ba 2015); it falls to 0 as a half cosine.
        scale_rate: of the magnitudes' natural logarithms, which falls likewise.
        epochs: validations, all in INT8; each follows `steps_per_epoch` batches.
        steps_per_epoch: batches between two validations.
        batch_size: slices in a batch.
        tumour_share: share of a batch's slices drawn from those with tumour.
        seed: of the batches and the augmentation.
    """

    calibration: str = "percentile"
    weight_bits: Literal[7, 8] = 8
    distillation: float = 1.0
    augmentation: Augmentation = Augmentation()
    loss: dict[str, float] = field(default_factory=lambda: {"bce": 1.0, "dice": 1.0})
    learning_rate: float = 1e-5
    scale_rate: float = 3e-4
    epochs: int = 5
    steps_per_epoch: int = 100
    batch_size: int = 16
    tumour_share: float = 0.6
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.calibration in METHODS, "calibration", self.calibration, f"one of {', '.join(METHODS)}")
        require_between(self, 1, math.inf, "epochs", "steps_per_epoch", "batch_size")
        require_between(self, 0, math.inf, "distillation", "scale_rate", "seed")
        require_between(self, 0, 1, "tumour_share")
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "a positive number")
        patch_px = self.augmentation.patch_px
        require(patch_px == 0, "augmentation.patch_px", patch_px, "0: the exported graph is of one size")


@dataclass(frozen=True)
class FineTuning:
    """A checkpoint to fine-tune, and with what.

    Attributes:
        checkpoint: the trained network.
        config: how.
        run: its data; the run's own configuration says how scans are prepared and masks made.
        calibration: ids of the training cases that set the scales to begin with.
    """

    checkpoint: Checkpoint
    config: QatConfig
    run: Run
    calibration: Sequence[str]


def build_qat_config(checkpoint: Checkpoint, overrides: Sequence[str] = ()) -> QatConfig:
    """The defaults, with the loss, augmentation and sampling of the checkpoint's training, changed by overrides.

    Raises:
        SpecError: a key does not exist, or a value is not what it should be.
    """
    trained = checkpoint.training.get("config", {})
    values = {name: trained[name] for name in ("augmentation", "loss", "tumour_share") if name in trained}
    if "augmentation" in values:
        values["augmentation"] = {**values["augmentation"], "patch_px": 0}
    return build_settings(QatConfig, values, overrides)


def open_fine_tuning(
    checkpoint: Checkpoint,
    config: QatConfig,
    index: Index,
    split: Split,
    fold: int | None = None,
    progress: Progress = silent,
) -> FineTuning:
    """Read the data that a checkpoint was trained on.

    Args:
        checkpoint: the trained network.
        config: how to fine-tune it.
        index: of the data.
        split: that it was trained on.
        fold: of the split, where it was trained on one.
        progress: wraps the names of a part's cases, to show how far reading is.

    Raises:
        DatasetError: the checkpoint was trained on another split, calibration and scoring overlap, there are no
            validation cases, or no tumour to calibrate on.
        SpecError: the checkpoint was fine-tuned for INT8 already, or there is no such fold.
        ScanError: a case cannot be read, or has no truth.
    """
    if checkpoint.quantisation is not None:
        raise SpecError("the checkpoint was fine-tuned for INT8 already; give the one that it was made from.")
    require_own_split(checkpoint, split, fold)
    scored = [*split.part("val", fold), *split.part("test", fold)]
    calibration = choose_cases(index, split.part("train", fold), scored)
    prepared = TrainConfig(preprocessing=checkpoint.preprocessing, postprocessing=checkpoint.postprocessing)
    return FineTuning(checkpoint, config, open_run(prepared, index, split, fold, progress=progress), calibration)


def fine_tune(
    task: FineTuning,
    out: Path,
    *,
    resume: bool = False,
    progress: Progress = silent,
    report: Callable[[Epoch, bool], None] = lambda epoch, best: None,
) -> Checkpoint:
    """Fine-tune, and return the checkpoint of the epoch with the best validation Dice in INT8.

    Args:
        task: what to fine-tune, and how.
        out: the run's folder.
        resume: go on from `out`/last; without it, a folder that is already there is refused.
        progress: wraps the steps of an epoch, to show how far it is.
        report: called after each epoch with its metrics and whether it is the best so far.

    Raises:
        OutputError: `out` exists and `resume` is false, or it cannot be written.
        SpecError: a resumed run had another configuration, checkpoint or data.
        CheckpointError: the network is damaged, or the state to resume from is.
    """
    config, run = task.config, task.run
    open_folder(out, _description(task), resume=resume)
    learner = _Learner(task)
    history: list[Epoch] = []
    if resume and (out / "last").exists():
        latest, history = load_state(out / "last", learner.network, learner.optimizer)
        start = latest.training["qat"]["start_dice"]
    else:
        start = validate(learner.network, run.validation, run.config)

    while len(history) < config.epochs:
        started = time.perf_counter()
        first = len(history) * config.steps_per_epoch
        with progress(range(first, first + config.steps_per_epoch), f"epoch {len(history) + 1}") as steps:
            losses = [learner.step(step) for step in steps]
        scores = validate(learner.network, run.validation, run.config)
        epoch = Epoch(
            epoch=len(history) + 1,
            learning_rate=config.learning_rate * _fall(first + config.steps_per_epoch - 1, config),
            train_loss=float(np.mean(losses)),
            validation_dice=float(np.mean(list(scores.values()))),
            worst_dice=min(scores.values()),
            seconds=time.perf_counter() - started,
        )
        history.append(epoch)
        checkpoint = learner.checkpoint(epoch, scores, start)
        is_best = epoch is best_epoch(history)
        if is_best:
            save_checkpoint(out / "best", checkpoint)
        save_state(out / "last", checkpoint, learner.network, learner.optimizer, history)
        write_metrics(out, history)
        report(epoch, is_best)
    return load_checkpoint(out / "best")


class _Learner:
    """What fine-tuning changes, the quantised network and the optimizer's moments, and what it learns from."""

    def __init__(self, task: FineTuning) -> None:
        checkpoint, config, spec = task.checkpoint, task.config, task.run.config.preprocessing
        self._task = task
        self._model = onnx_model(checkpoint.network(), spec.in_channels, spec.grid_px)
        self.network = QuantisedNetwork(self._model, self._calibrate(), config.weight_bits)
        channels_last(self.network)
        scales = list(self.network.log_magnitudes.parameters())
        weights = [*self.network.weights.parameters(), *self.network.biases.parameters()]
        self._rates = (config.learning_rate, config.scale_rate)
        self.optimizer = Adam([{"params": weights}, {"params": scales}])
        self._sampler = SliceSampler(task.run.training, spec.context, config.tumour_share)
        self._loss = build_loss(config.loss)
        self._teacher = Ensemble([checkpoint])

    def step(self, step: int) -> float:
        """One batch forward and back; its loss. Everything random is drawn by (seed, step)."""
        config = self._task.config
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        inputs, truth = self._sampler.batch(config.batch_size, np.random.default_rng((config.seed, step)))
        droppable = droppable_sequences(self._task.run.config)
        inputs, truth = augment(inputs, truth, config.augmentation, droppable, generator)
        batch = inputs.flatten(1, 2)
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * _fall(step, config)
        logits = self.network(batch)
        value: Tensor = self._loss(logits, truth)
        if config.distillation:
            value = value + config.distillation * distillation_loss(logits, self._teacher(batch))
        self.optimizer.zero_grad(set_to_none=True)
        cast(Callable[[], None], value.backward)()
        self.optimizer.step()
        return float(value.detach())

    def checkpoint(self, epoch: Epoch, scores: Mapping[str, float], start: Mapping[str, float]) -> Checkpoint:
        """The network as it is, batch norm folded in, with its scales."""
        checkpoint, config = self._task.checkpoint, self._task.config
        qat = {
            **_description(self._task),
            "epoch": epoch.epoch,
            "validation_dice": dict(scores),
            "start_dice": dict(start),
            "versions": {"torch": torch.__version__, "numpy": np.__version__},
        }
        quantisation = Quantisation(
            to_lasting(self._model, self.network.magnitudes), to_lasting(self._model, self._peaks()), config.weight_bits
        )
        return replace(
            checkpoint,
            training={**_without_calibration(checkpoint.training), "qat": qat},
            weights=store_folded(checkpoint.network(), self.network.layers),
            quantisation=quantisation,
            confidence=None,  # it was of other weights
        )

    def _calibrate(self) -> dict[str, float]:
        """What activations are clipped at to begin with, as an export without training would."""
        with tempfile.TemporaryDirectory(prefix="tumortrace-") as scratch:
            save_onnx(self._model, source := Path(scratch) / "model.onnx")
            histograms = collect(source, activations(self._model), self._calibration_batches)
        return {name: amax(each, self._task.config.calibration) for name, each in histograms.items()}

    @torch.inference_mode()
    def _peaks(self) -> dict[str, float]:
        """The largest magnitude of each value that decides what FP16 can hold, on the calibration slices."""
        peaks = dict.fromkeys(probed(self._model), 0.0)
        for batch in self._calibration_batches():
            values = self.network.float_values(torch.from_numpy(batch))
            peaks = {name: max(peak, float(values[name].abs().max())) for name, peak in peaks.items()}
        return peaks

    def _calibration_batches(self) -> Iterator[Batch]:
        names = set(self._task.calibration)
        cases = (case for case in self._task.run.training if case.case_id in names)
        return calibration_batches(cases, self._task.run.config.preprocessing.context)


def _without_calibration(training: Mapping[str, Any]) -> dict[str, Any]:
    """What training recorded, but for what was found of its weights afterwards."""
    return {name: value for name, value in training.items() if name != "calibration"}


def _fall(step: int, config: QatConfig) -> float:
    """The share of a rate at a step: a half cosine that reaches 0 after the last (Loshchilov and Hutter 2017)."""
    return 0.5 * (1 + math.cos(math.pi * step / (config.epochs * config.steps_per_epoch)))


def _description(task: FineTuning) -> dict[str, Any]:
    """All that decides what comes out, as JSON values."""
    weights = {name: tensor.contiguous() for name, tensor in task.checkpoint.weights.items()}
    return {
        "config": to_dict(task.config),
        "data": dict(task.run.provenance),
        "start": {
            "weights_sha256": sha256_bytes(safetensors.torch.save(weights)),
            "calibration_cases": list(task.calibration),
        },
    }
