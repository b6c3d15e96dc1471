"""`tumortrace phantom`: brain-like scans with lesions, to try everything without a patient's data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tumortrace.commands.options import progress_bar, refuse_given

if TYPE_CHECKING:
    from tumortrace.phantom import LesionTruth, Phantom
    from tumortrace_runtime.io import Geometry


@click.command("phantom")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="New or empty folder for the cases.")
@click.option("--cases", type=click.IntRange(min=1), required=True, help="How many cases to make.")
@click.option("--seed", type=click.IntRange(min=0), required=True, help="Same seed, same cases, however many.")
@click.option(
    "--layout", type=click.Choice(["lgg", "nifti", "dicom"]), default="lgg", show_default=True, help="Of files."
)
@click.option("--size-px", type=click.IntRange(32, 1024), default=256, show_default=True, help="Rows and columns.")
@click.option("--enhanced", is_flag=True, help="DICOM: one image of many frames a series, not an image a slice.")
@click.option(
    "--orientation",
    default="axial",
    show_default=True,
    help="DICOM: axial, sagittal, coronal, or where columns, rows and slices run to, as LPS for axial.",
)
@click.option(
    "--tilt",
    type=click.FloatRange(-30, 30),
    nargs=3,
    default=(0, 0, 0),
    help="DICOM: degrees by which the head lies turned about the axes to the left, back and top.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was made, lesion by lesion, as JSON.")
def command(
    out: Path,
    cases: int,
    seed: int,
    layout: str,
    size_px: int,
    enhanced: bool,
    orientation: str,
    tilt: tuple[float, float, float],
    as_json: bool,
) -> None:
    """Make brain-like MR scans (t1, flair, t1ce) with lesions and their truth.

    One case in eight has no tumour. In the lgg layout one in ten lacks a sequence, and FLAIR stands in its place. The
    dicom layout has the images alone: where the lesions are is in what --json prints.
    """
    from tumortrace.phantom.dicom import ORIENTATIONS, DicomForm
    from tumortrace.phantom.write import claim_folder, write_phantom

    if layout != "dicom":
        refuse_given(("enhanced", "orientation", "tilt"), f"is for --layout dicom; {layout} was given")
    form = DicomForm(enhanced, ORIENTATIONS.get(orientation, orientation), tilt)
    claim_folder(out)
    made = []
    with progress_bar(range(1, cases + 1), "phantoms") as numbers:
        for number in numbers:
            made.append(_described(write_phantom(out, layout, seed, number, size_px=size_px, form=form)))
    if as_json:
        click.echo(json.dumps({"out": str(out), "layout": layout, "seed": seed, "cases": made}))
    else:
        free = sum(not case["lesions"] for case in made)
        click.echo(f"{out}: {cases} cases, {free} of them without a tumour.")


def _described(phantom: Phantom) -> dict[str, Any]:
    scan = phantom.scan
    return {
        "case_id": scan.case_id,
        "site": scan.files.site,
        "slices": len(scan.voxels),
        "spacing_mm": scan.geometry.spacing_mm,
        "replaced": scan.replaced,
        "lesions": [_lesion(lesion, scan.geometry) for lesion in phantom.lesions],
    }


def _lesion(lesion: LesionTruth, geometry: Geometry) -> dict[str, Any]:
    """What is known of a lesion: in DICOM also where its middle lies, in mm to the left, posterior and superior."""
    from tumortrace_runtime.io.dicom import DicomGeometry

    found = {"centroid_px": lesion.centroid_px, "voxels": lesion.voxels, "enhancing": lesion.enhancing}
    if isinstance(geometry, DicomGeometry):
        found["centroid_mm"] = (geometry.affine[:3] @ (*lesion.centroid_px, 1)).tolist()
    return found
