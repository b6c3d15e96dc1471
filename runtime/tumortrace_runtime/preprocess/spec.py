"""The preprocessing that a model was trained with, as it stands in its checkpoint and its bundle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tumortrace_runtime.settings import require

Foreground = Literal["above-border", "not-border"]
Fit = Literal["pad", "resize"]


@dataclass(frozen=True)
class Preprocessing:
    """Everything that decides what the network sees of a scan.

    Attributes:
        channels: sequences by name, in the order in which the network takes them.
        context: neighbouring slices on each side of the one that is segmented.
        grid_px: (rows, columns) of the network's input.
        fit: how a slice comes onto the grid: "pad" keeps every pixel as it is and refuses a larger slice; "resize"
            scales the slice, its aspect ratio kept, until it just fits, and pads the rest.
        foreground: which voxels the statistics are taken over. "above-border": brighter than the background, which is
            read off the slices' outer frame, by `foreground_fraction` of the distance to the 99.5th percentile; for
            scans with skull and a noisy background. "not-border": different from the background, which has one
            exact value; for skull-stripped scans, z-scored ones included.
        foreground_fraction: see `foreground`; ignored by "not-border".
        clip_percentiles: (low, high) nearest-rank percentiles of the foreground between which values are clipped.
    """

    channels: tuple[str, ...]
    context: int = 1
    grid_px: tuple[int, int] = (256, 256)
    fit: Fit = "pad"
    foreground: Foreground = "above-border"
    foreground_fraction: float = 0.1
    clip_percentiles: tuple[float, float] = (0.5, 99.5)

    def __post_init__(self) -> None:
        names = self.channels
        require(len(names) > 0 and len(set(names)) == len(names), "channels", names, "one or more different names")
        require(0 <= self.context <= 8, "context", self.context, "0 to 8 slices")
        require(all(16 <= size <= 4096 for size in self.grid_px), "grid_px", self.grid_px, "16 to 4096 px")
        require(self.fit in ("pad", "resize"), "fit", self.fit, "pad or resize")
        rules = ("above-border", "not-border")
        require(self.foreground in rules, "foreground", self.foreground, " or ".join(rules))
        require(0 < self.foreground_fraction < 1, "foreground_fraction", self.foreground_fraction, "between 0 and 1")
        low, high = self.clip_percentiles
        require(0 <= low < high <= 100, "clip_percentiles", self.clip_percentiles, "0 <= low < high <= 100")

    @property
    def in_channels(self) -> int:
        """Channels of the network's input: every sequence of the slice and of its neighbours."""
        return len(self.channels) * (2 * self.context + 1)
