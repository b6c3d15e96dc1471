"""Plain ONNX Runtime on the bundle's FP32 network, one slice at a time, with SciPy's and OpenCV's post-processing."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnxruntime
from usual import clean, prepare

from tumortrace_runtime.bench.candidates import PeerInput, Stopwatch
from tumortrace_runtime.io import Scan


class OnnxRuntime:
    """See `tumortrace_runtime.bench.candidates.Peer`."""

    name = "plain ONNX Runtime"
    version = onnxruntime.__version__
    precision = "fp32"
    device = "CPU"

    def __init__(self, given: PeerInput) -> None:
        model = given.bundle.artefact("onnxruntime", "fp32")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = given.threads or 0
        self.size_bytes = model.stat().st_size
        self._bundle = given.bundle
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def segment(self, scan: Scan) -> tuple[npt.NDArray[np.uint8], dict[str, float]]:
        """See `Peer`."""
        watch = Stopwatch()
        batch = prepare(scan, self._bundle.preprocessing)
        watch.lap("preprocess")
        logits = np.concatenate([self._session.run(None, {"input": one[None]})[0] for one in batch])
        watch.lap("infer")
        mask, _ = clean(logits[:, 0], self._bundle.postprocessing, scan.voxels.shape[1:3])
        watch.lap("postprocess")
        return mask, watch.stages_ms


def load(given: PeerInput) -> list[OnnxRuntime]:
    """The one way."""
    return [OnnxRuntime(given)]
