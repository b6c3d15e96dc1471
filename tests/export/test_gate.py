from __future__ import annotations

import math
from typing import Any

import pytest

from tumortrace_export.assess import Accuracy
from tumortrace_export.gate import Gate
from tumortrace_runtime.errors import SpecError

GATE = Gate(max_drop=0.01, max_case_drop=0.05)


def accuracy(drop: float, case_drop: float, logit_error: float | None = None) -> Accuracy:
    return Accuracy(0.9 - drop, 0.5, drop, case_drop, {"a": 0.5}, None, 12.0, logit_error)


@pytest.mark.parametrize(("drop", "case_drop"), [(0, 0), (0.01, 0.05), (-0.2, -0.1)])
def test_what_loses_no_more_than_allowed_holds(drop: float, case_drop: float) -> None:
    assert GATE.fault("openvino int8", accuracy(drop, case_drop)) == ""


def test_a_mean_that_falls_too_far_is_named_with_what_was_allowed() -> None:
    assert GATE.fault("openvino int8", accuracy(0.0126, 0.06)) == (
        "openvino int8: mean validation Dice 0.8874 is 0.0126 below PyTorch's; at most 0.01 was allowed (--max-drop)."
    )


def test_a_loss_just_above_what_was_allowed_is_not_rounded_to_it() -> None:
    assert " is 0.0102 below PyTorch's; at most 0.01 was allowed" in GATE.fault(
        "openvino int8", accuracy(0.01016, 0.02)
    )


def test_one_case_that_falls_too_far_is_enough_also_where_the_mean_gained() -> None:
    assert GATE.fault("onnxruntime fp16", accuracy(-0.02, 0.0501)) == (
        "onnxruntime fp16: one validation case lost 0.0501 Dice against PyTorch; at most 0.05 was allowed "
        "(--max-case-drop)."
    )


@pytest.mark.parametrize(
    ("name", "error", "held"),
    [
        ("openvino fp32", 0.009, True),
        ("openvino fp32", 0.011, False),
        ("openvino fp32", None, True),
        ("openvino int8", 0.5, True),
    ],
)
def test_logits_of_fp32_are_pytorchs(name: str, error: float | None, held: bool) -> None:
    assert (GATE.fault(name, accuracy(0, 0, error)) == "") == held


@pytest.mark.parametrize("setting", ["max_drop", "max_case_drop"])
@pytest.mark.parametrize("value", [-0.001, 1.1, math.nan, math.inf])
def test_what_is_no_share_of_dice_is_refused(setting: str, value: Any) -> None:
    with pytest.raises(SpecError, match=f"{setting} is .*; 0 to 1 wanted"):
        Gate(**{setting: value})
