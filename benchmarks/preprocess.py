"""How much faster the native core prepares a scan than the definition in NumPy: medians of interleaved runs.

python benchmarks/preprocess.py --brats BraTS2021_00006

Candidates take turns on one thread. Each gives the network's batches of one slice in their order, which is how the
pipeline runs them, and the same ones to the bit, or the script fails.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from scans import phantom_scan

from tumortrace.phantom import generate_case
from tumortrace_runtime.bench.timing import measure_interleaved
from tumortrace_runtime.command import run
from tumortrace_runtime.io import find_cases, read_case
from tumortrace_runtime.preprocess import IntegerInput, Preprocessing, network_batch, packed_batch, packed_shape
from tumortrace_runtime.preprocess import preprocess as define
from tumortrace_runtime.preprocess.native import Preprocessor
from tumortrace_runtime.table import format_table

INTEGERS = IntegerInput("int8", 0.03, 0, 2)
HEADINGS = ("scan", "planes", "to", "NumPy ms", "statistics ms", "core ms", "least", "times as fast")

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Work:
    """What is prepared.

    Attributes:
        name: what the table calls it.
        voxels: (slices, rows, columns, channels).
        spec: what the network wants.
    """

    name: str
    voxels: Array
    spec: Preprocessing


@click.command()
@click.option("--repeats", type=click.IntRange(min=1), default=9, show_default=True)
@click.option("--brats", type=click.Path(path_type=Path), help="A BraTS case, whose FLAIR is prepared, too.")
def command(repeats: int, brats: Path | None) -> None:
    """Measure what takes whole scans to batches of one slice, and print a table."""
    rows = []
    for work in make_works(brats):
        for integers in (None, INTEGERS):
            candidates = make_candidates(work, integers)
            timings = measure_interleaved(candidates, repeats=repeats)
            base, core = timings["NumPy"], timings["core"]
            rows.append(
                (
                    work.name,
                    str(work.spec.in_channels),
                    "float32" if integers is None else integers.dtype,
                    *(f"{timing.median_ms:.2f}" for timing in timings.values()),
                    f"{core.min_ms:.2f}",
                    f"{base.median_ms / core.median_ms:.1f}",
                )
            )
    click.echo(format_table(HEADINGS, rows))


def make_works(brats: Path | None) -> list[Work]:
    """Scans of the kinds that there are; the FLAIR of a BraTS case last."""
    channels = ("t1", "flair", "t1ce")
    phantom, lgg = phantom_scan(), generate_case(7, 3)
    flair = _flair(phantom.voxels)
    noisy = _flair(phantom_scan(noise_in_air=True).voxels)
    alone, beside = Preprocessing(("flair",), context=0), Preprocessing(("flair",))
    works = [
        Work("phantom, a channel, int16", flair, alone),
        Work("phantom, a channel, int16", flair, beside),
        Work("phantom, a channel, int16, noise in the air", noisy, beside),
        Work("phantom, a channel, float32", flair.astype(np.float32), beside),
        Work("phantom, 3 channels, int16", phantom.voxels, Preprocessing(channels)),
        Work(f"{len(lgg.voxels)}x256x256x3 uint8, as LGG", lgg.voxels, Preprocessing(channels)),
    ]
    if brats:
        real = read_case(find_cases(brats)[0], with_truth=False)
        works += [Work(f"{real.case_id}, a channel", real.select(("flair",)), spec) for spec in (alone, beside)]
        works.append(Work(f"{real.case_id}, 3 channels", real.select(channels), Preprocessing(channels)))
    return works


def make_candidates(work: Work, integers: IntegerInput | None) -> dict[str, Callable[[], object]]:
    """What is timed, by name.

    Raises:
        AssertionError: the core gives other batches than the definition.
    """
    core = Preprocessor(work.spec)
    pairs = zip(in_numpy(work, integers), in_core(core, work, integers), strict=True)
    if not all(np.array_equal(wanted, given) for wanted, given in pairs):
        raise AssertionError(f"{work.name}: the core gives other batches than NumPy.")
    return {
        "NumPy": lambda: deque(in_numpy(work, integers), maxlen=0),
        "statistics": lambda: core.open(work.voxels),
        "core": lambda: deque(in_core(core, work, integers), maxlen=0),
    }


def in_numpy(work: Work, integers: IntegerInput | None) -> Iterator[Array]:
    """Every batch of a scan by the definition."""
    planes, context = define(work.voxels, work.spec).planes, work.spec.context
    for number in range(len(planes)):
        if integers is None:
            yield network_batch(planes, number, number + 1, context)
        else:
            yield packed_batch(planes, number, number + 1, context, integers)


def in_core(core: Preprocessor, work: Work, integers: IntegerInput | None) -> Iterator[Array]:
    """Every batch of a scan by the native core, in an array that the next one overwrites."""
    core.open(work.voxels)
    planes, grid_px = work.spec.in_channels, work.spec.grid_px
    if integers is None:
        batch: Array = np.empty((1, planes, *grid_px), np.float32)
    else:
        batch = np.empty(packed_shape(1, planes, grid_px, integers), integers.dtype)
    for number in range(core.slices):
        if integers is None:
            yield core.network_batch(number, number + 1, batch)
        else:
            yield core.packed_batch(number, number + 1, integers, batch)


def _flair(voxels: Array) -> Array:
    """(slices, rows, columns, 1) of t1, flair and t1ce, contiguous."""
    return np.ascontiguousarray(voxels[..., 1:2])


if __name__ == "__main__":
    run(command, "preprocess")
