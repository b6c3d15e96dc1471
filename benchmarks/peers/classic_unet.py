"""The classic U-Net of 7.8 M weights (Buda et al. 2019) in the usual PyTorch pipeline: for its time alone.

It is untrained and finds nothing, so that there is no component to label or measure: its best case.
"""

from __future__ import annotations

import torch
from pytorch import PyTorch

from tumortrace.checkpoint import load_checkpoint
from tumortrace.model import build_model, channels_last, family_config
from tumortrace_runtime.bench.candidates import PeerInput
from tumortrace_runtime.errors import InputError

_SURELY_NOTHING = -50.0
"""Of the logits' bias."""


def load(given: PeerInput) -> list[PyTorch]:
    """The one way."""
    if given.checkpoint is None:
        raise InputError("classic U-Net: no checkpoint given; --checkpoint with that of the bundle wanted.")
    if given.threads is not None:
        torch.set_num_threads(given.threads)
    checkpoint = load_checkpoint(given.checkpoint)
    torch.manual_seed(0)
    network = build_model(family_config("unet-l", checkpoint.model.in_channels))
    torch.nn.init.constant_(network.head.bias, _SURELY_NOTHING)
    size_bytes = sum(weight.nbytes for weight in network.parameters())
    network = channels_last(network.eval())
    return [PyTorch("classic U-Net, untrained", network, checkpoint, size_bytes)]
