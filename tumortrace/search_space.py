"""The search space of a study: which settings vary, and over what; checked whole before anything runs."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from tumortrace.config import TrainConfig, build_config
from tumortrace.train import check_config
from tumortrace_runtime.errors import SpecError
from tumortrace_runtime.settings import require, to_dict

Space = Mapping[str, BaseDistribution]
Parameters = Mapping[str, Any]
"""Setting by its dotted key: a number, or what was chosen as JSON text."""

DEFAULT_SPACE: Mapping[str, Mapping[str, Any]] = {
    "learning_rate": {"low": 5e-4, "high": 8e-3, "log": True},
    "weight_decay": {"low": 1e-4, "high": 1e-1, "log": True},
    "tumour_share": {"low": 0.3, "high": 0.9},
    "loss": {"choices": [{"bce": 1, "dice": 1}, {"bce": 0.3, "dice": 1}, {"bce": 1, "jaccard": 1}]},
    "augmentation.rotation_degrees": {"low": 0, "high": 30},
    "augmentation.scaling": {"low": 0, "high": 0.4},
    "augmentation.noise": {"low": 0, "high": 0.32},
    "augmentation.intensity": {"low": 0, "high": 0.4},
    "augmentation.bias_field": {"low": 0, "high": 0.4},
    "augmentation.drop_sequence": {"low": 0, "high": 0.3},
}
"""Around the default recipe: a factor of 4 for the learning rate, of 100 down and 10 up for the decay, and augmentation
from none to about what nnU-Net does (Isensee et al. 2021, supplement: 30 degrees, zoom by 1.4, noise variance 0.1). It
has no bias field and drops no sequence: there, to twice the default or three times."""

_FIXED = {
    **dict.fromkeys(("epochs", "steps_per_epoch", "patience"), "a setting that leaves trials as long as each other"),
    "seed": "no seed, the best of which would only be the luckiest",
}
_BOUNDS = {"low", "high", "log", "step"}


def build_space(values: Mapping[str, Any], base: TrainConfig) -> dict[str, BaseDistribution]:
    """The search space that stands in a JSON file.

    Args:
        values: by a setting's dotted key, either {"low", "high", "log", "step"}, the last two as wanted, or
            {"choices": [...]}.
        base: what the settings have that do not vary; a range is of whole numbers where the setting is one here.

    Raises:
        SpecError: a setting does not exist or cannot vary, a range or a choice is not one that the setting takes.
    """
    require(isinstance(values, Mapping) and len(values) > 0, "search space", values, "an object with settings")
    for key in values:
        require(key not in _FIXED, "search space", key, _FIXED.get(key, ""))
        for other in values:
            require(not other.startswith(f"{key}."), "search space", [key, other], "each setting once")
    return {key: _build_distribution(key, given, base) for key, given in sorted(values.items())}


def apply_parameters(base: TrainConfig, parameters: Parameters) -> TrainConfig:
    """The configuration of a trial.

    Raises:
        SpecError: a setting does not exist or does not take its value.
    """
    return build_config(to_dict(base), (f"{key}={value}" for key, value in parameters.items()))


def base_parameters(base: TrainConfig, space: Space) -> dict[str, Any]:
    """What `base` itself has of the settings that vary; one whose value is outside the space is left out."""
    values = {
        key: _label(base, key) if isinstance(distribution, CategoricalDistribution) else _value(base, key)
        for key, distribution in space.items()
    }
    return {key: value for key, value in values.items() if _contains(space[key], value)}


def _build_distribution(key: str, given: Any, base: TrainConfig) -> BaseDistribution:
    place = f"search space, {key}"
    require(isinstance(given, Mapping), place, given, 'an object with "low" and "high", or with "choices"')
    _checked(base, key, json.dumps(_value(base, key)))
    if "choices" in given:
        return _build_choices(place, key, given, base)
    unknown = sorted(set(given) - _BOUNDS)
    require(not unknown and {"low", "high"} <= set(given), place, dict(given), '"low", "high", and "log" or "step"')
    distribution = _build_range(place, given, _value(base, key))
    for bound in (distribution.low, distribution.high):
        _checked(base, key, json.dumps(bound))
    return distribution


def _build_choices(place: str, key: str, given: Mapping[str, Any], base: TrainConfig) -> CategoricalDistribution:
    choices = given["choices"]
    require(set(given) == {"choices"}, place, dict(given), '"choices" alone')
    require(isinstance(choices, list) and len(choices) > 0, f"{place}.choices", choices, "a list with values")
    labels = [_label(_checked(base, key, json.dumps(choice)), key) for choice in choices]
    return CategoricalDistribution(list(dict.fromkeys(labels)))


def _build_range(place: str, given: Mapping[str, Any], now: Any) -> IntDistribution | FloatDistribution:
    require(type(now) in (int, float), place, dict(given), f'"choices", as for every setting like {json.dumps(now)},')
    log, step = given.get("log", False), given.get("step")
    require(isinstance(log, bool), f"{place}.log", log, "true or false")
    kinds = {int: "int"} if isinstance(now, int) else {int: "int", float: "float"}
    for name in sorted({"low", "high", "step"} & set(given)):
        require(type(given[name]) in kinds, f"{place}.{name}", given[name], " or ".join(kinds.values()))
    distribution: IntDistribution | FloatDistribution
    try:
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # of another `high`, which is refused here
            if isinstance(now, int):
                distribution = IntDistribution(given["low"], given["high"], log=log, step=1 if step is None else step)
            else:
                distribution = FloatDistribution(given["low"], given["high"], log=log, step=step)
    except ValueError as problem:
        raise SpecError(f"{place}: {problem}") from problem
    wanted = f"whole steps from {distribution.low} on, up to {distribution.high} perhaps,"
    require(distribution.high == given["high"], f"{place}.high", given["high"], wanted)
    return distribution


def _checked(base: TrainConfig, key: str, value: str) -> TrainConfig:
    """The configuration with one setting changed, refused where a run would refuse it."""
    try:
        config = apply_parameters(base, {key: value})
        check_config(config)
    except SpecError as problem:
        raise SpecError(f"search space, {key}: {problem}") from problem
    return config


def _value(config: TrainConfig, key: str) -> Any:
    """A setting as a JSON value; None where there is none such, which `_checked` refuses by name."""
    value: Any = to_dict(config)
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _label(config: TrainConfig, key: str) -> str:
    return json.dumps(_value(config, key), sort_keys=True)


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    assert isinstance(distribution, (IntDistribution, FloatDistribution))
    steps = (value - distribution.low) / (distribution.step or math.inf)
    return distribution.low <= value <= distribution.high and math.isclose(steps, round(steps), abs_tol=1e-9)
