"""From a prepared scan to its logits and its mask, with anything that runs a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.errors import InputError
from tumortrace_runtime.io.scan import Scan
from tumortrace_runtime.postprocess import Mask, Postprocessing
from tumortrace_runtime.postprocessor import Postprocessor
from tumortrace_runtime.preprocess import (
    IntegerInput,
    Placement,
    Prepared,
    Preprocessing,
    from_grid,
    network_batch,
    packed_batch,
    preprocess,
)

Floats = npt.NDArray[np.float32]

BATCH_SIZE = 4
"""Slices that go through the network at a time: a tenth faster per slice than one alone, and more gain nothing."""


class Network(Protocol):
    """What runs a network: an engine's backend, or PyTorch.

    Attributes:
        integer_input: how it takes its input as integers; None where it takes (n, in_channels, rows, columns) float32.
    """

    integer_input: IntegerInput | None

    def run(self, batch: Any) -> npt.NDArray[Any]:
        """What it makes of a batch: logits (n, classes, rows, columns) float32, or a mask (n, rows, columns) uint8."""
        ...


class MeasuringNetwork(Network, Protocol):
    """A network whose second output is the statistics of its bottleneck."""

    def run_all(self, batch: Any) -> Mapping[str, npt.NDArray[Any]]:
        """Every output of a batch by its name: what `run` gives, then the statistics, (n, 2 x channels) float32."""
        ...


def infer(network: Network, planes: Floats, context: int, batch_size: int) -> npt.NDArray[Any]:
    """What a network makes of every slice, batch by batch.

    Args:
        network: what runs.
        planes: (slices, sequences, rows, columns), as `preprocess` gives them.
        context: neighbouring slices on each side.
        batch_size: the most slices that the network is given at a time.

    Returns:
        Logits (slices, classes, rows, columns) float32, or a mask (slices, rows, columns) uint8.
    """
    return np.concatenate([network.run(batch) for batch in batches(network, planes, context, batch_size)])


def infer_with_statistics(
    network: MeasuringNetwork, planes: Floats, context: int, batch_size: int
) -> tuple[npt.NDArray[Any], Floats]:
    """What `infer` gives, and the statistics of the bottleneck, (slices, 2 x channels) float32.

    Each channel's mean over rows and columns, then each channel's standard deviation.
    """
    parts = [tuple(network.run_all(batch).values()) for batch in batches(network, planes, context, batch_size)]
    output, statistics = map(np.concatenate, zip(*parts, strict=True))
    return output, statistics


def batches(network: Network, planes: Floats, context: int, batch_size: int) -> Iterator[npt.NDArray[Any]]:
    """The batches that `infer` runs, as the network takes them."""
    for start in range(0, len(planes), batch_size):
        stop = min(start + batch_size, len(planes))
        if network.integer_input is None:
            yield network_batch(planes, start, stop, context)
        else:
            yield packed_batch(planes, start, stop, context, network.integer_input)


def tumour_logits(network: Network, prepared: Prepared, context: int, batch_size: int) -> Floats:
    """The tumour's logits on the scan's own grid, (slices, rows, columns) float32.

    Raises:
        InputError: the network gives masks.
    """
    logits = own_logits(infer(network, prepared.planes, context, batch_size), prepared.placement)
    if logits is None:
        raise InputError("logits: this network gives masks; one exported with --output logits wanted.")
    return logits


def own_logits(output: npt.NDArray[Any], placement: Placement) -> Floats | None:
    """The tumour's logits on the scan's own grid, (slices, rows, columns), of what `infer` gave; None of masks."""
    return from_grid(output[:, 0], placement) if output.ndim == 4 else None


def own_mask(output: npt.NDArray[Any], placement: Placement) -> Mask:
    """The mask on the scan's own grid, (slices, rows, columns) 0 or 1, of masks that `infer` gave.

    Raises:
        InputError: it would have to be resampled.
    """
    if placement.scaled_px != placement.scan_px:
        raise InputError("a mask cannot be brought back to a grid of another size; export with --output logits.")
    return (np.ascontiguousarray(output[(slice(None), *placement.window)]) > 0).astype(np.uint8)


def segment_prepared(
    network: Network, prepared: Prepared, context: int, batch_size: int, postprocessing: Postprocessing
) -> Mask:
    """The mask of a prepared scan on its own grid, (slices, rows, columns) 0 or 1."""
    return finish(infer(network, prepared.planes, context, batch_size), prepared, postprocessing)


def finish(output: npt.NDArray[Any], prepared: Prepared, postprocessing: Postprocessing) -> Mask:
    """The mask on the scan's own grid of what `infer` gave: logits, or a mask that the network thresholded itself.

    Raises:
        InputError: a logit is NaN, or a mask would have to be resampled.
    """
    postprocessor = Postprocessor(postprocessing)
    logits = own_logits(output, prepared.placement)
    if logits is not None:
        return postprocessor.segment_logits(logits).mask
    return postprocessor.segment_mask(own_mask(output, prepared.placement)).mask


def predict_mask(
    network: Network,
    scan: Scan | npt.NDArray[np.generic],
    preprocessing: Preprocessing,
    postprocessing: Postprocessing,
) -> Mask:
    """The mask of a scan, or of voxels (slices, rows, columns, channels): (slices, rows, columns) 0 or 1.

    Raises:
        ScanError: the scan is not what the preprocessing asks for.
    """
    prepared = preprocess(scan, preprocessing)
    return segment_prepared(network, prepared, preprocessing.context, BATCH_SIZE, postprocessing)
