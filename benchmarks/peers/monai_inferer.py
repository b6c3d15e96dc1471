"""MONAI's sliding-window inference and its post-processing transforms, on PyTorch's network."""

from __future__ import annotations

import monai
import numpy as np
import numpy.typing as npt
import torch
from monai.inferers import SlidingWindowInferer
from monai.transforms import Activations, AsDiscrete, Compose, FillHoles, RemoveSmallObjects
from usual import prepare

from tumortrace.checkpoint import Checkpoint, load_checkpoint
from tumortrace_runtime.bench.candidates import PeerInput, Stopwatch
from tumortrace_runtime.errors import InputError
from tumortrace_runtime.io import Scan

BATCH = 8


class Monai:
    """See `tumortrace_runtime.bench.candidates.Peer`."""

    name = "MONAI sliding window"
    version = monai.__version__
    precision = "fp32"
    device = "CPU"

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.size_bytes = sum(tensor.nbytes for tensor in checkpoint.weights.values())
        self._checkpoint, self._network = checkpoint, checkpoint.network()
        spec = checkpoint.postprocessing
        self._inferer = SlidingWindowInferer(
            roi_size=checkpoint.preprocessing.grid_px, sw_batch_size=BATCH, overlap=0.25, mode="gaussian"
        )
        steps = [Activations(sigmoid=True), AsDiscrete(threshold=spec.threshold)]
        steps += [FillHoles()] if spec.fill_holes else []
        self._slices = Compose(steps)
        self._scan = RemoveSmallObjects(min_size=spec.min_lesion_voxels, connectivity=3)

    def segment(self, scan: Scan) -> tuple[npt.NDArray[np.uint8], dict[str, float]]:
        """See `Peer`."""
        watch = Stopwatch()
        batch = torch.from_numpy(prepare(scan, self._checkpoint.preprocessing))
        watch.lap("preprocess")
        with torch.inference_mode():
            logits = torch.cat([self._inferer(part, self._network) for part in batch.split(BATCH)])
        watch.lap("infer")
        cleaned = torch.stack([torch.as_tensor(self._slices(each)) for each in logits])
        mask = torch.as_tensor(self._scan(cleaned.permute(1, 0, 2, 3)))[0].numpy().astype(np.uint8)
        rows, columns = scan.voxels.shape[1:3]
        top, left = (mask.shape[1] - rows) // 2, (mask.shape[2] - columns) // 2
        watch.lap("postprocess")
        return mask[:, top : top + rows, left : left + columns], watch.stages_ms


def load(given: PeerInput) -> list[Monai]:
    """The one way."""
    if given.checkpoint is None:
        raise InputError("MONAI: no checkpoint given; --checkpoint with that of the bundle wanted.")
    if given.threads is not None:
        torch.set_num_threads(given.threads)
    return [Monai(load_checkpoint(given.checkpoint))]
