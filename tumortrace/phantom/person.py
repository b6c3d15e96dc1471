"""One person in the scanner: how the head lies, how it differs from the average, and what it holds on any plane."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from tumortrace.phantom.brain import BrainTraits, brain_layers, draw_brain, shape_brain, vessel_layers
from tumortrace.phantom.fields import F32, Point, SmoothField, Triple, smooth_field
from tumortrace.phantom.head import cavity, head_layers
from tumortrace.phantom.lesions import Lesion, displace, draw_lesions, lesion_extent, lesion_layers
from tumortrace.phantom.tissues import Layer

BOTTOM_MM, TOP_MM = -120.0, 130.0
_WARP_MM = (2.0, 2.4, 2.2)
_FAN = 0.5


@dataclass(frozen=True)
class Textures:
    """The random fields that make one person's anatomy irregular.

    Attributes:
        warp: displacement along x, y and z.
        fold: sulci run along its zero crossings.
        lumps: sets fat, muscle, marrow and mucosa apart.
        coarse: lobes of a lesion.
        fine: frayed edges of a lesion.
    """

    warp: tuple[SmoothField, SmoothField, SmoothField]
    fold: SmoothField
    lumps: SmoothField
    coarse: SmoothField
    fine: SmoothField


@dataclass(frozen=True)
class Person:
    """All that anatomy on a plane is computed from.

    Attributes:
        traits: of the brain.
        fat_mm: depth below the skin at which its fat ends.
        scale: size of the head relative to the average, along x, y and z.
        lopsided: share by which the left half is wider than the right one.
        turn: (3, 3) rotation from scanner to head.
        shift_mm: where the head's centre lies in the scanner.
        textures: the random fields.
        lesions: the foci, in coordinates of the head.
    """

    traits: BrainTraits
    fat_mm: float
    scale: Triple
    lopsided: float
    turn: npt.NDArray[np.float64]
    shift_mm: Triple
    textures: Textures
    lesions: tuple[Lesion, ...]

    @property
    def top_mm(self) -> float:
        """Height of the vertex in the scanner."""
        return self.shift_mm[2] + 89 * self.scale[2]


@dataclass(frozen=True)
class Plane:
    """A person on one plane.

    Attributes:
        layers: tissues, painted over one another in this order.
        extents: for each focus, how much of each voxel its whole abnormality covers.
    """

    layers: list[Layer]
    extents: list[F32]


def draw_person(rng: np.random.Generator, side_mm: float, *, tumour: bool) -> Person:
    """Draw a person, with lesions or without.

    Args:
        rng: source of all that differs.
        side_mm: side of the field of view, which the random fields fill.
        tumour: whether there are lesions.
    """
    traits = draw_brain(rng)
    size = rng.normal(1, 0.03)
    scale = np.clip(size * rng.normal(1, 0.025, 3), 0.92, 1.07)
    shift = rng.normal(0, (2, 3, 2))
    return Person(
        traits=traits,
        fat_mm=float(rng.uniform(4.5, 8.0)),
        scale=(float(scale[0]), float(scale[1]), float(scale[2])),
        lopsided=float(rng.normal(0, 0.02)),
        turn=_rotation(*np.deg2rad(rng.normal((-6, 0, 0), (6, 2.5, 3)))),
        shift_mm=(float(shift[0]), float(shift[1]), float(shift[2])),
        textures=_draw_textures(rng, side_mm),
        lesions=draw_lesions(rng, traits) if tumour else (),
    )


def scanner_axes(size_px: int, side_mm: float) -> tuple[F32, F32]:
    """Distances (x, y) in mm of each pixel's centre from the middle of the field of view, (size_px, size_px) each."""
    axis = ((np.arange(size_px, dtype=np.float32) + 0.5) / size_px - 0.5) * np.float32(side_mm)
    x, y = np.meshgrid(axis.astype(np.float32), axis.astype(np.float32))
    return x, y


def plane_of(person: Person, z_mm: float, size_px: int, side_mm: float) -> Plane:
    """What the person holds on the plane at `z_mm` in the scanner."""
    pixel_mm = side_mm / size_px
    edge_mm = max(1.0, pixel_mm)
    textures = person.textures
    at = _head_coordinates(person, z_mm, size_px, side_mm)
    lumps, coarse, fine, fold = (
        field.plane(z_mm, size_px) for field in (textures.lumps, textures.coarse, textures.fine, textures.fold)
    )
    inside = cavity(at)
    inner = displace(at, person.lesions, np.clip(inside / 14, 0, 1))
    fold = _fan_out(fold, at, inside, pixel_mm)
    slope = np.hypot(*np.gradient(fold, pixel_mm)) + np.float32(0.02)
    shape = shape_brain(at, inner, fold, slope, person.traits)
    extents = [lesion_extent(at, lesion, shape, coarse, fine) for lesion in person.lesions]
    swollen = np.maximum.reduce([np.zeros_like(fold), *extents])
    layers = head_layers(at, inside, lumps, fat_mm=person.fat_mm, edge_mm=edge_mm)
    layers += brain_layers(inner, shape, swollen, lumps, person.traits, edge_mm)
    for lesion, extent in zip(person.lesions, extents, strict=True):
        layers += lesion_layers(at, lesion, extent, coarse, fine)
    layers += vessel_layers(inner, inside, shape, person.traits, edge_mm)
    return Plane(layers, extents)


def _fan_out(fold: F32, at: Point, inside: F32, pixel_mm: float) -> F32:
    """The field drawn inwards from the surface of the brain, so that sulci run into the depth and not along it."""
    x, y, _ = at
    out = np.hypot(x / 66**2, y / 84**2) + np.float32(1e-5)
    reach = np.clip(inside, 0, 30) * (_FAN / pixel_mm)
    rows, columns = np.indices(fold.shape, dtype=np.float32)
    across, down = columns + reach * x / 66**2 / out, rows + reach * y / 84**2 / out
    return np.asarray(cv2.remap(fold, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT), np.float32)


def _head_coordinates(person: Person, z_mm: float, size_px: int, side_mm: float) -> Point:
    across, down = scanner_axes(size_px, side_mm)
    grid = (across, down, np.full_like(across, z_mm))
    warps = (field.plane(z_mm, size_px) for field in person.textures.warp)
    bent = [
        axis - shift + reach * warp
        for axis, shift, reach, warp in zip(grid, person.shift_mm, _WARP_MM, warps, strict=True)
    ]
    turn = person.turn.astype(np.float32) / np.array(person.scale, dtype=np.float32)[:, None]
    x, y, z = (row[0] * bent[0] + row[1] * bent[1] + row[2] * bent[2] for row in turn)
    return x * (1 - person.lopsided * np.tanh(x / 20)), y, z


def _draw_textures(rng: np.random.Generator, side_mm: float) -> Textures:
    def draw(scale_mm: float, *, ridged: bool = False) -> SmoothField:
        return smooth_field(rng, scale_mm, side_mm=side_mm, bottom_mm=BOTTOM_MM, top_mm=TOP_MM, ridged=ridged)

    return Textures(
        warp=(draw(65), draw(65), draw(65)),
        fold=draw(rng.uniform(9, 11.5), ridged=True),
        lumps=draw(12),
        coarse=draw(16),
        fine=draw(6),
    )


def _rotation(nod: float, lean: float, turn: float) -> npt.NDArray[np.float64]:
    """Rotation about x (nodding), then y (leaning), then z (turning), by angles in radians."""
    (cx, cy, cz), (sx, sy, sz) = np.cos([nod, lean, turn]), np.sin([nod, lean, turn])
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x)
