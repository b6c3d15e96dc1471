from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from tumortrace_export.assess import Accuracy
from tumortrace_export.fallback import by_sensitivity
from tumortrace_export.gate import Gate
from tumortrace_export.int8 import Attempt, Found, search
from tumortrace_export.quantise import activations
from tumortrace_export.ranges import METHODS, amax, collect
from tumortrace_runtime.errors import AccuracyError

GATE = Gate(max_drop=0.01, max_case_drop=0.05)
GOOD, BAD = 0.001, 0.2

Batch = npt.NDArray[np.float32]
Magnitudes = Mapping[str, Mapping[str, float]]


def accuracy(drop: float, flipped: float = 50.0) -> Accuracy:
    return Accuracy(0.9 - drop, 0.7, drop, drop, {"a": 0.9 - drop}, None, flipped, 0.1)


@pytest.fixture(scope="module")
def network(onnx_file: Path) -> onnx.ModelProto:
    return onnx.load(onnx_file)


@pytest.fixture(scope="module")
def magnitudes(
    onnx_file: Path, network: onnx.ModelProto, calibration: Callable[[], Iterator[Batch]]
) -> dict[str, dict[str, float]]:
    """Where each method clips each activation."""
    histograms = collect(onnx_file, activations(network), calibration)
    return {name: {tensor: amax(each, name) for tensor, each in histograms.items()} for name in METHODS}


class Search:
    """Searches an INT8 model of the tiny network, whose probes and attempts come to what a test says.

    Attributes:
        probed: what each probe was clipped at.
        attempts: the layers in float of each attempt.
        lines: what the user was told.
    """

    def __init__(self, network: onnx.ModelProto, magnitudes: Magnitudes, slices: Batch) -> None:
        self._network, self._magnitudes, self._slices = network, magnitudes, lambda: list(slices[:2, None])
        self.probed: list[Mapping[str, float]] = []
        self.attempts: list[Sequence[str]] = []
        self.lines: list[str] = []

    def __call__(
        self,
        outcome: Callable[[Sequence[str]], Attempt],
        *,
        methods: Iterable[str] = ("minmax",),
        tried: Iterable[Accuracy] = (accuracy(GOOD),),
        spoiled: Mapping[str, float] | None = None,
    ) -> Found:
        outcomes = iter(tried)

        def probe(magnitudes: Mapping[str, float]) -> Accuracy:
            self.probed.append(magnitudes)
            return next(outcomes)

        def attempt(magnitudes: Mapping[str, float], float_layers: Sequence[str]) -> Attempt:
            self.attempts.append(float_layers)
            return outcome(float_layers)

        def spoil(candidates: Mapping[str, Mapping[str, float]]) -> Mapping[str, float]:
            assert list(candidates) == list(methods)
            return spoiled or dict.fromkeys(candidates, 0.0)

        candidates = {name: self._magnitudes[name] for name in methods}
        return search(
            self._network,
            candidates,
            self._slices,
            GATE,
            probe=probe,
            spoil=spoil,
            attempt=attempt,
            report=self.lines.append,
        )


@pytest.fixture
def searching(network: onnx.ModelProto, magnitudes: Magnitudes, slices: Batch) -> Search:
    return Search(network, magnitudes, slices)


@pytest.fixture(scope="module")
def order(network: onnx.ModelProto, magnitudes: Mapping[str, Any], slices: Batch) -> list[str]:
    """The layers of the tiny network, the most sensitive first."""
    return by_sensitivity(network, magnitudes["minmax"], list(slices[:2, None]))


def all_engines(drop: float, share: float = 0.96) -> Attempt:
    return Attempt({"onnxruntime int8": accuracy(drop), "openvino int8": accuracy(drop)}, share)


