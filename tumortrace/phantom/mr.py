"""From tissues to MR images: scanners, signal equations, coil sensitivity, noise, and storage in eight bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from tumortrace.phantom.fields import F32, SmoothField
from tumortrace.phantom.tissues import Layer, Relaxation, Tissue

CHANNELS = ("t1", "flair", "t1ce")
_RELAXIVITY_PER_MM_MS = 0.0045


class Range(NamedTuple):
    """Bounds between which a case's own value is drawn."""

    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float:
        """A value between the bounds, each as likely as another."""
        return float(rng.uniform(self.low, self.high))


@dataclass(frozen=True)
class Scanner:
    """What the scans of one site have in common.

    Attributes:
        site: the site's code.
        slice_mm: distance between slices.
        field_mm: side of the square field of view.
        echo_ms, repeat_ms: echo and repetition time of the T1-weighted spin echo.
        flair_echo_ms, flair_repeat_ms: those of FLAIR.
        noise: standard deviation of the noise in each of the two receiver channels, in stored grey levels.
        shading: strength of the bias field within the head.
        surface: how much brighter the scalp is than the centre, being nearer to the coil.
        fat: share of the fat signal that FLAIR's fat suppression leaves.
        brightness: stored grey level of white matter.
    """

    site: str
    slice_mm: Range
    field_mm: Range
    echo_ms: Range
    repeat_ms: Range
    flair_echo_ms: Range
    flair_repeat_ms: Range
    noise: Range
    shading: Range
    surface: Range
    fat: Range
    brightness: Range


