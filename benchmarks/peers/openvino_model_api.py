"""OpenVINO's model API on the very INT8 IR of the bundle, asynchronously, with SciPy's and OpenCV's post-processing.

The IR takes integers, which NumPy makes here as the bundle says.
"""

from __future__ import annotations

import importlib.metadata
from typing import Any

import numpy as np
import numpy.typing as npt
from model_api.adapters import OpenvinoAdapter, create_core
from usual import clean, prepare

from tumortrace_runtime.bench.candidates import PeerInput, Stopwatch
from tumortrace_runtime.io import Scan
from tumortrace_runtime.preprocess import IntegerInput


class ModelApi:
    """See `tumortrace_runtime.bench.candidates.Peer`."""

    name = "openvino-model-api"
    version = importlib.metadata.version("openvino-model-api")
    precision = "int8"
    device = "CPU"

    def __init__(self, given: PeerInput) -> None:
        model = given.bundle.artefact("openvino", "int8")
        integers = given.bundle.integer_input("openvino", "int8")
        assert integers is not None
        self._bundle, self._integers = given.bundle, integers
        self.size_bytes = given.bundle.model_bytes("openvino", "int8")
        limit = {} if given.threads is None else {"INFERENCE_NUM_THREADS": given.threads}
        self._adapter = OpenvinoAdapter(create_core(), str(model), device="CPU", plugin_config=limit)
        self._adapter.load_model()
        (self._input,) = self._adapter.get_input_layers()
        self._logits: dict[int, npt.NDArray[np.float32]] = {}
        self._adapter.set_callback(self._keep)

    def segment(self, scan: Scan) -> tuple[npt.NDArray[np.uint8], dict[str, float]]:
        """See `Peer`."""
        watch = Stopwatch()
        batch = quantise(prepare(scan, self._bundle.preprocessing), self._integers)
        watch.lap("preprocess")
        for number, one in enumerate(batch):
            self._adapter.await_any()
            self._adapter.infer_async({self._input: one[None]}, number)
        self._adapter.await_all()
        logits = np.concatenate([self._logits[number] for number in range(len(batch))])
        watch.lap("infer")
        mask, _ = clean(logits[:, 0], self._bundle.postprocessing, scan.voxels.shape[1:3])
        watch.lap("postprocess")
        return mask, watch.stages_ms

    def _keep(self, request: Any, number: Any) -> None:
        found = self._adapter.get_raw_result(request)
        self._logits[self._number(number)] = next(iter(found.values())).copy()

    @staticmethod
    def _number(given: Any) -> int:
        return int(given[0] if isinstance(given, tuple) else given)


def quantise(batch: npt.NDArray[np.float32], by: IntegerInput) -> npt.NDArray[np.generic]:
    """(n, channels, rows, columns) to integers, space to depth, channels last."""
    limits = np.iinfo(by.dtype)
    rounded = np.clip(np.round(batch / by.scale) + by.zero_point, limits.min, limits.max).astype(by.dtype)
    n, channels, rows, columns = rounded.shape
    block = by.block_px
    cells = rounded.reshape(n, channels, rows // block, block, columns // block, block)
    return np.ascontiguousarray(
        cells.transpose(0, 2, 4, 1, 3, 5).reshape(n, rows // block, columns // block, channels * block * block)
    )


def load(given: PeerInput) -> list[ModelApi]:
    """The one way."""
    return [ModelApi(given)]
