"""`tumortrace segment`: scans in, masks and measurements out; no PyTorch."""

from __future__ import annotations

import dataclasses
import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tumortrace.commands.options import BUNDLE, engine_options, key_option, progress_bar, refuse_given
from tumortrace_runtime.command import DonePartly

if TYPE_CHECKING:
    from concurrent.futures import Future

    from tumortrace_runtime.io import CaseFiles, ChannelMapping, Scan
    from tumortrace_runtime.segmenter import Segmenter


@click.command("segment")
@click.argument("bundle", type=BUNDLE)
@click.argument("scans", metavar="SCAN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Folder that gets a folder per case.")
@click.option(
    "--layout", help="How the files are laid out: lgg, nifti or dicom; by default found by the files present."
)
@click.option(
    "--mapping",
    "mapping_path",
    type=click.Path(path_type=Path),
    help="File that says which NIfTI file is which channel; with --layout dicom, which series.",
)
@click.option(
    "--channel",
    "conditions",
    multiple=True,
    metavar="CHANNEL=TAG=VALUE",
    help="The DICOM series of a channel, by what is in its header: t1=SeriesNumber=5, flair=SeriesDescription~FLAIR.",
)
@engine_options
@key_option
@click.option("--with-identity", is_flag=True, help="Name a DICOM study's patient in result.json, else nowhere there.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
def command(
    bundle: Path,
    scans: tuple[Path, ...],
    out: Path,
    layout: str | None,
    mapping_path: Path | None,
    conditions: tuple[str, ...],
    with_identity: bool,
    as_json: bool,
    **engine: Any,
) -> None:
    """Segment each SCAN, one case folder or a folder of them, with BUNDLE.

    Of DICOM, a SCAN may also be a DICOMDIR or one file; each study is a case, and its series are chosen by what their
    headers say, or by --channel: TAG=VALUE is what an element must be, TAG~PATTERN a regular expression found in it.

    Writes for each case the mask in the scan's own geometry and format, overlays, and result.json. A scan that cannot
    be used is named with the reason, and the rest goes on (exit code 5).
    """
    from tumortrace_runtime.errors import ScanError, TumorTraceError
    from tumortrace_runtime.files import output_folder
    from tumortrace_runtime.io import ChannelMapping, find_cases, load_mapping, prepare_writing, without_case
    from tumortrace_runtime.io.dicom.conditions import parse_channels
    from tumortrace_runtime.segmenter import Segmenter

    mapping, named = (load_mapping(mapping_path) if mapping_path else None), parse_channels(conditions)
    if named:
        refuse_given(["mapping_path"], "says what --channel says; give one of them")
        layout, mapping = layout or "dicom", ChannelMapping(named)
    refused: list[str] = []
    cases: list[CaseFiles] = []
    for scan in scans:
        try:
            found = find_cases(scan, layout, mapping)
            refused += [f"{folder}: {reason}" for folder, reason in without_case(scan, found)]
            cases += found
        except ScanError as problem:
            refused.append(str(problem))
    results = []
    if cases:
        prepare_writing({files.layout for files in cases})
        with (
            output_folder(out),
            Segmenter(bundle, **engine) as segmenter,
            progress_bar(cases, "segmenting") as shown,
        ):
            if mapping and layout == "dicom":
                _check_channels(mapping.channels, segmenter)
            coming = _read_ahead(cases, mapping, segmenter.bundle.preprocessing.channels)
            for files, read in zip(shown, coming, strict=True):
                try:
                    results.append(_segment(segmenter, files, read.result, out, with_identity=with_identity))
                except TumorTraceError as problem:
                    refused.append(str(problem))
    if as_json:
        click.echo(json.dumps({"results": results, "refused": refused}))
    for result in [] if as_json else results:
        click.echo(_line(result))
    if refused:
        problem_text = "\n".join(refused)
        raise DonePartly(problem_text) if results else ScanError(problem_text)


def _check_channels(named: Iterable[str], segmenter: Segmenter) -> None:
    """Refuse to be given the series of a channel that the model does not take, as a mistyped name would be."""
    taken = segmenter.bundle.preprocessing.channels
    if others := [channel for channel in named if channel not in taken]:
        raise click.UsageError(f"{segmenter.bundle.name} takes {', '.join(taken)}, not {', '.join(others)}.")


def _read_ahead(
    cases: Sequence[CaseFiles], mapping: ChannelMapping | None, channels: tuple[str, ...]
) -> Iterator[Future[Scan]]:
    """The scans of cases, one after another; while one is in use the next is read, and no other."""
    from concurrent.futures import ThreadPoolExecutor

    from tumortrace_runtime.io import read_case

    with ThreadPoolExecutor(1) as reader:
        begun: deque[Future[Scan]] = deque()
        for files in cases:
            begun.append(reader.submit(read_case, files, mapping, channels=channels, with_truth=False))
            if len(begun) > 1:
                yield begun.popleft()
        yield from begun


def _segment(
    segmenter: Segmenter, files: CaseFiles, read: Callable[[], Scan], out: Path, *, with_identity: bool
) -> dict[str, Any]:
    """Segment and write one case; what stands in its result.json, where decoding is what was waited for the scan."""
    from tumortrace_runtime.algorithm import algorithm_of
    from tumortrace_runtime.files import atomic_directory, write_json
    from tumortrace_runtime.io import write_mask, write_overlay
    from tumortrace_runtime.io.dicom import DicomGeometry
    from tumortrace_runtime.io.dicom.identity import identity
    from tumortrace_runtime.overlay import draw_montage
    from tumortrace_runtime.preprocess import reference_number

    with atomic_directory(out / files.case_id) as folder:
        started = time.perf_counter()
        scan = read()
        decoded = time.perf_counter()
        result = segmenter.segment(scan)
        segmented = time.perf_counter()
        algorithm = algorithm_of(segmenter.bundle, result)
        masks = write_mask(scan, result.mask, folder, algorithm)
        channel = reference_number(scan.channels)
        overlay = draw_montage(scan.voxels[..., channel], result.mask, caption=files.case_id)
        overlays = write_overlay(scan, overlay, folder, algorithm)
        affine = scan.geometry.affine_lps
        values = result.to_dict()
        values["timings_ms"] |= {
            "decode": round((decoded - started) * 1e3, 3),
            "encode": round((time.perf_counter() - segmented) * 1e3, 3),
        }
        summary = {
            "case_id": files.case_id,
            "bundle": segmenter.bundle.name,
            "shape": list(result.mask.shape),
            "spacing_mm": scan.geometry.spacing_mm,
            "affine_lps": None if affine is None else affine.tolist(),
            "masks": [path.name for path in masks],
            "overlays": [path.name for path in overlays],
            **({"channels": [dataclasses.asdict(origin) for origin in scan.origins]} if scan.origins else {}),
            **values,
        }
        if with_identity and isinstance(scan.geometry, DicomGeometry):
            summary["identity"] = identity(scan.geometry.source)
        write_json(folder / "result.json", summary)
    return summary | {"folder": str(out / files.case_id)}


def _line(result: dict[str, Any]) -> str:
    voxels = sum(lesion["voxels"] for lesion in result["lesions"])
    volumes = [lesion["volume_ml"] for lesion in result["lesions"]]
    size = f"{voxels} voxels" if None in volumes or not volumes else f"{sum(volumes):.1f} mL"
    timings = result["timings_ms"]
    elapsed = timings["total"] + timings["decode"] + timings["encode"]
    lesions = f"{len(result['lesions'])} lesion{'' if len(result['lesions']) == 1 else 's'}, {size}"
    warnings = "".join(f"\n  {notice['code']}: {notice['message']}" for notice in result["warnings"])
    engine = f"{result['executed_precision']} on {result['backend']}"
    return f"{result['folder']}: {lesions}; {elapsed:.0f} ms, {engine}{warnings}"
