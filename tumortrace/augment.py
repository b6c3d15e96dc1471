"""Augmentation of training batches, on tensors: geometry, scanner-like intensity changes, and dropped sequences.

Every draw comes from the generator that is passed in, one per batch, so that a run repeats exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from tumortrace_runtime.settings import require, require_between


@dataclass(frozen=True)
class Augmentation:
    """How strongly batches are varied; 0 switches a part off.

    Attributes:
        flip: probability of a left-right mirror image.
        rotation_degrees: rotations are uniform within plus and minus this.
        scaling: zoom factors are log-uniform between 1 / (1 + scaling) and 1 + scaling.
        patch_px: rows and columns of the square that is cut out at a random place; 0 for the whole grid.
        noise: on every second sample, Gaussian noise with a standard deviation uniform from 0 to this, in units of the
            foreground's.
        intensity: per sequence, gain log-uniform within 1 + intensity, offset uniform within plus and minus intensity.
        gamma: on every second sample, per sequence, the contrast curve's exponent, log-uniform within 1 + gamma.
        resolution: on every fourth sample, the share of rows and columns that are lost at most, as by a coarser scan.
        bias_field: a smooth multiplicative field, log-uniform within 1 + bias_field.
        drop_sequence: probability, per sequence but the FLAIR, that it is missing (0, as preprocessing leaves it).
    """

    flip: float = 0.5
    rotation_degrees: float = 15.0
    scaling: float = 0.15
    patch_px: int = 0
    noise: float = 0.15
    intensity: float = 0.2
    gamma: float = 0.0
    resolution: float = 0.0
    bias_field: float = 0.2
    drop_sequence: float = 0.1

    def __post_init__(self) -> None:
        require_between(self, 0, 1, "flip", "drop_sequence")
        require_between(self, 0, math.inf, "patch_px")
        require_between(self, 0, 180, "rotation_degrees")
        for name in ("scaling", "noise", "intensity", "gamma", "bias_field"):
            require(0 <= getattr(self, name) < 2, name, getattr(self, name), "0 to below 2")
        require(0 <= self.resolution < 1, "resolution", self.resolution, "0 to below 1")


def augment(
    batch: Tensor, truth: Tensor, settings: Augmentation, droppable: tuple[int, ...], generator: Generator
) -> tuple[Tensor, Tensor]:
    """A varied copy of a batch.

    Args:
        batch: (n, neighbours, sequences, rows, columns) float32, standardised.
        truth: (n, classes, rows, columns) float32, 0 or 1.
        settings: how strongly.
        droppable: numbers of the sequences that may be missing.
        generator: source of every draw, on the batch's device.

    Returns:
        Both, of the same shapes but for a patch's rows and columns; the truth is 0 or 1 still.
    """
    batch, truth = _transform(batch, truth, settings, generator)
    present = (batch != 0).flatten(3).any(-1)[..., None, None]
    batch = _vary_intensity(batch, settings, generator) * present
    return _drop_sequences(batch, settings, droppable, generator), truth


def _transform(batch: Tensor, truth: Tensor, settings: Augmentation, generator: Generator) -> tuple[Tensor, Tensor]:
    """One random rotation, zoom, mirror image and place of the patch per sample, in a single resampling."""
    n, (rows, columns) = len(batch), batch.shape[-2:]
    angle = _uniform((n,), math.radians(settings.rotation_degrees), generator)
    zoom = (1 + settings.scaling) ** _uniform((n,), 1.0, generator)
    mirror = torch.where(_chances(n, generator) < settings.flip, -1.0, 1.0)
    patch_rows, patch_columns = (min(settings.patch_px or side, side) for side in (rows, columns))
    height, width = patch_rows / rows, patch_columns / columns
    down, right = (_uniform((n,), 1 - share, generator) for share in (height, width))
    cosine, sine = angle.cos() / zoom, angle.sin() / zoom
    aspect = rows / columns  # the grid's coordinates run from -1 to 1 along either side
    entries = [mirror * cosine * width, -sine * aspect * height, right]
    entries += [mirror * sine / aspect * width, cosine * height, down]
    matrix = torch.stack(entries, dim=1).view(n, 2, 3)
    flat = batch.flatten(1, 2)
    grid = F.affine_grid(matrix, [n, flat.shape[1], patch_rows, patch_columns], align_corners=False)
    moved = F.grid_sample(flat, grid, padding_mode="border", align_corners=False)
    moved = moved.view(*batch.shape[:3], patch_rows, patch_columns)
    return moved, F.grid_sample(truth, grid, align_corners=False).ge(0.5).float()


def _vary_intensity(batch: Tensor, settings: Augmentation, generator: Generator) -> Tensor:
    n, _, sequences, rows, columns = batch.shape
    gain = (1 + settings.intensity) ** _uniform((n, 1, sequences, 1, 1), 1.0, generator)
    offset = _uniform((n, 1, sequences, 1, 1), settings.intensity, generator)
    coarse = _uniform((n, 1, 4, 4), math.log1p(settings.bias_field), generator)
    field = F.interpolate(coarse, (rows, columns), mode="bicubic", align_corners=True).exp()[:, None]
    floor = batch.amin(dim=(3, 4), keepdim=True)
    varied = _bend_contrast(batch - floor, settings, generator)
    varied = (floor + varied * field) * gain + offset
    if settings.resolution:
        _coarsen(varied, settings, generator)
    noisy = _chances(n, generator) < 0.5
    strength = settings.noise * _chances((int(noisy.sum()), 1, 1, 1, 1), generator)
    shape = varied[noisy].shape
    varied[noisy] += strength * torch.randn(shape, generator=generator, device=generator.device)
    return varied


def _bend_contrast(above_floor: Tensor, settings: Augmentation, generator: Generator) -> Tensor:
    """Every second sample to a power, between 0 and the sequence's largest value in the slice."""
    if not settings.gamma:
        return above_floor
    n, _, sequences, *_ = above_floor.shape
    bent = _chances((n, 1, 1, 1, 1), generator) < 0.5
    exponent = (1 + settings.gamma) ** _uniform((n, 1, sequences, 1, 1), 1.0, generator)
    largest = above_floor.amax(dim=(3, 4), keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    return torch.where(bent, (above_floor / largest) ** exponent * largest, above_floor)


def _coarsen(batch: Tensor, settings: Augmentation, generator: Generator) -> None:
    """Take resolution from every fourth sample, in place."""
    rows, columns = batch.shape[-2:]
    coarse, kept = _chances((2, len(batch)), generator).tolist()
    for number in [number for number, chance in enumerate(coarse) if chance < 0.25]:
        share = 1 - settings.resolution * kept[number]
        left = [max(1, round(side * share)) for side in (rows, columns)]
        small = F.interpolate(batch[number], left, mode="area")
        batch[number] = F.interpolate(small, (rows, columns), mode="bilinear", align_corners=False)


def _drop_sequences(batch: Tensor, settings: Augmentation, droppable: tuple[int, ...], generator: Generator) -> Tensor:
    keep = batch.new_ones(len(batch), batch.shape[2])
    for sequence in droppable:
        keep[:, sequence] = (_chances(len(batch), generator) >= settings.drop_sequence).float()
    return batch * keep[:, None, :, None, None]


def _uniform(shape: tuple[int, ...], limit: float, generator: Generator) -> Tensor:
    """Uniform within plus and minus `limit`."""
    return (2 * _chances(shape, generator) - 1) * limit


def _chances(shape: int | tuple[int, ...], generator: Generator) -> Tensor:
    """Uniform from 0 to 1, on the generator's device."""
    return torch.rand(shape, generator=generator, device=generator.device)
