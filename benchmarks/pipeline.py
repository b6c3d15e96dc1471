"""How long scans take from file to file with a bundle, how evenly slices come, and whether memory stays flat.

python benchmarks/pipeline.py scan lgg-unet-s --case BraTS2021_00006
python benchmarks/pipeline.py slice lgg-unet-s
python benchmarks/pipeline.py memory lgg-unet-s

Unless a case is given, scans are phantoms of a BraTS case's size.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice, pairwise, product
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from scans import HEAD_SLICES, SHAPE, phantom_scan

from tumortrace.commands.options import BUNDLE
from tumortrace_runtime import Segmenter
from tumortrace_runtime.backends import LATENCY, MODES
from tumortrace_runtime.bench.timing import measure_interleaved
from tumortrace_runtime.command import run
from tumortrace_runtime.files import write_json
from tumortrace_runtime.flow import timed
from tumortrace_runtime.io import Scan, find_cases, read_case, write_case, write_mask
from tumortrace_runtime.table import format_table

STAGES = ("decode", "preprocess", "infer", "postprocess", "encode", "total")
GREW = 4
"""The exit code that stands for a regression."""

_WARMUP = 20

bundle_argument = click.argument("bundle", type=BUNDLE, default="lgg-unet-s")
case_option = click.option("--case", type=click.Path(path_type=Path), help="A case with BraTS names.")
engines_option = click.option(
    "--backend", "backends", multiple=True, default=("openvino", "onnxruntime"), show_default=True
)
precision_option = click.option("--precision", default="int8", show_default=True)


@dataclass(frozen=True)
class Way:
    """One of the ways to run a scan.

    Attributes:
        scan: its name.
        engine: by the backend's name.
        mode: "throughput" or "latency".
        crop: whether the network sees the part of slices with head in it alone.
    """

    scan: str
    engine: str
    mode: str
    crop: bool


@dataclass(frozen=True)
class Passage:
    """One scan from its files to those of its result.

    Attributes:
        timings_ms: of each of `STAGES`.
        slices: that the network saw.
        network_px: (rows, columns) that it saw of them.
    """

    timings_ms: Mapping[str, float]
    slices: int
    network_px: tuple[int, int]


@click.group()
def command() -> None:
    """Measure what BUNDLE does with whole scans, with single slices, and with very many of them."""


@command.command("scan")
@bundle_argument
@case_option
@engines_option
@precision_option
@click.option("--repeats", type=click.IntRange(min=1), default=5, show_default=True)
def scan_command(bundle: Path, case: Path | None, backends: Sequence[str], precision: str, repeats: int) -> None:
    """From .nii.gz on disk to mask and lesions on disk, by stage: medians of interleaved runs."""
    with tempfile.TemporaryDirectory(prefix="tumortrace-") as name, ExitStack() as stack:
        out = Path(name)
        cases = {case.name: case} if case else write_phantoms(out)
        works = {}
        for backend, mode, crop in product(backends, MODES, (False, True)):
            if not crop or (backend, precision) == ("openvino", "int8"):
                segmenter = Segmenter(bundle, backend=backend, precision=precision, mode=mode, crop=crop)
                stack.enter_context(segmenter)
                for scan, path in cases.items():
                    works[Way(scan, backend, mode, crop)] = partial(pass_through, segmenter, path, out)
        click.echo(passages_table(measure_passages(works, repeats)))


@command.command("slice")
@bundle_argument
@case_option
@engines_option
@precision_option
@click.option("--mode", type=click.Choice(MODES), default=LATENCY, show_default=True)
@click.option("--count", type=click.IntRange(min=1), default=1000, show_default=True)
def slice_command(
    bundle: Path, case: Path | None, backends: Sequence[str], precision: str, mode: str, count: int
) -> None:
    """One slice again and again, from stored voxels to its mask and lesions: how late the last ones are."""
    rows = []
    for backend in backends:
        with Segmenter(bundle, backend=backend, precision=precision, mode=mode) as segmenter:
            voxels = open_scan(segmenter, case)
            brightest = int(voxels.sum(axis=(1, 2, 3)).argmax())
            times_ms = repeat_ms(partial(segmenter.segment, voxels[[brightest]]), count)
            rows.append((backend, *percentile_cells(times_ms)))
    click.echo(format_table(("engine", "p50 ms", "p90 ms", "p99 ms", "most ms", "p99/p50"), rows))


@command.command("memory")
@bundle_argument
@case_option
@engines_option
@precision_option
@click.option("--slices", type=click.IntRange(min=1), default=10_000, show_default=True)
@click.option("--every", type=click.IntRange(min=1), default=1000, show_default=True, help="Slices between readings.")
@click.option("--bound-mb", type=float, default=8.0, show_default=True, help="Growth after the first reading.")
def memory_command(
    bundle: Path, case: Path | None, backends: Sequence[str], precision: str, slices: int, every: int, bound_mb: float
) -> int:
    """Whole scans until there were so many slices: memory must not grow beyond a bound; else the exit code is 4."""
    rows, grown = [], []
    for backend in backends:
        with Segmenter(bundle, backend=backend, precision=precision) as segmenter:
            voxels = open_scan(segmenter, case)
            work = partial(segmenter.segment, voxels)
            readings = list(islice(memory_mb(work, len(voxels), every), max(1, slices // every)))
        grown.append(max(readings) - readings[0])
        rows.append((backend, *(f"{reading:.1f}" for reading in readings), f"{grown[-1]:+.1f}"))
    headings = ("engine", *(str((number + 1) * every) for number in range(len(rows[0]) - 2)), "grown")
    click.echo(f"resident MB after so many slices; {bound_mb:g} MB of growth allowed")
    click.echo(format_table(headings, rows))
    return GREW if max(grown) > bound_mb else 0


def write_phantoms(folder: Path) -> dict[str, Path]:
    """Phantoms with head in some slices and in all, as folders of .nii.gz."""
    paths = {}
    for head_slices in (HEAD_SLICES, SHAPE[0]):
        scan = phantom_scan(head_slices)
        files = replace(scan.files, case_id=f"head in {head_slices} of {SHAPE[0]}")
        paths[files.case_id] = write_case("nifti", replace(scan, files=files), folder)
    return paths


def open_scan(segmenter: Segmenter, case: Path | None) -> npt.NDArray[Any]:
    """(slices, rows, columns, channels) of a case's files, or of the phantom, as the bundle wants them."""
    channels = segmenter.bundle.preprocessing.channels
    return (read(segmenter, case) if case else phantom_scan()).select(channels)


