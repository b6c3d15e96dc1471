"""`tumortrace phantom`: brain-like scans with lesions, to try everything without a patient's data."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from tumortrace.phantom import Phantom


@click.command("phantom")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="New or empty folder for the cases.")
@click.option("--cases", type=click.IntRange(min=1), required=True, help="How many cases to make.")
@click.option("--seed", type=click.IntRange(min=0), required=True, help="Same seed, same cases, however many.")
@click.option("--layout", type=click.Choice(["lgg", "nifti"]), default="lgg", show_default=True, help="File layout.")
@click.option("--size-px", type=click.IntRange(32, 1024), default=256, show_default=True, help="Rows and columns.")
@click.option("--json", "as_json", is_flag=True, help="Print what was made, lesion by lesion, as JSON.")
def command(out: Path, cases: int, seed: int, layout: str, size_px: int, as_json: bool) -> None:
    """Make brain-like MR scans (t1, flair, t1ce) with lesions and their truth.

    One case in eight has no tumour. In the lgg layout one in ten lacks a sequence, and FLAIR stands in its place.
    """
    from tumortrace.phantom.write import claim_folder, write_phantom

    claim_folder(out)
    made = []
    with click.progressbar(range(1, cases + 1), label="phantoms", file=sys.stderr) as numbers:
        for number in numbers:
            made.append(_described(write_phantom(out, layout, seed, number, size_px=size_px)))
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
        "lesions": [
            {"centroid_px": lesion.centroid_px, "voxels": lesion.voxels, "enhancing": lesion.enhancing}
            for lesion in phantom.lesions
        ],
    }
