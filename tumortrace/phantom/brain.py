"""The brain: folded cortex, white matter, ventricles, deep nuclei, vessels, and what is bright there but not ill."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tumortrace.phantom.fields import F32, Point, capsule, coverage, ellipsoid, ramp, union
from tumortrace.phantom.head import brainstem, cerebellum, cerebrum
from tumortrace.phantom.tissues import Layer, Tissue


@dataclass(frozen=True)
class BrainTraits:
    """How one person's brain differs from another's.

    Attributes:
        sulcus_mm: half the width of a sulcus, wider with age.
        cortex_mm: thickness of the cortex.
        ventricle: size of the ventricles relative to the average; left and right differ by `lopsided`.
        lopsided: share by which the left ventricle is wider and the right one narrower.
        caps: strength of the bright caps at the horns of the ventricles, 0 to 1.
        inflow: strength of the flow artefact in the fourth ventricle and the cisterns, 0 to 1.
        venous: how much of a sulcus its veins fill.
    """

    sulcus_mm: float
    cortex_mm: float
    ventricle: float
    lopsided: float
    caps: float
    inflow: float
    venous: float


@dataclass(frozen=True)
class BrainShape:
    """Signed distances in mm on one plane, positive inside.

    Attributes:
        brain: hull of cerebrum, cerebellum and brainstem.
        pial: distance to the nearest outer or folded surface.
        ventricles: all four ventricles.
    """

    brain: F32
    pial: F32
    ventricles: F32


def draw_brain(rng: np.random.Generator) -> BrainTraits:
    """Draw one person's traits; those that come with age go together."""
    age = rng.uniform()
    return BrainTraits(
        sulcus_mm=0.1 + 0.5 * age + rng.uniform(0, 0.2),
        cortex_mm=rng.uniform(2.3, 3.1),
        ventricle=0.75 + 0.45 * age + rng.uniform(0, 0.25),
        lopsided=rng.normal(0, 0.08),
        caps=float(np.clip(age - 0.25 + rng.normal(0, 0.2), 0, 0.9)),
        inflow=rng.uniform(0.1, 0.9) * float(rng.uniform() < 0.5),
        venous=rng.uniform(0.05, 0.25),
    )


def shape_brain(outer: Point, inner: Point, fold: F32, slope: F32, traits: BrainTraits) -> BrainShape:
    """Lay out the surfaces of the brain.

    Args:
        outer: coordinates in the head, for the hull.
        inner: coordinates as a lesion displaces them, for what lies within.
        fold: a ridged random field; sulci run along its zero crossings.
        slope: length of the field's in-plane gradient per mm.
        traits: the person's.
    """
    hull = cerebrum(outer)
    folia = cerebellum(outer)
    stem = brainstem(outer)
    ventricles = _ventricles(inner, traits)
    reach = 15 + 5 * np.sin(inner[1] / 17 + inner[2] / 23)
    sulci = np.hypot(fold / slope, np.clip(hull - reach, 0, None))
    cerebral = np.minimum.reduce([hull, sulci, _fissure(inner), _sylvian(inner)])
    brain = union(hull, folia, stem)
    pial = np.where(hull > 0, cerebral, np.where(folia > 0, np.minimum(folia, 1.4 + sulci), stem + 4))
    return BrainShape(brain, np.asarray(pial, dtype=np.float32), ventricles)


def brain_layers(
    at: Point, shape: BrainShape, swollen: F32, lumps: F32, traits: BrainTraits, edge_mm: float
) -> list[Layer]:
    """Normal brain, from white matter up.

    Args:
        at: coordinates as a lesion displaces them.
        shape: `shape_brain` at these coordinates.
        swollen: 0 to 1, how far a lesion presses sulci shut.
        lumps: a smooth random field.
        traits: the person's.
        edge_mm: width over which an edge is spread.
    """
    within = coverage(shape.brain, edge_mm)
    gap = traits.sulcus_mm * (1 - 0.85 * swollen)
    cortex = coverage(traits.cortex_mm + gap - shape.pial, 1.2 * edge_mm)
    side = (np.abs(at[0]), at[1], at[2])
    layers = [
        (Tissue.WHITE, within),
        (Tissue.DEEP_GREY, within * _nuclei(side, edge_mm)),
        (Tissue.GREY, within * cortex),
        (Tissue.CSF, within * coverage(gap - shape.pial, edge_mm)),
        (Tissue.GLIOSIS, within * _caps(side, shape.ventricles, traits)),
        (Tissue.CSF, within * coverage(shape.ventricles, edge_mm)),
    ]
    plexus = ellipsoid(side, (20, 28, 12), (3.5, 10, 4)) + 1.2 * lumps
    inflow = traits.inflow * coverage(ellipsoid(at, (0, 22, -32), (7, 6, 9)) + lumps, 3) * (1 - 0.5 * within)
    return [*layers, (Tissue.PLEXUS, coverage(np.minimum(plexus, shape.ventricles), edge_mm)), (Tissue.INFLOW, inflow)]


