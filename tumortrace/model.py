"""The U-Nets: 2-D, made for integer arithmetic, sized for a latency budget.

Every convolution folds its batch norm and ReLU, widths are multiples of 16 so that they fill vector registers, and
nothing in `unet-xs`, `-s` and `-m` falls back to float when quantised: they go down by strided convolution, up by
1x1 convolution and nearest neighbour, and join by addition. `unet-l` is the classic U-Net, the reference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from tumortrace_runtime.errors import SpecError
from tumortrace_runtime.settings import require

Architecture = Literal["compact", "classic"]


@dataclass(frozen=True)
class ModelConfig:
    """A U-Net's shape.

    Attributes:
        architecture: "compact" (see `CompactUNet`) or "classic" (see `ClassicUNet`).
        in_channels: channels of the input: sequences times slices of context.
        classes: channels of the logits; 1 is tumour against everything else.
        widths: channels per level, from the finest; two to eight multiples of 16, up to 4096.
        stem: space-to-depth factor of the compact architecture; 1 for the classic one.
    """

    architecture: Architecture
    in_channels: int
    classes: int
    widths: tuple[int, ...]
    stem: int

    def __post_init__(self) -> None:
        require(self.architecture in ("compact", "classic"), "architecture", self.architecture, "compact or classic")
        require(1 <= self.in_channels <= 256, "in_channels", self.in_channels, "1 to 256")
        require(1 <= self.classes <= 16, "classes", self.classes, "1 to 16")
        widths_hold = 2 <= len(self.widths) <= 8 and all(0 < width <= 4096 and width % 16 == 0 for width in self.widths)
        require(widths_hold, "widths", self.widths, "two to eight multiples of 16, up to 4096,")
        require(self.stem in (1, 2, 4), "stem", self.stem, "1, 2 or 4")

    @property
    def reduction(self) -> int:
        """Rows and columns of the input must be multiples of this."""
        return self.stem << (len(self.widths) - 1)


FAMILY = {
    "unet-xs": ModelConfig("compact", in_channels=9, classes=1, widths=(32, 64, 128), stem=4),
    "unet-s": ModelConfig("compact", in_channels=9, classes=1, widths=(32, 64, 128, 256), stem=2),
    "unet-m": ModelConfig("compact", in_channels=9, classes=1, widths=(64, 128, 256, 512), stem=2),
    "unet-l": ModelConfig("classic", in_channels=9, classes=1, widths=(32, 64, 128, 256, 512), stem=1),
}


def family_config(name: str, in_channels: int) -> ModelConfig:
    """The configuration of a member of the family, such as "unet-s".

    Raises:
        SpecError: there is no such member.
    """
    if name not in FAMILY:
        raise SpecError(f"model {name!r}; one of {', '.join(FAMILY)} wanted.")
    return replace(FAMILY[name], in_channels=in_channels)


def build_model(config: ModelConfig) -> nn.Module:
    """The network: (n, in_channels, rows, columns) float32 to logits (n, classes, rows, columns) float32."""
    return CompactUNet(config) if config.architecture == "compact" else ClassicUNet(config)


class CompactUNet(nn.Module):
    """Space-to-depth stem, two dense 3x3 convolutions down and one up per level, additive skips, pixel-shuffle head."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        widths = config.widths
        self.space_to_depth = nn.PixelUnshuffle(config.stem)
        entries = [config.in_channels * config.stem**2, *widths]
        self.encoder = nn.ModuleList(
            nn.Sequential(convolution(before, width, stride=1 if level == 0 else 2), convolution(width, width))
            for level, (before, width) in enumerate(zip(entries, widths, strict=False))
        )
        self.decoder = nn.ModuleList(
            CompactUp(below, width) for width, below in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        self.head = nn.Conv2d(widths[0], config.classes * config.stem**2, 3, padding=1)
        self.depth_to_space = nn.PixelShuffle(config.stem)
        initialise(self)

    def forward(self, batch: Tensor) -> Tensor:
        """The logits (n, classes, rows, columns) of a batch (n, in_channels, rows, columns)."""
        features = self.space_to_depth(batch)
        skips: list[Tensor] = []
        for level in self.encoder:
            features = level(features)
            skips.append(features)
        features = skips.pop()
        for level in self.decoder:
            features = level(features, skips.pop())
        logits: Tensor = self.depth_to_space(self.head(features))
        return logits


class CompactUp(nn.Module):
    """One level up: 1x1 convolution, nearest neighbour, the skip added, 3x3 convolution."""

    def __init__(self, below: int, width: int) -> None:
        super().__init__()
        self.narrow = nn.Sequential(nn.Conv2d(below, width, 1, bias=False), nn.BatchNorm2d(width))
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.merge = convolution(width, width)

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        """The level's features from those of the level below and from the encoder's at the same level."""
        merged: Tensor = self.merge(self.upsample(self.narrow(features)) + skip)
        return merged


class ClassicUNet(nn.Module):
    """Ronneberger et al. 2015 with batch norm and padding, as Buda et al. 2019 used it on the LGG set: 7.8 M weights.

    Two 3x3 convolutions per level, max pooling, transposed convolution, concatenated skips.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        widths = config.widths
        self.encoder = nn.ModuleList(
            nn.Sequential(convolution(before, width), convolution(width, width))
            for before, width in zip((config.in_channels, *widths), widths, strict=False)
        )
        self.pool = nn.MaxPool2d(2)
        steps = list(zip(widths[-2::-1], widths[:0:-1], strict=True))
        self.upsample = nn.ModuleList(nn.ConvTranspose2d(below, width, 2, stride=2) for width, below in steps)
        self.decoder = nn.ModuleList(
            nn.Sequential(convolution(2 * width, width), convolution(width, width)) for width, _ in steps
        )
        self.head = nn.Conv2d(widths[0], config.classes, 1)
        initialise(self)

    def forward(self, batch: Tensor) -> Tensor:
        """The logits (n, classes, rows, columns) of a batch (n, in_channels, rows, columns)."""
        features = self.encoder[0](batch)
        skips: list[Tensor] = []
        for level in self.encoder[1:]:
            skips.append(features)
            features = level(self.pool(features))
        for upsample, level in zip(self.upsample, self.decoder, strict=True):
            features = level(torch.cat((upsample(features), skips.pop()), dim=1))
        logits: Tensor = self.head(features)
        return logits


def channels_last(network: nn.Module) -> nn.Module:
    """`network`, its weights laid out for the memory order in which CPUs convolve fastest."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def convolution(before: int, width: int, stride: int = 1) -> nn.Sequential:
    """A 3x3 convolution with batch norm and ReLU, which inference engines fold into one."""
    return nn.Sequential(
        nn.Conv2d(before, width, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
    )


def initialise(model: nn.Module) -> None:
    """He et al. 2015 for the convolutions, and the head by itself."""
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    assert isinstance(model.head, nn.Conv2d)
    initialise_head(model.head)


def initialise_head(head: nn.Conv2d) -> nn.Conv2d:
    """Let logits begin as those of a foreground that is one voxel in a hundred (Lin et al. 2017)."""
    assert head.bias is not None
    nn.init.normal_(head.weight, std=0.01)
    nn.init.constant_(head.bias, math.log(0.01 / 0.99))
    return head
