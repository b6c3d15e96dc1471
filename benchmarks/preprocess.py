"""How much faster the native core prepares a scan than the definition in NumPy: medians of interleaved runs.

python benchmarks/preprocess.py --runs 9
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from statistics import median

import click
import numpy as np
import numpy.typing as npt

from tumortrace_runtime.preprocess import IntegerInput, Preprocessing, network_batch, packed_batch, preprocess
from tumortrace_runtime.preprocess.native import Preprocessor
from tumortrace_runtime.table import format_table

INTEGERS = IntegerInput("int8", 0.03, 0, 2)
BATCH_SIZE = 4


def head(shape: tuple[int, int, int, int], background: int) -> npt.NDArray[np.float64]:
    """(slices, rows, columns, channels): an ellipse of tissue, around it noise of the strength `background`."""
    random = np.random.default_rng(0)
    y, x = np.ogrid[-1 : 1 : shape[1] * 1j, -1 : 1 : shape[2] * 1j]
    inside = (np.hypot(y / 0.83, x / 0.67) < 1)[None, ..., None]
    tissue, air = random.normal(600, 150, shape), np.abs(random.normal(0, 1, shape)) * background
    return np.where(inside, tissue, air).clip(0, 2000)


def scans() -> Mapping[str, npt.NDArray[np.generic]]:
    """Voxels to prepare, by what they are like."""
    volume = (155, 240, 240, 1)
    return {
        "155x240x240 int16, skull-stripped": head(volume, 0).astype(np.int16),
        "155x240x240 int16, noise in the air": head(volume, 20).astype(np.int16),
        "155x240x240 float32, skull-stripped": head(volume, 0).astype(np.float32),
        "24x256x256x3 uint8, as LGG": (head((24, 256, 256, 3), 20) / 8).astype(np.uint8),
    }


def in_numpy(voxels: npt.NDArray[np.generic], spec: Preprocessing, as_integers: bool) -> None:
    """Every batch of a scan by the definition."""
    planes = preprocess(voxels, spec).planes
    for start in range(0, len(planes), BATCH_SIZE):
        stop = min(start + BATCH_SIZE, len(planes))
        if as_integers:
            packed_batch(planes, start, stop, spec.context, INTEGERS)
        else:
            network_batch(planes, start, stop, spec.context)


def in_core(core: Preprocessor, voxels: npt.NDArray[np.generic], as_integers: bool) -> None:
    """Every batch of a scan by the native core, into arrays that are used again."""
    core.open(voxels)
    rows, columns = core.spec.grid_px
    floats = np.empty((BATCH_SIZE, core.spec.in_channels, rows, columns), np.float32)
    integers = np.empty((BATCH_SIZE, rows // 2, columns // 2, core.spec.in_channels * 4), np.int8)
    for start in range(0, core.slices, BATCH_SIZE):
        stop = min(start + BATCH_SIZE, core.slices)
        if as_integers:
            core.packed_batch(start, stop, INTEGERS, integers[: stop - start])
        else:
            core.network_batch(start, stop, floats[: stop - start])


def medians_ms(runs: int, **works: Callable[[], None]) -> dict[str, float]:
    """Milliseconds of each, run in turn; the first turn does not count."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(runs + 1):
        for name, work in works.items():
            started = time.perf_counter()
            work()
            taken[name].append((time.perf_counter() - started) * 1e3)
    return {name: median(times[1:]) for name, times in taken.items()}


@click.command()
@click.option("--runs", default=9, show_default=True, type=click.IntRange(1))
def main(runs: int) -> None:
    """Whole scans to batches of 4 slices with a neighbour on each side."""
    headings = ("scan", "batches", "NumPy ms", "statistics ms", "core ms", "times as fast")
    rows = []
    for name, voxels in scans().items():
        spec = Preprocessing(("flair",) if voxels.shape[-1] == 1 else ("t1", "flair", "t1ce"))
        core = Preprocessor(spec)
        for as_integers in (False, True):
            found = medians_ms(
                runs,
                numpy=partial(in_numpy, voxels, spec, as_integers),
                statistics=partial(core.open, voxels),
                core=partial(in_core, core, voxels, as_integers),
            )
            figures = (f"{found[part]:.1f}" for part in ("numpy", "statistics", "core"))
            rows.append((name, "int8" if as_integers else "float32", *figures, f"{found['numpy'] / found['core']:.1f}"))
    click.echo(format_table(headings, rows))


if __name__ == "__main__":
    main()
