"""PyTorch, eager and compiled, in float32 and channels last, with SciPy's and OpenCV's post-processing.

Run with MALLOC_TRIM_THRESHOLD_=-1 MALLOC_MMAP_THRESHOLD_=4294967296, which is PyTorch's best case on a CPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from usual import clean, prepare

from tumortrace.checkpoint import Checkpoint, load_checkpoint
from tumortrace_runtime.bench.candidates import PeerInput, Stopwatch
from tumortrace_runtime.errors import InputError
from tumortrace_runtime.io import Scan

BATCH = 8


class PyTorch:
    """One way of running the network; see `tumortrace_runtime.bench.candidates.Peer`."""

    version = torch.__version__
    precision = "fp32"
    device = "CPU"

    def __init__(self, name: str, network: Any, checkpoint: Checkpoint, size_bytes: int) -> None:
        self.name, self.size_bytes = name, size_bytes
        self._network, self._checkpoint = network, checkpoint

    def segment(self, scan: Scan) -> tuple[npt.NDArray[np.uint8], dict[str, float]]:
        """See `Peer`."""
        watch = Stopwatch()
        batch = torch.from_numpy(prepare(scan, self._checkpoint.preprocessing))
        parts = batch.contiguous(memory_format=torch.channels_last).split(BATCH)
        watch.lap("preprocess")
        with torch.inference_mode():
            logits = torch.cat([self._network(part) for part in parts])
        watch.lap("infer")
        mask, _ = clean(logits[:, 0].numpy(), self._checkpoint.postprocessing, scan.voxels.shape[1:3])
        watch.lap("postprocess")
        return mask, watch.stages_ms


def load(given: PeerInput) -> list[PyTorch]:
    """Eager and compiled."""
    if given.checkpoint is None:
        raise InputError("PyTorch: no checkpoint given; --checkpoint with that of the bundle wanted.")
    if given.threads is not None:
        torch.set_num_threads(given.threads)
    checkpoint = load_checkpoint(given.checkpoint)
    network = checkpoint.network().to(memory_format=torch.channels_last)
    size_bytes = sum(tensor.nbytes for tensor in checkpoint.weights.values())
    compiled = torch.compile(network, dynamic=True)
    return [
        PyTorch("PyTorch eager", network, checkpoint, size_bytes),
        PyTorch("torch.compile", compiled, checkpoint, size_bytes),
    ]
