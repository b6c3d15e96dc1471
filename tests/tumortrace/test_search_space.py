from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from tumortrace.config import TrainConfig, build_config
from tumortrace.search_space import DEFAULT_SPACE, apply_parameters, base_parameters, build_space
from tumortrace_runtime.errors import SpecError

BASE = TrainConfig()


def test_ranges_and_choices_become_what_optuna_draws_from() -> None:
    space = build_space(
        {
            "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
            "tumour_share": {"low": 0, "high": 1, "step": 0.25},
            "batch_size": {"low": 4, "high": 16, "step": 4},
            "loss": {"choices": [{"dice": 1, "bce": 1}, {"bce": 1.0, "dice": 1.0}, {"jaccard": 1}]},
            "model": {"choices": ["unet-xs", "unet-s"]},
        },
        BASE,
    )
    assert space == {
        "learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
        "tumour_share": FloatDistribution(0, 1, step=0.25),
        "batch_size": IntDistribution(4, 16, step=4),
        "loss": CategoricalDistribution(['{"bce": 1.0, "dice": 1.0}', '{"jaccard": 1.0}']),
        "model": CategoricalDistribution(['"unet-xs"', '"unet-s"']),
    }


def test_a_setting_of_a_setting_keeps_its_neighbours() -> None:
    values = {"augmentation.noise": {"low": 0, "high": 0.5}, "preprocessing.context": {"choices": [0, 2]}}
    assert list(build_space(values, BASE)) == list(values)
    config = apply_parameters(BASE, {"augmentation.noise": 0.5, "preprocessing.context": "2"})
    assert config == build_config({"augmentation": {"noise": 0.5}, "preprocessing": {"context": 2}})


@given(st.floats(1e-9, 1), st.integers(1, 64), st.sampled_from(["unet-xs", "unet-l"]))
def test_parameters_reach_the_configuration_unchanged(rate: float, batch: int, model: str) -> None:
    config = apply_parameters(BASE, {"learning_rate": rate, "batch_size": batch, "model": json.dumps(model)})
    assert config == build_config({"learning_rate": rate, "batch_size": batch, "model": model})


def test_the_default_space_holds_the_default_configuration() -> None:
    space = build_space(DEFAULT_SPACE, BASE)
    parameters = base_parameters(BASE, space)
    assert parameters.keys() == space.keys()
    assert apply_parameters(BASE, parameters) == BASE


def test_what_the_space_has_not_is_left_out_of_the_base() -> None:
    base = build_config({"learning_rate": 1, "tumour_share": 0.6, "augmentation": {"noise": 0.15}})
    values: dict[str, Any] = {
        "learning_rate": {"low": 1e-4, "high": 1e-2},
        "tumour_share": {"low": 0, "high": 1, "step": 0.2},
        "augmentation.noise": {"low": 0, "high": 0.4, "step": 0.1},
        "model": {"choices": ["unet-l"]},
        "warmup_steps": {"low": 0, "high": 400},
    }
    assert base_parameters(base, build_space(values, base)) == {"tumour_share": 0.6, "warmup_steps": 100}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"seed": {"low": 0, "high": 4}}, "no seed, the best of which would only be the luckiest"),
        ({}, "an object with settings wanted"),
        ([], "an object with settings wanted"),
        ({"learning_rat": {"low": 1, "high": 2}}, "setting learning_rat does not exist"),
        ({"augmentation.rain": {"low": 0, "high": 1}}, "setting augmentation.rain does not exist"),
        ({"learning_rate": 3}, 'an object with "low" and "high", or with "choices" wanted'),
        ({"learning_rate": {"low": 1e-4}}, '"low", "high", and "log" or "step" wanted'),
        ({"learning_rate": {"low": 1e-4, "high": 1, "scale": "log"}}, '"low", "high", and "log" or "step" wanted'),
        ({"learning_rate": {"low": "1e-4", "high": 1}}, r"learning_rate.low is '1e-4'; int or float wanted"),
        ({"learning_rate": {"low": 1e-4, "high": 1, "log": 1}}, r"learning_rate.log is 1; true or false wanted"),
        ({"learning_rate": {"low": 1e-2, "high": 1e-4}}, "low <= high"),
        ({"learning_rate": {"low": 0, "high": 1, "log": True}}, "low > 0"),
        ({"learning_rate": {"low": 0, "high": 1}}, "learning_rate is 0.0; a positive number wanted"),
        ({"tumour_share": {"low": 0.5, "high": 1.5}}, "tumour_share is 1.5; 0 to 1 wanted"),
        ({"tumour_share": {"low": 0.1, "high": 0.5, "step": 0.3}}, "up to 0.4 perhaps, wanted"),
        ({"batch_size": {"low": 1.5, "high": 4}}, r"batch_size.low is 1.5; int wanted"),
        ({"batch_size": {"low": True, "high": 4}}, r"batch_size.low is True; int wanted"),
        ({"batch_size": {"low": 1, "high": 4, "step": 0}}, "step > 0"),
        ({"model": {"low": 1, "high": 4}}, '"choices"'),
        ({"model": {"choices": ["unet-xs", "unet-xxl"]}}, "'unet-xxl'; one of unet-xs"),
        ({"model": {"choices": []}}, "a list with values wanted"),
        ({"model": {"choices": ["unet-s"], "low": 1}}, '"choices" alone wanted'),
        ({"precision": {"choices": ["fp64"]}}, "one of fp32, bf16 wanted"),
        ({"loss": {"choices": [{"focal": 1}]}}, "loss is 'focal'"),
        ({"loss.bce": {"low": 0.1, "high": 1}}, "loss is set as a whole"),
        ({"epochs": {"low": 10, "high": 20}}, "trials as long as each other"),
        ({"augmentation": {"choices": [{"noise": 0}]}, "augmentation.noise": {"low": 0, "high": 1}}, "setting once"),
    ],
)
def test_a_space_that_does_not_hold_is_refused(values: Any, told: str) -> None:
    with pytest.raises(SpecError, match=told) as caught:
        build_space(values, BASE)
    assert str(caught.value).startswith("search space")
