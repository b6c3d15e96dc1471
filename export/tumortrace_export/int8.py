"""The search for an INT8 model that holds the gate: how ranges are set, and which layers go back to float."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx

from tumortrace_export.assess import Accuracy
from tumortrace_export.fallback import by_sensitivity
from tumortrace_export.gate import Gate
from tumortrace_runtime.errors import AccuracyError

AUTO = "auto"
TRAINED = "qat"
"""The method of magnitudes that were learned in quantisation-aware training."""

LEAST_INT8_SHARE = 0.5
"""A model with less of its multiply-accumulates in INT8 than this is no INT8 model."""

CHANCE_DICE = 0.0005
"""Differences of a mean Dice that rounding gives either sign to."""

Batch = npt.NDArray[np.float32]
Report = Callable[[str], None]


@dataclass(frozen=True)
class Attempt:
    """What one INT8 model came to.

    Attributes:
        accuracies: by "engine precision".
        int8_mac_share: the least of them.
    """

    accuracies: Mapping[str, Accuracy]
    int8_mac_share: float


@dataclass(frozen=True)
class Found:
    """The INT8 model that holds the gate.

    Attributes:
        method: how ranges were set.
        tried: each method's accuracy on one engine.
        spoiled: of each method, how many of a million pixels of spoiled slices are flipped; none where one was tried.
        magnitudes: what activations are clipped at.
        float_layers: what went back to float, in this order.
        attempt: what the model came to.
    """

    method: str
    tried: Mapping[str, Accuracy]
    spoiled: Mapping[str, float]
    magnitudes: Mapping[str, float]
    float_layers: Sequence[str]
    attempt: Attempt


def search(
    network: onnx.ModelProto,
    candidates: Mapping[str, Mapping[str, float]],
    slices: Callable[[], Sequence[Batch]],
    gate: Gate,
    *,
    probe: Callable[[Mapping[str, float]], Accuracy],
    spoil: Callable[[Mapping[str, Mapping[str, float]]], Mapping[str, float]],
    attempt: Callable[[Mapping[str, float], Sequence[str]], Attempt],
    report: Report,
) -> Found:
    """Find the method and the least layers in float with which every engine holds the gate.

    Args:
        network: FP32.
        candidates: by method, what activations are clipped at. Of the methods with the best validation Dice, but for
            chance, the one that flips the fewest pixels of spoiled slices is taken.
        slices: reads some slices to measure layers on.
        gate: what may be lost.
        probe: writes and measures a model on one engine, given what activations are clipped at.
        spoil: of candidates, how many of a million pixels of spoiled slices are flipped.
        attempt: writes and measures a model on every engine, given that and the layers in float.
        report: takes lines for the user.

    Raises:
        AccuracyError: the gate does not hold while half of the multiply-accumulates are INT8.
    """
    tried = {}
    for name, magnitudes in candidates.items():
        tried[name] = accuracy = probe(magnitudes)
        report(f"calibration {name}: Dice {accuracy.dice:.4f}, {accuracy.flipped_per_million:.0f} ppm flipped")
    spoiled = dict(spoil(candidates)) if len(candidates) > 1 else {}
    for name, flipped in spoiled.items():
        report(f"calibration {name}: {flipped:.0f} ppm flipped of spoiled slices")
    best = _best(tried, spoiled)
    found = Found(best, tried, spoiled, candidates[best], [], attempt(candidates[best], []))
    return (
        found
        if not (fault := _fault(found, gate))
        else _fall_back(found, fault, network, slices(), gate, attempt, report)
    )


def _best(tried: Mapping[str, Accuracy], spoiled: Mapping[str, float]) -> str:
    """The method that flips the fewest pixels of spoiled slices, of those whose Dice is the best but for chance."""
    top = max(accuracy.dice for accuracy in tried.values())
    good = [name for name, accuracy in tried.items() if top - accuracy.dice <= CHANCE_DICE]
    return min(good, key=lambda name: spoiled.get(name, 0.0))


def _fall_back(
    found: Found,
    fault: str,
    network: onnx.ModelProto,
    slices: Sequence[Batch],
    gate: Gate,
    attempt: Callable[[Mapping[str, float], Sequence[str]], Attempt],
    report: Report,
) -> Found:
    report("measuring which layers lose the most in INT8")
    order = by_sensitivity(network, found.magnitudes, slices)
    for count in range(1, len(order)):
        report(f"{fault} {order[count - 1]} goes back to float")
        layers = order[:count]
        found = replace(found, float_layers=layers, attempt=attempt(found.magnitudes, layers))
        if found.attempt.int8_mac_share < LEAST_INT8_SHARE:
            break
        if not (fault := _fault(found, gate)):
            return found
    raise AccuracyError(
        f"{fault} With {', '.join(found.float_layers)} back in float, {found.attempt.int8_mac_share:.0%} of the "
        f"multiply-accumulates are left in INT8; at least {LEAST_INT8_SHARE:.0%} wanted. Nothing was written."
    )


def _fault(found: Found, gate: Gate) -> str:
    """The gate's first complaint about any engine, or ""."""
    faults = (gate.fault(name, accuracy) for name, accuracy in found.attempt.accuracies.items())
    return next((fault for fault in faults if fault), "")
