"""A checkpoint's network as a function on arrays, the way every engine of the runtime offers one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tumortrace.checkpoint import Checkpoint
from tumortrace.ensemble import Ensemble
from tumortrace.model import ClassicUNet, channels_last
from tumortrace_runtime.errors import SpecError
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
        device = next(self._network.parameters()).device
        with torch.autocast(device.type, torch.bfloat16, enabled=self._bf16):
            logits: Tensor = self._network(torch.from_numpy(batch).to(device))
        array: npt.NDArray[np.float32] = logits.float().contiguous().cpu().numpy()
        return array

    def run_all(self, batch: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float32]]:
        """The logits of a batch, and the statistics of its bottleneck, as exported graphs give them."""
        taken: list[npt.NDArray[np.float32]] = []
        handle = _takes_bottleneck(self._network).register_forward_pre_hook(
            lambda module, inputs: taken.append(_statistics(inputs[0]))
        )
        try:
            return {"logits": self.run(batch), "bottleneck": taken[0]}
        finally:
            handle.remove()


def _takes_bottleneck(network: nn.Module) -> nn.Module:
    """What takes the coarsest features first."""
    levels = network.upsample if isinstance(network, ClassicUNet) else network.decoder
    assert isinstance(levels, nn.ModuleList)
    return levels[0]


def _statistics(features: Tensor) -> npt.NDArray[np.float32]:
    """Mean, then standard deviation, over rows and columns of each channel: (n, 2 x channels)."""
    deviation, mean = torch.std_mean(features.float(), dim=(2, 3), correction=0)
    array: npt.NDArray[np.float32] = torch.cat((mean, deviation), dim=1).cpu().numpy()
    return array


class CheckpointPredictor:
    """Predicts masks with PyTorch in FP32: the reference that every exported artefact is measured against."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.network = TorchNetwork(channels_last(checkpoint.network()))

    def __call__(self, scan: Scan) -> npt.NDArray[np.uint8]:
        """The mask of a scan, (slices, rows, columns) 0 or 1, on its own grid."""
        return predict_mask(self.network, scan, self.checkpoint.preprocessing, self.checkpoint.postprocessing)


def ensemble_network(checkpoints: Sequence[Checkpoint]) -> TorchNetwork:
    """A network whose probabilities are the mean of those of checkpoints, as a `TorchNetwork`.

    Raises:
        SpecError: the checkpoints see scans prepared in different ways.
    """
    if any(checkpoint.preprocessing != checkpoints[0].preprocessing for checkpoint in checkpoints):
        raise SpecError("an ensemble of checkpoints that see scans prepared in different ways; one way wanted.")
    return TorchNetwork(nn.Sequential(Ensemble(checkpoints), _Logit()))


class _Logit(nn.Module):
    def forward(self, probabilities: Tensor) -> Tensor:
        return torch.logit(probabilities, eps=1e-6)  # finite, so that it can be resampled