def vessel_layers(at: Point, cavity: F32, shape: BrainShape, traits: BrainTraits, edge_mm: float) -> list[Layer]:
    """Falx, arteries, sinuses and cortical veins; they take up contrast agent and are no lesions."""
    x, y, z = at
    side = (np.abs(x), y, z)
    wall = cavity - 2.5
    falx = coverage(0.5 - np.abs(x), edge_mm) * coverage(-_callosum(at), 2) * coverage(z + 12, 4)
    sagittal = (3.6 + 0.02 * y - np.hypot(x, wall)) * ramp(z + 12, 2) + np.minimum(z + 12, 0)
    transverse = np.minimum(3.4 - np.hypot(z + 17 + 0.15 * np.abs(x), wall), y - 22)
    arteries = union(
        capsule(at, (0, -9, -16), (0, -8, -44), 1.7, 1.9),
        capsule(side, (9, -14, -20), (40, -18, -10), 1.7, 1.3),
        capsule(at, (0, -16, -16), (0, -42, 10), 1.3, 1.0),
        capsule(at, (0, 30, 6), (0, 52, 10), 1.6, 2.2),
    )
    veins = traits.venous * coverage(0.5 - shape.pial, edge_mm) * ramp(shape.brain + 1, 1)
    blood = np.maximum(coverage(union(sagittal, transverse, arteries), edge_mm), veins)
    inside = coverage(cavity, edge_mm)
    return [(Tissue.DURA, falx * inside * 0.8), (Tissue.BLOOD, np.asarray(blood * inside, dtype=np.float32))]


def _ventricles(at: Point, traits: BrainTraits) -> F32:
    x, y, z = at
    side = (np.abs(x), y, z)
    size = traits.ventricle * (1 + traits.lopsided * np.tanh(x / 5))
    horns = union(
        capsule(side, (13, -33, 5), (7, -16, 12), 3.2, 4.6),
        capsule(side, (7, -16, 13), (9, 6, 19), 4.6, 4.2),
        capsule(side, (9, 6, 19), (20, 30, 13), 4.2, 6.0),
        capsule(side, (20, 30, 13), (23, 52, 4), 5.5, 1.8),
        capsule(side, (22, 30, 8), (32, 6, -20), 4.5, 2.0),
    )
    third = np.minimum(ellipsoid(at, (0, 2, 0), (9, 15, 11)), 1.5 - np.abs(x))
    fourth = ellipsoid(at, (0, 24, -34), (6, 5, 11))
    septum = np.abs(x) - 0.6
    return np.asarray(union(np.minimum(horns - 4 * (1 - size), septum), third, fourth), dtype=np.float32)


def _callosum(at: Point) -> F32:
    """What the fissure between the hemispheres does not enter: the corpus callosum and all below it."""
    return ellipsoid(at, (0, 0, 2), (60, 38, 26))


def _fissure(at: Point) -> F32:
    x, _, z = at
    return np.asarray(np.abs(x) + np.clip(_callosum(at), 0, None) + np.clip(-10 - z, 0, None), dtype=np.float32)


def _sylvian(at: Point) -> F32:
    """Distance to the Sylvian fissure: a sheet over the insula, and the way out of it to the surface."""
    x, y, z = at
    lateral = np.abs(x)
    over = np.hypot(np.clip(np.abs(y + 6) - 17, 0, None), np.clip(np.abs(z - 1) - 12, 0, None))
    insula = np.hypot(lateral - 42 + 0.004 * (y + 6) ** 2, over)
    way = np.hypot(y + 20 - 0.9 * (lateral - 42), np.clip(40 - lateral, 0, None))
    exit_ = np.hypot(way, np.clip(np.abs(z + 2) - 12, 0, None))
    return np.asarray(np.minimum(insula, exit_), dtype=np.float32)


def _nuclei(side: Point, edge_mm: float) -> F32:
    shapes = union(
        ellipsoid(side, (10, 8, 5), (8.5, 15, 9)),
        ellipsoid(side, (25, -5, 3), (6.5, 17, 11)),
        ellipsoid(side, (13, -22, 8), (5, 10, 9)),
    )
    return coverage(shapes, 2 * edge_mm)


def _caps(side: Point, ventricles: F32, traits: BrainTraits) -> F32:
    """Bright rims around the horns, fading over a few millimetres: common with age, and no lesion."""
    horns = union(ellipsoid(side, (15, -35, 6), (10, 9, 9)), ellipsoid(side, (24, 46, 9), (9, 14, 10)))
    fading = np.exp(-np.clip(-ventricles, 0, None) / 2.2) * coverage(horns, 6)
    return np.asarray(traits.caps * np.clip(fading + 0.15 * np.exp(-np.abs(ventricles) / 1.2), 0, 1), dtype=np.float32)
