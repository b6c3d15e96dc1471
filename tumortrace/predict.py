"""A checkpoint's network as a function on arrays, the way every engine of the runtime offers one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tumortrace.checkpoint import Checkpoint
from tumortrace.model import channels_last
from tumortrace_runtime.inference import predict_mask
from tumortrace_runtime.io.scan import Scan
from tumortrace_runtime.preprocess import IntegerInput


class TorchNetwork:
    """`network` as the runtime's engines are: from (n, in_channels, rows, columns) to logits, both float32 arrays."""

    integer_input: IntegerInput | None = None

    def __init__(self, network: nn.Module, *, bf16: bool = False) -> None:
        self._network = network
        self._bf16 = bf16

    @torch.inference_mode()
    def run(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The logits of a batch."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self._bf16):
            logits: Tensor = self._network(torch.from_numpy(batch))
        array: npt.NDArray[np.float32] = logits.float().contiguous().numpy()
        return array


class CheckpointPredictor:
    """Predicts masks with PyTorch in FP32: the reference that every exported artefact is measured against."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.network = TorchNetwork(channels_last(checkpoint.network()))

    def __call__(self, scan: Scan) -> npt.NDArray[np.uint8]:
        """The mask of a scan, (slices, rows, columns) 0 or 1, on its own grid."""
        return predict_mask(self.network, scan, self.checkpoint.preprocessing, self.checkpoint.postprocessing)
