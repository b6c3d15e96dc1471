"""Augmentation of training batches, on tensors: geometry, scanner-like intensity changes, and dropped sequences.

Every draw comes from the generator that is passed in, one per batch, so that a run repeats exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from tumortrace_runtime.settings import require


@dataclass(frozen=True)
class Augmentation:
    """How strongly batches are varied; 0 switches a part off.

    Attributes:
        flip: probability of a left-right mirror image.
        rotation_degrees: rotations are uniform within plus and minus this.
        scaling: zoom factors are log-uniform between 1 / (1 + scaling) and 1 + scaling.
        noise: on every second sample, Gaussian noise with a standard deviation uniform from 0 to this, in units of the
            foreground's.
        intensity: per sequence, gain log-uniform within 1 + intensity, offset uniform within plus and minus intensity.
        bias_field: a smooth multiplicative field, log-uniform within 1 + bias_field.
        drop_sequence: probability, per sequence but the FLAIR, that it is missing (0, as preprocessing leaves it).
    """

    flip: float = 0.5
    rotation_degrees: float = 15.0
    scaling: float = 0.15
    noise: float = 0.15
    intensity: float = 0.2
    bias_field: float = 0.2
    drop_sequence: float = 0.1

    def __post_init__(self) -> None:
        for name in ("flip", "drop_sequence"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "0 to 1")
        for name in ("scaling", "noise", "intensity", "bias_field"):
            require(0 <= getattr(self, name) < 2, name, getattr(self, name), "0 to 2")
        require(0 <= self.rotation_degrees <= 180, "rotation_degrees", self.rotation_degrees, "0 to 180")


def augment(
    batch: Tensor, truth: Tensor, settings: Augmentation, droppable: tuple[int, ...], generator: Generator
) -> tuple[Tensor, Tensor]:
    """A varied copy of a batch.

    Args:
        batch: (n, neighbours, sequences, rows, columns) float32, standardised.
        truth: (n, classes, rows, columns) float32, 0 or 1.
        settings: how strongly.
        droppable: numbers of the sequences that may be missing.
        generator: source of every draw.

    Returns:
        Both, of the same shapes; the truth is 0 or 1 still.
    """
    batch, truth = _transform(batch, truth, settings, generator)
    present = (batch != 0).flatten(3).any(-1)[..., None, None]
    batch = _vary_intensity(batch, settings, generator) * present
    return _drop_sequences(batch, settings, droppable, generator), truth


def _transform(batch: Tensor, truth: Tensor, settings: Augmentation, generator: Generator) -> tuple[Tensor, Tensor]:
    """One random rotation, zoom and mirror image per sample, in a single resampling."""
    n, (rows, columns) = len(batch), batch.shape[-2:]
    angle = _uniform((n,), math.radians(settings.rotation_degrees), generator)
    zoom = (1 + settings.scaling) ** _uniform((n,), 1.0, generator)
    mirror = torch.where(torch.rand(n, generator=generator) < settings.flip, -1.0, 1.0)
    cosine, sine, zero = angle.cos() / zoom, angle.sin() / zoom, torch.zeros(n)
    aspect = rows / columns  # the grid's coordinates run from -1 to 1 along either side
    entries = [mirror * cosine, -sine * aspect, zero, mirror * sine / aspect, cosine, zero]
    matrix = torch.stack(entries, dim=1).view(n, 2, 3)
    flat = batch.flatten(1, 2)
    grid = F.affine_grid(matrix, list(flat.shape), align_corners=False)
    moved = F.grid_sample(flat, grid, padding_mode="border", align_corners=False).view_as(batch)
    return moved, F.grid_sample(truth, grid, align_corners=False).ge(0.5).float()


def _vary_intensity(batch: Tensor, settings: Augmentation, generator: Generator) -> Tensor:
    n, _, sequences, rows, columns = batch.shape
    gain = (1 + settings.intensity) ** _uniform((n, 1, sequences, 1, 1), 1.0, generator)
    offset = _uniform((n, 1, sequences, 1, 1), settings.intensity, generator)
    coarse = _uniform((n, 1, 4, 4), math.log1p(settings.bias_field), generator)
    field = F.interpolate(coarse, (rows, columns), mode="bicubic", align_corners=True).exp()[:, None]
    floor = batch.amin(dim=(3, 4), keepdim=True)
    varied = (floor + (batch - floor) * field) * gain + offset
    noisy = torch.rand(n, generator=generator) < 0.5
    strength = settings.noise * torch.rand((int(noisy.sum()), 1, 1, 1, 1), generator=generator)
    varied[noisy] += strength * torch.randn(varied[noisy].shape, generator=generator)
    return varied


def _drop_sequences(batch: Tensor, settings: Augmentation, droppable: tuple[int, ...], generator: Generator) -> Tensor:
    keep = torch.ones(len(batch), batch.shape[2])
    for sequence in droppable:
        keep[:, sequence] = (torch.rand(len(batch), generator=generator) >= settings.drop_sequence).float()
    return batch * keep[:, None, :, None, None]


def _uniform(shape: tuple[int, ...], limit: float, generator: Generator) -> Tensor:
    """Uniform within plus and minus `limit`."""
    return (2 * torch.rand(shape, generator=generator) - 1) * limit