SCANNERS = (
    Scanner(
        "PA", Range(5.0, 7.5), Range(225, 245), Range(12, 18), Range(480, 620), Range(110, 135), Range(8500, 10000),
        Range(0.9, 1.8), Range(0.05, 0.12), Range(0.1, 0.3), Range(0.55, 0.8), Range(48, 72),
    ),
    Scanner(
        "PB", Range(2.9, 4.0), Range(230, 256), Range(8, 12), Range(420, 560), Range(115, 145), Range(9000, 11000),
        Range(1.6, 3.0), Range(0.08, 0.16), Range(0.25, 0.45), Range(0.5, 0.75), Range(45, 65),
    ),
    Scanner(
        "PC", Range(4.0, 6.0), Range(215, 240), Range(10, 16), Range(560, 720), Range(90, 115), Range(7500, 9000),
        Range(1.2, 2.4), Range(0.1, 0.2), Range(0.1, 0.3), Range(0.5, 0.8), Range(60, 85),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Acquisition:
    """One case's own settings, drawn from its scanner's ranges.

    Attributes:
        slice_mm: distance between slices.
        field_mm: side of the square field of view.
        signal: (3,) grey levels that each tissue gives in t1, flair, t1ce.
        noise: standard deviation of the noise in each receiver channel, in grey levels.
        shading: strength of the bias field.
        surface: brightening towards the coil.
        coil_end_mm: height below which the coil receives nothing.
        blur_mm: standard deviation of the point spread within the plane.
    """

    slice_mm: float
    field_mm: float
    signal: dict[Tissue, F32]
    noise: F32
    shading: float
    surface: float
    coil_end_mm: float
    blur_mm: float


def draw_acquisition(rng: np.random.Generator, scanner: Scanner, tissues: dict[Tissue, Relaxation]) -> Acquisition:
    """Draw one case's settings."""
    signal = {tissue: np.array(values) for tissue, values in _signals(rng, scanner, tissues).items()}
    levels = np.array([scanner.brightness.draw(rng) * gain for gain in (1.0, 0.95, 0.9)])
    scale = levels / signal[Tissue.WHITE]
    return Acquisition(
        slice_mm=scanner.slice_mm.draw(rng),
        field_mm=scanner.field_mm.draw(rng),
        signal={tissue: (values * scale).astype(np.float32) for tissue, values in signal.items()},
        noise=np.array([scanner.noise.draw(rng) for _ in CHANNELS], dtype=np.float32),
        shading=scanner.shading.draw(rng),
        surface=scanner.surface.draw(rng),
        coil_end_mm=float(rng.uniform(-88, -66)),
        blur_mm=float(rng.uniform(0.35, 0.65)),
    )


def spin_echo(tissue: Relaxation, *, repeat_ms: float, echo_ms: float, agent: bool) -> float:
    """Signal of a spin echo: PD (1 - exp(-TR/T1)) exp(-TE/T2).

    Contrast agent adds 4.5 per mmol/L and s to the rate 1/T1 and fills in the flow void of blood (Haacke et al.,
    Magnetic Resonance Imaging, 1999, chapters 8 and 15).
    """
    rate = 1 / tissue.t1_ms + (_RELAXIVITY_PER_MM_MS * tissue.agent_mm if agent else 0.0)
    density = max(tissue.density, 0.6) if agent and tissue.agent_mm > 1 else tissue.density
    return float(density * (1 - np.exp(-repeat_ms * rate)) * np.exp(-echo_ms / tissue.t2_ms))


def flair(tissue: Relaxation, *, repeat_ms: float, echo_ms: float, invert_ms: float) -> float:
    """Magnitude of an inversion-recovery spin echo: PD |1 - 2 exp(-TI/T1) + exp(-TR/T1)| exp(-TE/T2)."""
    inverted = 1 - 2 * np.exp(-invert_ms / tissue.t1_ms) + np.exp(-repeat_ms / tissue.t1_ms)
    seen = abs(inverted) * (1 - tissue.inflow) + tissue.inflow
    return float(tissue.density * seen * np.exp(-echo_ms / tissue.t2_ms))


def nulling_ms(t1_ms: float, repeat_ms: float) -> float:
    """The inversion time at which a tissue gives no signal: T1 ln(2 / (1 + exp(-TR/T1)))."""
    return float(t1_ms * np.log(2 / (1 + np.exp(-repeat_ms / t1_ms))))


def blend(layers: list[Layer], signal: dict[Tissue, F32], size_px: int) -> F32:
    """Paint the layers over one another, mixing signals within a voxel by volume: (3, size_px, size_px)."""
    image = np.zeros((len(CHANNELS), size_px, size_px), dtype=np.float32)
    for tissue, share in layers:
        image += share * (signal[tissue][:, None, None] - image)
    return image


def receive(image: F32, sensitivity: F32, settings: Acquisition, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """What the scanner stores of one slice.

    The magnitude of a complex signal whose two parts carry Gaussian noise is Rician; where there is no signal, it is
    Rayleigh distributed, never exactly zero throughout (Gudbjartsson and Patz, Magn. Reson. Med. 34, 1995).

    Args:
        image: (3, size, size) signals in grey levels.
        sensitivity: (3, size, size) bias field.
        settings: the case's.
        rng: source of the noise.

    Returns:
        (size, size, 3) grey levels, clipped to 0 and 255.
    """
    size_px = image.shape[-1]
    sigma_px = settings.blur_mm * size_px / settings.field_mm
    sharp = np.ascontiguousarray(np.moveaxis(image * sensitivity, 0, -1))
    seen = cv2.GaussianBlur(sharp, (0, 0), max(sigma_px, 0.2))
    noise = rng.standard_normal((2, *seen.shape), dtype=np.float32) * settings.noise
    magnitude = np.hypot(seen + noise[0], noise[1])
    return np.asarray(np.clip(np.rint(magnitude), 0, 255), dtype=np.uint8)


def coil_sensitivity(
    settings: Acquisition, shading: list[SmoothField], axes_mm: tuple[F32, F32], z_mm: float, size_px: int
) -> F32:
    """The bias field on one plane, (3, size_px, size_px): smooth, brighter near the coil, fading below its end.

    Args:
        settings: the case's.
        shading: a field that all channels share, then one for each.
        axes_mm: distances (x, y) from the axis of the coil.
        z_mm: height of the plane.
        size_px: pixels along a side.
    """
    x, y = axes_mm
    rings = settings.surface * ((x * x + y * y) / 95**2 - 0.35)
    fade = 1 / (1 + np.exp(-(z_mm - settings.coil_end_mm) / 1.5))
    shared, *own = [field.plane(z_mm, size_px) for field in shading]
    return np.stack([fade * np.exp(settings.shading * (shared + 0.4 * each) + rings) for each in own])


def _signals(
    rng: np.random.Generator, scanner: Scanner, tissues: dict[Tissue, Relaxation]
) -> dict[Tissue, tuple[float, float, float]]:
    repeat_ms, echo_ms = scanner.repeat_ms.draw(rng), scanner.echo_ms.draw(rng)
    flair_repeat_ms, flair_echo_ms = scanner.flair_repeat_ms.draw(rng), scanner.flair_echo_ms.draw(rng)
    invert_ms = nulling_ms(tissues[Tissue.CSF].t1_ms, flair_repeat_ms) * rng.uniform(0.93, 1.03)
    fat = scanner.fat.draw(rng)
    table = {}
    for tissue, value in tissues.items():
        dark = flair(value, repeat_ms=flair_repeat_ms, echo_ms=flair_echo_ms, invert_ms=invert_ms)
        plain, enhanced = (spin_echo(value, repeat_ms=repeat_ms, echo_ms=echo_ms, agent=a) for a in (False, True))
        table[tissue] = (plain, dark * fat if tissue is Tissue.FAT else dark, enhanced)
    return table
