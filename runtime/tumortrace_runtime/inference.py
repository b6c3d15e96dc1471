"""From a prepared scan to its logits and its mask, with any function that runs a network."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.io.scan import Scan
from tumortrace_runtime.postprocess import Postprocessing, segment_logits
from tumortrace_runtime.preprocess import Prepared, Preprocessing, from_grid, network_batch, preprocess

Floats = npt.NDArray[np.float32]
Run = Callable[[Floats], Floats]


def infer(run: Run, planes: Floats, context: int, batch_size: int) -> Floats:
    """The logits of every slice, batch by batch.

    Args:
        run: (n, in_channels, rows, columns) to logits (n, classes, rows, columns), both float32.
        planes: (slices, sequences, rows, columns), as `preprocess` gives them.
        context: neighbouring slices on each side.
        batch_size: the largest n that `run` is called with.

    Returns:
        (slices, classes, rows, columns) float32.
    """
    starts = range(0, len(planes), batch_size)
    batches = (network_batch(planes, start, min(start + batch_size, len(planes)), context) for start in starts)
    return np.concatenate([run(batch) for batch in batches])


def tumour_logits(run: Run, prepared: Prepared, context: int, batch_size: int) -> Floats:
    """The tumour's logits on the scan's own grid, (slices, rows, columns) float32."""
    return from_grid(infer(run, prepared.planes, context, batch_size)[:, 0], prepared.placement)


def predict_mask(
    run: Run,
    scan: Scan | npt.NDArray[np.generic],
    preprocessing: Preprocessing,
    postprocessing: Postprocessing,
    batch_size: int = 8,
) -> npt.NDArray[np.uint8]:
    """The mask of a scan, or of voxels (slices, rows, columns, channels): (slices, rows, columns) 0 or 1.

    Raises:
        ScanError: the scan is not what the preprocessing asks for.
    """
    prepared = preprocess(scan, preprocessing)
    return segment_logits(tumour_logits(run, prepared, preprocessing.context, batch_size), postprocessing)
