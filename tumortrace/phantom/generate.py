"""Phantom cases: one person, one scanner, one scan, from a seed and a number alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tumortrace.phantom.fields import F32, SmoothField, Triple, smooth_field
from tumortrace.phantom.mr import CHANNELS, SCANNERS, Acquisition, blend, coil_sensitivity, draw_acquisition, receive
from tumortrace.phantom.person import BOTTOM_MM, TOP_MM, Person, draw_person, plane_of, scanner_axes
from tumortrace.phantom.tissues import vary_tissues
from tumortrace_runtime.errors import SpecError
from tumortrace_runtime.io.scan import CaseFiles, Geometry, Scan

SMALLEST_PX = 32
FEWEST_SLICES, MOST_SLICES = 20, 60
_TUMOUR_FREE_EVERY, _TUMOUR_FREE_AT = 8, 5
_REPLACED_EVERY, _REPLACED_AT = 10, 4
_PLANE_MM = 3.0


@dataclass(frozen=True)
class LesionTruth:
    """One focus as it lies in the scan.

    Attributes:
        centroid_px: mean (slice, row, column) of its voxels.
        voxels: how many voxels of the truth it covers more than any other focus does.
        enhancing: how strongly its rim takes up contrast agent, 0 to 1; 0 without a core.
    """

    centroid_px: Triple
    voxels: int
    enhancing: float


@dataclass(frozen=True)
class Phantom:
    """A phantom scan and what is known about it.

    Attributes:
        scan: voxels (slices, size, size, 3) uint8 of t1, flair, t1ce; truth (slices, size, size) uint8 of 0 and 1.
        lesions: the foci; empty in a tumour-free case.
    """

    scan: Scan
    lesions: tuple[LesionTruth, ...]


def generate_case(seed: int, case_number: int, *, size_px: int = 256) -> Scan:
    """The scan of `generate_phantom`."""
    return generate_phantom(seed, case_number, size_px=size_px).scan


def generate_phantom(seed: int, case_number: int, *, size_px: int = 256) -> Phantom:
    """Make one case. The same arguments give the same case, however many others are made.

    Of any eight consecutive numbers one is tumour-free; three sites take turns.

    Args:
        seed: of the data set, 0 or more.
        case_number: of the case, 1 or more.
        size_px: rows and columns of a slice. Anatomy does not depend on it.

    Raises:
        SpecError: an argument is out of range.
    """
    _check(seed, case_number, size_px)
    scanner = SCANNERS[case_number % len(SCANNERS)]
    for_tissue, for_scanner, for_person, for_shading, for_noise = _streams(seed, case_number, 5)
    settings = draw_acquisition(for_scanner, scanner, vary_tissues(for_tissue))
    person = draw_person(for_person, settings.field_mm, tumour=has_tumour(case_number))
    shading = _draw_shading(for_shading, settings.field_mm)
    heights = _slice_heights(person, settings, for_scanner)
    slices = [_image_slice(person, settings, shading, z, size_px, for_noise) for z in heights]
    extents = np.stack([extent for _, extent in slices])
    truth = (extents.max(axis=1) >= 0.5).astype(np.uint8)
    pixel_mm = settings.field_mm / size_px
    scan = Scan(
        files=_name(scanner.site, case_number, seed),
        channels=CHANNELS,
        voxels=np.stack([image for image, _ in slices]),
        geometry=Geometry((settings.slice_mm, pixel_mm, pixel_mm)),
        truth=truth,
    )
    return Phantom(scan, _lesion_truths(extents[:, 1:], truth, person))


def has_tumour(case_number: int) -> bool:
    """Whether the case of this number has lesions: seven of any eight consecutive numbers do."""
    return case_number % _TUMOUR_FREE_EVERY != _TUMOUR_FREE_AT


def replaced_channel(case_number: int) -> str | None:
    """The sequence that a case of the LGG layout lacks: post- or pre-contrast, in turn, in one of ten cases."""
    turn, place = divmod(case_number, _REPLACED_EVERY)
    if place != _REPLACED_AT:
        return None
    return "t1" if turn % 2 else "t1ce"


def replace_with_flair(scan: Scan, channel: str) -> Scan:
    """The scan with FLAIR in place of `channel`, as the LGG set stores a missing sequence."""
    voxels = scan.voxels.copy()
    voxels[..., scan.channels.index(channel)] = voxels[..., scan.channels.index("flair")]
    return replace(scan, voxels=voxels, replaced=(channel,))


def _check(seed: int, case_number: int, size_px: int) -> None:
    for name, value, least in (("seed", seed, 0), ("case number", case_number, 1), ("size_px", size_px, SMALLEST_PX)):
        if value < least:
            raise SpecError(f"phantom: {name} {value} given; {least} or more wanted.")


def _streams(seed: int, case_number: int, count: int) -> list[np.random.Generator]:
    return [np.random.default_rng(child) for child in np.random.SeedSequence([seed, case_number]).spawn(count)]


def _name(site: str, case_number: int, seed: int) -> CaseFiles:
    patient_id = f"TCGA_{site}_{case_number:04d}"
    case_id = f"{patient_id}_S{seed}"
    return CaseFiles(case_id, patient_id, site, layout="nifti", folder=Path(case_id), images=())


def _draw_shading(rng: np.random.Generator, side_mm: float) -> list[SmoothField]:
    return [
        smooth_field(rng, 90, side_mm=side_mm, bottom_mm=BOTTOM_MM, top_mm=TOP_MM) for _ in range(len(CHANNELS) + 1)
    ]


def _slice_heights(person: Person, settings: Acquisition, rng: np.random.Generator) -> list[float]:
    """Heights in mm of the slices, lowest first: one or two lie above the head, the lowest in the neck."""
    top_mm = person.top_mm + rng.uniform(1.0, 2.2) * settings.slice_mm
    covered_mm = top_mm + rng.uniform(64, 84)
    count = int(np.clip(np.ceil(covered_mm / settings.slice_mm), FEWEST_SLICES, MOST_SLICES))
    return [float(top_mm - i * settings.slice_mm) for i in reversed(range(count))]


def _image_slice(
    person: Person,
    settings: Acquisition,
    shading: list[SmoothField],
    z_mm: float,
    size_px: int,
    rng: np.random.Generator,
) -> tuple[npt.NDArray[np.uint8], F32]:
    """One stored slice (size, size, 3), and (1 + foci, size, size) extents, of which the first is 0 throughout."""
    image = np.zeros((len(CHANNELS), size_px, size_px), dtype=np.float32)
    extents = np.zeros((1 + len(person.lesions), size_px, size_px), dtype=np.float32)
    planes = max(1, round(settings.slice_mm / _PLANE_MM))
    for i in range(planes):
        offset_mm = ((i + 0.5) / planes - 0.5) * settings.slice_mm
        plane = plane_of(person, z_mm + offset_mm, size_px, settings.field_mm)
        image += blend(plane.layers, settings.signal, size_px) / planes
        for extent, whole in zip(plane.extents, extents[1:], strict=True):
            whole += extent / planes
    axes = scanner_axes(size_px, settings.field_mm)
    sensitivity = coil_sensitivity(settings, shading, axes, z_mm, size_px)
    return receive(image, sensitivity, settings, rng), extents


def _lesion_truths(extents: F32, truth: npt.NDArray[np.uint8], person: Person) -> tuple[LesionTruth, ...]:
    """The foci of (slices, foci, size, size) extents, each with the voxels that it covers most."""
    if not person.lesions:
        return ()
    owner = extents.argmax(axis=1)
    found = []
    for i, lesion in enumerate(person.lesions):
        places = np.argwhere((owner == i) & (truth > 0))
        if len(places):
            slice_, row, column = places.mean(axis=0).tolist()
            enhancing = lesion.enhancing if lesion.core else 0.0
            found.append(LesionTruth((slice_, row, column), len(places), enhancing))
    return tuple(found)
