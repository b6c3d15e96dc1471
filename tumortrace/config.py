"""The configuration of a training run: what stands in its `config.json`, and how overrides are read."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, is_dataclass
from typing import Any, Literal, TypeVar

from tumortrace.augment import Augmentation
from tumortrace_runtime.errors import SpecError
from tumortrace_runtime.postprocess import Postprocessing
from tumortrace_runtime.preprocess import Preprocessing
from tumortrace_runtime.settings import from_dict, require, require_between, to_dict

T = TypeVar("T")


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides how a network is trained.

    Attributes:
        model: a member of the family: unet-xs, unet-s, unet-m or unet-l.
        preprocessing: what the network sees.
        postprocessing: what makes its logits a mask, in validation and ever after.
        augmentation: how training batches are varied.
        loss: weights of the losses by name.
        deep_supervision: weight of the loss on coarser decoder features; 0 for none.
        distillation: weight of the cross-entropy with what teachers say; 0 without a teacher.
        ema_decay: of the moving average of the weights, which is what is validated and kept; 0 for none.
        optimizer: "adam" (Kingma and Ba 2015) or "adamw" (Loshchilov and Hutter 2019).
        learning_rate: the peak, reached after the warm-up; it then falls to 0 as a half cosine.
        weight_decay: of AdamW; Adam takes none.
        warmup_steps: steps of linear warm-up.
        epochs: validations at most; each follows `steps_per_epoch` batches.
        steps_per_epoch: batches between two validations.
        batch_size: slices in a batch.
        tumour_share: share of a batch's slices drawn from those with tumour; cases are drawn evenly.
        patience: epochs without a better validation Dice after which training stops; 0 for never.
        precision: "fp32", or "bf16" for autocast, about twice as fast where the processor has bf16 arithmetic.
        seed: of the weights, the batches and the augmentation.
    """

    model: str = "unet-s"
    preprocessing: Preprocessing = Preprocessing(channels=("t1", "flair", "t1ce"))
    postprocessing: Postprocessing = Postprocessing(fill_holes=True, min_lesion_voxels=20)
    augmentation: Augmentation = Augmentation()
    loss: dict[str, float] = field(default_factory=lambda: {"bce": 1.0, "dice": 1.0})
    deep_supervision: float = 0.0
    distillation: float = 0.0
    ema_decay: float = 0.998
    optimizer: Literal["adam", "adamw"] = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    warmup_steps: int = 100
    epochs: int = 40
    steps_per_epoch: int = 100
    batch_size: int = 16
    tumour_share: float = 0.6
    patience: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: int = 0

    def __post_init__(self) -> None:
        require_between(self, 1, math.inf, "epochs", "steps_per_epoch", "batch_size")
        weights = ("weight_decay", "deep_supervision", "distillation")
        require_between(self, 0, math.inf, "warmup_steps", "patience", "seed", *weights)
        require_between(self, 0, 1, "tumour_share")
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "a positive number")
        require(0 <= self.ema_decay < 1, "ema_decay", self.ema_decay, "0 to below 1")


def build_config(values: Mapping[str, Any], overrides: Iterable[str] = ()) -> TrainConfig:
    """The defaults, changed by `values` (a configuration file) and then by overrides such as "preprocessing.context=2".

    Raises:
        SpecError: a key does not exist, or a value is not what it should be.
    """
    return build_settings(TrainConfig, values, overrides)


def build_settings(kind: type[T], values: Mapping[str, Any], overrides: Iterable[str] = ()) -> T:
    """The same for any class of settings that has a default for each.

    Raises:
        SpecError: as `build_config`.
    """
    settings = change_settings(kind(), values)
    for override in overrides:
        key, sign, text = override.partition("=")
        if not sign:
            raise SpecError(f"setting {override!r}; KEY=VALUE wanted, such as epochs=20.")
        nested: Any = _parse_value(text)
        outer, _, inner = key.rpartition(".")
        if isinstance(getattr(settings, outer, None), Mapping):
            raise SpecError(f"setting {override!r}; {outer} is set as a whole: {outer}={json.dumps({inner: nested})}.")
        for part in reversed(key.split(".")):
            nested = {part: nested}
        settings = change_settings(settings, nested)
    return settings


def change_settings(settings: T, changes: Mapping[str, Any]) -> T:
    """Settings of any class with some changed; of settings within settings, those that are not named stay.

    Raises:
        SpecError: as `build_config`.
    """
    require(isinstance(changes, Mapping), "configuration", changes, "a JSON object")
    return from_dict(type(settings), _merge(settings, changes, ""))


def _merge(settings: Any, changes: Mapping[str, Any], place: str) -> dict[str, Any]:
    merged = to_dict(settings)
    for key, value in changes.items():
        if key not in merged:
            raise SpecError(f"setting {place}{key} does not exist; known here are {', '.join(merged)}.")
        now = getattr(settings, key)
        within = is_dataclass(now) and isinstance(value, Mapping)
        merged[key] = _merge(now, value, f"{place}{key}.") if within else value
    return merged


def _parse_value(text: str) -> Any:
    """A JSON value, or the text itself where it is none: model=unet-s needs no quotes."""
    try:
        return json.loads(text)
    except ValueError:
        return text
