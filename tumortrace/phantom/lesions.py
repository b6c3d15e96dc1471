"""Lesions: where they lie, their ragged core and oedema, and how they push the brain aside."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tumortrace.phantom.brain import BrainShape, BrainTraits, shape_brain
from tumortrace.phantom.fields import F32, Point, Triple, coverage
from tumortrace.phantom.tissues import Layer, Tissue

_MULTIFOCAL_SHARE = 0.3
_FAR_MM = np.float32(100)


@dataclass(frozen=True)
class Lesion:
    """One focus, in the coordinates of the head (mm).

    Attributes:
        centre: where it lies.
        radii: half-axes of the whole abnormality before its outline is made ragged.
        turn: angle in radians by which the axes are turned about the vertical.
        core: size of the core relative to the whole; 0 for a diffuse lesion, which has none.
        core_offset: where the core lies relative to `centre`.
        necrotic: how much of the core is necrosis, 0 to 1.
        enhancing: how strongly the rim of the core takes up contrast agent, 0 to 1.
        ragged: how far the outline strays from the ellipsoid, as a share of the radius.
        sparing_mm: how much less the lesion reaches into cortex than into white matter.
        push_mm: how far it displaces what lies beside it.
        edge_mm: width over which it fades into the brain.
    """

    centre: Triple
    radii: Triple
    turn: float
    core: float
    core_offset: Triple
    necrotic: float
    enhancing: float
    ragged: float
    sparing_mm: float
    push_mm: float
    edge_mm: float


def draw_lesions(rng: np.random.Generator, traits: BrainTraits) -> tuple[Lesion, ...]:
    """Draw one focus, or two to three in a multifocal case, all within the cerebrum and clear of each other."""
    first = _draw(rng, _place(rng, traits, ()), rng.uniform(15, 30))
    lesions = [first]
    if rng.uniform() < _MULTIFOCAL_SHARE:
        for _ in range(rng.integers(1, 3)):
            lesions.append(_draw(rng, _place(rng, traits, tuple(lesions)), rng.uniform(8, 14)))
    return tuple(lesions)


def displace(at: Point, lesions: tuple[Lesion, ...], freedom: F32) -> Point:
    """Where the tissue now at `at` lay before the lesions grew.

    Args:
        at: coordinates in the head.
        lesions: what pushes.
        freedom: 0 to 1, how far tissue can give way: not at all at the skull.
    """
    x, y, z = at
    for lesion in lesions:
        away = [coordinate - middle for coordinate, middle in zip(at, lesion.centre, strict=True)]
        squared = away[0] ** 2 + away[1] ** 2 + away[2] ** 2
        reach = 1.5 * float(np.mean(lesion.radii))
        pull = lesion.push_mm * freedom * np.exp(-squared / (2 * reach**2)) / np.sqrt(squared + 0.25 * reach**2)
        x, y, z = x - away[0] * pull, y - away[1] * pull, z - away[2] * pull
    return x, y, z


def lesion_extent(at: Point, lesion: Lesion, shape: BrainShape, coarse: F32, fine: F32) -> F32:
    """How much of each voxel the whole abnormality covers, 0 to 1; it spares ventricles and the other hemisphere.

    Args:
        at: coordinates in the head.
        lesion: the focus.
        shape: the brain's surfaces there.
        coarse: a smooth random field that shapes lobes of the outline.
        fine: one that frays it.
    """
    depth = _depth(at, lesion.centre, lesion.radii, lesion, 0.75 * coarse + 0.35 * fine)
    depth -= lesion.sparing_mm * np.clip((3.5 - shape.pial) / 3.5, 0, 1)
    other_side = np.clip(-np.sign(lesion.centre[0]) * at[0], 0, None)
    depth -= np.minimum(3 * other_side, 15)
    free = coverage(shape.brain - 0.5, 1.0) * (1 - coverage(shape.ventricles, 1.0))
    return coverage(depth, lesion.edge_mm) * free


def lesion_layers(at: Point, lesion: Lesion, extent: F32, coarse: F32, fine: F32) -> list[Layer]:
    """Oedema, and where there is one a core of tumour and necrosis with its rim.

    Args:
        at: coordinates in the head.
        lesion: the focus.
        extent: `lesion_extent` there.
        coarse: a smooth random field that shapes core and necrosis.
        fine: one that mottles them.
    """
    patches = np.clip(0.5 + 0.5 * fine - 0.3 * coarse, 0, 1)
    if not lesion.core:
        return [(Tissue.OEDEMA, extent), (Tissue.TUMOUR, extent * 0.7 * patches)]
    centre = tuple(np.add(lesion.centre, lesion.core_offset).tolist())
    radii = tuple((lesion.core * np.asarray(lesion.radii)).tolist())
    depth = _depth(at, centre, radii, lesion, 0.5 * fine - 0.6 * coarse)
    core = coverage(depth, 2.0) * extent
    rim_mm = 2.8 + 0.8 * fine
    rim = coverage(0.5 * rim_mm - np.abs(depth - 0.4 * rim_mm), 1.6) * np.clip(0.9 + 0.45 * coarse, 0, 1) * extent
    necrosis = core * coverage(depth - rim_mm, 2.0) * np.clip(lesion.necrotic + 0.35 * fine, 0, 1)
    return [
        (Tissue.OEDEMA, extent),
        (Tissue.TUMOUR, core * (0.55 + 0.45 * patches)),
        (Tissue.NECROSIS, np.asarray(necrosis, dtype=np.float32)),
        (Tissue.RIM, np.asarray(rim * lesion.enhancing, dtype=np.float32)),
    ]


def _place(rng: np.random.Generator, traits: BrainTraits, others: tuple[Lesion, ...]) -> Triple:
    """A point well within the cerebrum, beside the ventricles and not inside another focus."""
    low, high = (10, -58, -14), (52, 62, 52)
    while True:
        place = rng.uniform(low, high) * (rng.choice((-1, 1)), 1, 1)
        x, y, z = (np.full(1, value, dtype=np.float32) for value in place)
        shape = shape_brain((x, y, z), (x, y, z), np.full(1, 9, np.float32), np.ones(1, np.float32), traits)
        apart = min((np.linalg.norm(place - lesion.centre) - max(lesion.radii) for lesion in others), default=_FAR_MM)
        if shape.brain[0] > 11 and shape.pial[0] > 5 and shape.ventricles[0] < -7 and z[0] > -12 and apart > 16:
            return float(place[0]), float(place[1]), float(place[2])


def _draw(rng: np.random.Generator, centre: Triple, radius_mm: float) -> Lesion:
    stretch = np.exp(rng.normal(0, (0.16, 0.2, 0.12)))
    radii = radius_mm * stretch / np.cbrt(stretch.prod())
    kind = rng.choice(("diffuse", "solid", "necrotic"), p=(0.4, 0.25, 0.35))
    core = 0.0 if kind == "diffuse" else rng.uniform(0.4, 0.62)
    offset = rng.uniform(-0.18, 0.18, 3) * radii
    return Lesion(
        centre=centre,
        radii=(float(radii[0]), float(radii[1]), float(radii[2])),
        turn=rng.uniform(0, np.pi),
        core=core,
        core_offset=(float(offset[0]), float(offset[1]), float(offset[2])),
        necrotic=rng.uniform(0.6, 1.0) if kind == "necrotic" else rng.uniform(0, 0.25),
        enhancing=rng.uniform(0.5, 1.0) if rng.uniform() < 0.6 else rng.uniform(0, 0.15),
        ragged=rng.uniform(0.12, 0.26),
        sparing_mm=rng.uniform(0, 5),
        push_mm=rng.uniform(0.1, 0.35) * radius_mm,
        edge_mm=rng.uniform(1.5, 3.5),
    )


def _depth(at: Point, centre: tuple[float, ...], radii: tuple[float, ...], lesion: Lesion, roughness: F32) -> F32:
    """Depth in mm below the ragged surface of a turned ellipsoid."""
    x, y, z = (coordinate - middle for coordinate, middle in zip(at, centre, strict=True))
    cosine, sine = math.cos(lesion.turn), math.sin(lesion.turn)
    along, across, up = (cosine * x + sine * y) / radii[0], (cosine * y - sine * x) / radii[1], z / radii[2]
    reach = np.sqrt(along * along + across * across + up * up)
    return np.asarray(math.prod(radii) ** (1 / 3) * (1 + lesion.ragged * roughness - reach), dtype=np.float32)