@pytest.mark.parametrize(
    ("tried", "best"),
    [
        ({"minmax": (0.004, 90), "percentile": (0.002, 120), "mse": (0.003, 10)}, "percentile"),
        ({"minmax": (0.00203, 90), "percentile": (0.00201, 120), "mse": (0.00204, 60)}, "mse"),
        ({"minmax": (-0.0004, 122), "percentile": (-0.0003, 86), "mse": (0.0005, 60)}, "percentile"),
        ({"minmax": (-0.001, 90), "percentile": (0.0, 20), "mse": (0.001, 10)}, "minmax"),
    ],
    ids=["the highest Dice", "the fewest flipped among equals", "the fewest flipped but for chance", "a gain"],
)
def test_the_best_method_is_kept(
    tried: dict[str, tuple[float, float]], best: str, searching: Search, magnitudes: dict[str, Any]
) -> None:
    outcomes = {name: accuracy(tried[name][0], 77) for name in METHODS}
    spoiled = {name: tried[name][1] for name in METHODS}
    found = searching(lambda layers: all_engines(GOOD), methods=METHODS, tried=outcomes.values(), spoiled=spoiled)

    assert searching.probed == [magnitudes[name] for name in METHODS]
    assert (found.method, found.tried, found.magnitudes) == (best, outcomes, magnitudes[best])
    assert (searching.attempts, found.float_layers) == ([[]], [])
    assert found.spoiled == spoiled
    dice, flipped = 0.9 - tried["minmax"][0], tried["minmax"][1]
    assert searching.lines[0] == f"calibration minmax: Dice {dice:.4f}, 77 ppm flipped"
    assert searching.lines[len(METHODS)] == f"calibration minmax: {flipped} ppm flipped of spoiled slices"
    assert len(searching.lines) == 2 * len(METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_alone_is_measured_and_kept(method: str, searching: Search, magnitudes: dict[str, Any]) -> None:
    found = searching(lambda layers: all_engines(GOOD), methods=[method])
    assert (found.method, list(found.tried), searching.probed) == (method, [method], [magnitudes[method]])


def test_layers_go_back_to_float_most_sensitive_first_until_the_gate_holds(searching: Search, order: list[str]) -> None:
    found = searching(lambda layers: all_engines(BAD if len(layers) < 3 else GOOD, 1 - 0.1 * len(layers)))

    assert searching.attempts == [order[:count] for count in range(4)]
    assert found.float_layers == order[:3]
    assert found.attempt == all_engines(GOOD, 0.7)
    told = "onnxruntime int8: mean validation Dice 0.7000 is 0.2 below PyTorch's; at most 0.01 was allowed"
    assert searching.lines[-3:] == [f"{told} (--max-drop). {name} goes back to float" for name in order[:3]]


def test_every_engine_has_to_hold_the_gate(searching: Search, order: list[str]) -> None:
    def outcome(layers: Sequence[str]) -> Attempt:
        openvino = accuracy(GOOD if layers else BAD)
        return Attempt({"onnxruntime int8": accuracy(GOOD), "openvino int8": openvino}, 0.9)

    assert searching(outcome).float_layers == order[:1]
    assert searching.lines[-1].startswith("openvino int8: mean validation Dice 0.7000 ")


def test_half_of_the_arithmetic_stays_int8_or_nothing_is_found(searching: Search, order: list[str]) -> None:
    """Even where what is left would hold the gate: that is no INT8 model."""
    with pytest.raises(AccuracyError) as refused:
        searching(lambda layers: all_engines(GOOD if len(layers) == 2 else BAD, (0.96, 0.6, 0.45)[len(layers)]))
    assert searching.attempts == [[], order[:1], order[:2]]
    assert str(refused.value) == (
        "onnxruntime int8: mean validation Dice 0.7000 is 0.2 below PyTorch's; at most 0.01 was allowed "
        f"(--max-drop). With {order[0]}, {order[1]} back in float, 45% of the multiply-accumulates are left in INT8; "
        "at least 50% wanted. Nothing was written."
    )