def read(segmenter: Segmenter, path: Path) -> Scan:
    """A case with the channels that the bundle wants, and no others."""
    return read_case(find_cases(path)[0], channels=segmenter.bundle.preprocessing.channels, with_truth=False)


def pass_through(segmenter: Segmenter, path: Path, out: Path) -> Passage:
    """Read a case, segment it, and write its mask and lesions to a folder."""
    timings_ms = dict.fromkeys(STAGES, 0.0)
    with timed(timings_ms, "total"):
        with timed(timings_ms, "decode"):
            scan = read(segmenter, path)
        result = segmenter.segment(scan)
        with timed(timings_ms, "encode"):
            write_mask(scan, result.mask, out)
            write_json(out / "result.json", result.to_dict())
    timings_ms |= {stage: result.timings_ms[stage] for stage in ("preprocess", "infer", "postprocess")}
    return Passage(timings_ms, len(result.mask) - result.skipped_slices, result.network_px)


def measure_passages(works: Mapping[Way, Callable[[], Passage]], repeats: int) -> dict[Way, list[Passage]]:
    """What each way gave in the turns that `measure_interleaved` counts: after one call, the second of every two."""
    given: dict[Way, list[Passage]] = {way: [] for way in works}

    def call(way: Way) -> None:
        given[way].append(works[way]())

    measure_interleaved({str(way): partial(call, way) for way in works}, repeats=repeats, warmup=1)
    return {way: passages[2::2] for way, passages in given.items()}


def passages_table(passages: Mapping[Way, Sequence[Passage]]) -> str:
    """Median milliseconds by stage, and the share of them that is not the network, reading or writing."""
    rows = []
    for way, given in passages.items():
        stages = {stage: median(each.timings_ms[stage] for each in given) for stage in STAGES}
        share = (stages["preprocess"] + stages["postprocess"]) / stages["total"]
        seen = f"{given[0].slices} x {'x'.join(map(str, given[0].network_px))}"
        figures = (*(f"{taken:.1f}" for taken in stages.values()), f"{100 * share:.1f} %")
        rows.append((way.scan, way.engine, way.mode, "yes" if way.crop else "no", seen, *figures))
    return format_table(("scan", "engine", "mode", "crop", "network saw", *STAGES, "pre + post"), rows)


def repeat_ms(work: Callable[[], object], count: int) -> list[float]:
    """Milliseconds of each of `count` calls, after some that do not count."""
    for _ in range(_WARMUP):
        work()
    reached = [time.perf_counter()]
    for _ in range(count):
        work()
        reached.append(time.perf_counter())
    return [(after - before) * 1e3 for before, after in pairwise(reached)]


def percentile_cells(times_ms: Sequence[float]) -> list[str]:
    """p50, p90, p99, the most, and p99 as a multiple of p50."""
    p50, p90, p99, most = np.percentile(times_ms, (50, 90, 99, 100)).tolist()
    return [f"{p50:.2f}", f"{p90:.2f}", f"{p99:.2f}", f"{most:.2f}", f"{p99 / p50:.2f}"]


def memory_mb(work: Callable[[], object], slices: int, every: int) -> Iterator[float]:
    """Resident megabytes of this process, on Linux, each time that `every` more slices were run, `slices` at a time."""
    done = 0
    while True:
        for _ in range(-(-(every - done) // slices)):
            work()
            done += slices
        done -= every
        yield int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    run(command, "pipeline")
