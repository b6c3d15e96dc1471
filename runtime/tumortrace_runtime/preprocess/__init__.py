"""From stored voxels to the network's input: the one definition, for training, export and the device alike.

    prepared = preprocess(voxels, spec)                        # (slices, rows, columns, channels), any numeric dtype
    batch = network_batch(prepared.planes, 0, 8, spec.context)  # (8, channels x neighbours, grid rows, grid columns)
    logits = from_grid(network_logits, prepared.placement)      # back on the scan's grid

README.md beside this file defines every step to the bit.
"""

from tumortrace_runtime.preprocess.grid import Placement, from_grid, place, to_grid
from tumortrace_runtime.preprocess.packing import IntegerInput, packed_batch, packed_shape
from tumortrace_runtime.preprocess.pipeline import (
    REFERENCE_CHANNEL,
    Prepared,
    network_batch,
    preprocess,
    reference_number,
    replaced_channels,
)
from tumortrace_runtime.preprocess.spec import Preprocessing
from tumortrace_runtime.preprocess.statistics import ChannelStatistics, channel_statistics, normalise

__all__ = [
    "REFERENCE_CHANNEL",
    "ChannelStatistics",
    "IntegerInput",
    "Placement",
    "Prepared",
    "Preprocessing",
    "channel_statistics",
    "from_grid",
    "network_batch",
    "normalise",
    "packed_batch",
    "packed_shape",
    "place",
    "preprocess",
    "reference_number",
    "replaced_channels",
    "to_grid",
]
