"""How well an INT8 model follows FP32 where scans are unlike those that it was calibrated on.

Of ranges that are equally good on validation scans some fail on strange ones. Nothing needs to be known of such scans
but what FP32 makes of them, so training scans are spoiled: sequences in a wrong order, slices turned, noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx

from tumortrace.perturb import ways_to_spoil
from tumortrace_export.onnx_model import INPUT, OUTPUT
from tumortrace_export.quantise import quantise
from tumortrace_export.session import open_session
from tumortrace_export.unsigned import to_unsigned

Batch = npt.NDArray[np.float32]


def spoil_slices(slices: Sequence[Batch], channels: Sequence[str]) -> Iterator[Batch]:
    """Every slice in every way to spoil it; equal arguments give equal slices.

    Args:
        slices: network inputs (1, channels x neighbours, rows, columns).
        channels: of a scan, in their order.
    """
    for number, batch in enumerate(slices):
        planes = batch.reshape(-1, len(channels), *batch.shape[2:])
        rng = np.random.default_rng(number)
        for spoil in ways_to_spoil(channels).values():
            yield np.ascontiguousarray(spoil(planes, rng), np.float32).reshape(batch.shape)


def flipped_per_million(
    model: onnx.ModelProto,
    candidates: Mapping[str, Mapping[str, float]],
    slices: Sequence[Batch],
    channels: Sequence[str],
    threshold_logit: float,
) -> dict[str, float]:
    """By candidate, how many of a million pixels of spoiled slices change sides of the threshold in INT8.

    Args:
        model: FP32.
        candidates: by name, what activations are clipped at.
        slices: network inputs, calibration slices.
        channels: of a scan, in their order.
        threshold_logit: of the masks.
    """
    exact = open_session(model)
    rounded = {name: open_session(to_unsigned(quantise(model, each))) for name, each in candidates.items()}
    flipped, pixels = dict.fromkeys(candidates, 0), 0
    for batch in spoil_slices(slices, channels):
        wanted = exact.run([OUTPUT], {INPUT: batch})[0] > threshold_logit
        pixels += wanted.size
        for name, session in rounded.items():
            found = session.run([OUTPUT], {INPUT: batch})[0] > threshold_logit
            flipped[name] += int(np.count_nonzero(found != wanted))
    return {name: 1e6 * count / pixels for name, count in flipped.items()}
