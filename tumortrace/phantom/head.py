"""The head around the brain: scalp, skull, face, orbits, air spaces, and the cavity that the brain lies in."""

from __future__ import annotations

import numpy as np

from tumortrace.phantom.fields import F32, Floats, Point, capsule, coverage, ellipsoid, ramp, smooth_union, union
from tumortrace.phantom.tissues import Layer, Tissue

SKULL_MM = 6.0
_FACE_TOP_MM = 15.0


def cerebrum(at: Point) -> F32:
    """Signed distance in mm to the hull of both hemispheres, positive inside, cut off by the base of the skull."""
    x, y, z = at
    wider = 1 + 0.07 * np.clip(y / 84, -1, 1)
    hull = ellipsoid((x / wider, y, z), (0, 0, 8), (66, 84, 68))
    return np.asarray(np.minimum(hull, (z - _skull_base(x, y)) * 0.7), dtype=np.float32)


def cerebellum(at: Point) -> F32:
    """Signed distance in mm to the cerebellum, positive inside; a notch parts its hemispheres from behind."""
    x, y, _ = at
    notch = 9 * np.exp(-((x / 7) ** 2)) * ramp(y - 58, 6)
    return ellipsoid(at, (0, 42, -36), (51, 34, 27)) - np.asarray(notch, dtype=np.float32)


def brainstem(at: Point) -> F32:
    """Signed distance in mm to midbrain, pons and cord, positive inside."""
    upper = capsule(at, (0, 6, -4), (0, 7, -26), 13, 14)
    lower = capsule(at, (0, 9, -28), (0, 20, -110), 13, 6)
    return smooth_union(upper, lower, 4)


def cavity(at: Point) -> F32:
    """Signed distance in mm to the inside of the skull, positive inside: the brain, and CSF all around it."""
    cisterns = ellipsoid(at, (0, -10, -20), (13, 11, 8))
    return union(cerebrum(at) + 2.0, cerebellum(at) + 1.8, brainstem(at) + 4.0, cisterns)


def head_layers(at: Point, inside: F32, lumps: F32, *, fat_mm: float, edge_mm: float) -> list[Layer]:
    """Everything outside the brain, from the skin inwards.

    Args:
        at: coordinates in the head.
        inside: `cavity(at)`.
        lumps: a smooth random field that sets muscle apart from fat in the face and the neck.
        fat_mm: depth at which the fat under the skin ends.
        edge_mm: width over which an edge is spread.
    """
    x, y, z = at
    depth = _outline(at)
    deep = ramp(-8 - z, 10)
    planes = np.clip(0.9 - 1.6 * np.abs(lumps), 0.08, 0.8)
    fat = np.maximum(coverage(fat_mm * (1 + 0.6 * deep) - depth, edge_mm), deep * planes)
    layers = [
        (Tissue.MUSCLE, coverage(depth, edge_mm)),
        (Tissue.FAT, fat * coverage(depth - 1.8, edge_mm)),
        (Tissue.SKIN, coverage(1.6 - depth, edge_mm) * coverage(depth, edge_mm)),
    ]
    bone = coverage(inside + SKULL_MM * (1 - 0.45 * deep), edge_mm) * coverage(depth - 2, edge_mm)
    marrow = coverage(1.1 - np.abs(inside + 3.4), edge_mm) * ramp(z + 5, 8) * np.clip(0.6 + 0.4 * lumps, 0, 1)
    face = _face((np.abs(x), y, z), lumps, edge_mm) if z.min() < _FACE_TOP_MM else []
    layers += [(Tissue.BONE, bone), *face, (Tissue.MARROW, marrow * bone)]
    return [*layers, (Tissue.DURA, coverage(inside + 0.6, edge_mm)), (Tissue.CSF, coverage(inside - 0.6, edge_mm))]


def _skull_base(x: Floats, y: Floats) -> F32:
    """Height in mm of what the cerebrum rests on: the anterior and middle fossa and the tentorium."""
    lateral = np.abs(x)
    temporal = ramp(y + 36 + 0.006 * (lateral - 38) ** 2, 7) * ramp(lateral - 14, 6)
    behind = ramp(y - 10 - 0.5 * lateral, 6)
    rise = 9 * np.exp(-((x / 28) ** 2)) - 0.03 * (y - 40)
    return np.asarray(-18 - 26 * temporal * (1 - behind) + behind * rise, dtype=np.float32)


def _outline(at: Point) -> F32:
    """Depth in mm below the skin, negative outside: a dome above, narrowing towards the neck, with nose and ears."""
    x, y, z = at
    below = np.clip(5 - z, 0, None)
    width = 79 - 0.0028 * below**2
    length = np.where(y < 0, 98 - 0.0015 * below**2, 98 - 0.0045 * below**2)
    dome = ellipsoid((x / width, y / length, np.clip(z - 5, 0, None) / 84), (0, 0, 0), (1, 1, 1)) * 80
    nose = ellipsoid(at, (0, -98, -48), (12, 15, 22))
    ears = ellipsoid((np.abs(x), y, z), (76, 12, -30), (8, 12, 20))
    return smooth_union(smooth_union(dome, nose, 5), ears, 2)


def _face(side: Point, lumps: F32, edge_mm: float) -> list[Layer]:
    """Orbits and air spaces, given coordinates whose x is the distance from the midline."""
    orbit = ellipsoid(side, (28, -60, -26), (16, 25, 15))
    globe = ellipsoid(side, (31, -74, -26), (12, 12, 12))
    nerve = capsule(side, (29, -63, -26), (9, -30, -24), 2.2, 2.2)
    walls = np.minimum(orbit, 3.4 - orbit) - 0.8 + lumps
    nasal = ellipsoid(side, (0, -72, -46), (15, 29, 21))
    air = union(
        nasal - 0.5,
        ellipsoid(side, (24, -64, -52), (15, 16, 15)),
        ellipsoid(side, (0, -24, -38), (13, 12, 9)),
        ellipsoid(side, (9, -84, -8), (9, 5, 8)),
    )
    mastoid = ellipsoid(side, (52, 20, -44), (18, 15, 14)) + 2 * lumps
    turbinates = 2.2 - 3.5 * np.abs(lumps) - np.abs(side[0] - 6) * 0.2
    lining = np.minimum(np.minimum(air + 0.5, nasal), union(turbinates, 1.2 - side[0]))
    return [
        (Tissue.BONE, coverage(mastoid, 2 * edge_mm)),
        (Tissue.FAT, coverage(orbit, edge_mm)),
        (Tissue.MUSCLE, 0.8 * coverage(walls, edge_mm)),
        (Tissue.WHITE, coverage(nerve, edge_mm)),
        (Tissue.SKIN, coverage(globe + 0.8, edge_mm)),
        (Tissue.VITREOUS, coverage(globe - 0.8, edge_mm)),
        (Tissue.AIR, coverage(air, edge_mm)),
        (Tissue.MUCOSA, coverage(lining, edge_mm)),
    ]
