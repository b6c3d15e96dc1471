"""How long a new process takes to its first mask, stage by stage: medians of interleaved runs.

python benchmarks/cold_start.py lgg-unet-s --runs 5

Every run is a process of its own. A first start finds an empty cache of compiled models, and fills it; a later one
finds what the first one left. Files are in the page cache. The processor time, of all threads, says more than the wall
clock where other programs run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from statistics import median

import click

from tumortrace_runtime.command import run
from tumortrace_runtime.table import format_table

STAGES = ("python", "numpy", "runtime", "bundle", "engine", "load", "mask")
_PROCESS = """
import sys, time
reached = [float(sys.argv[1]), time.time()]
import numpy as np
reached.append(time.time())
from tumortrace_runtime import Segmenter
reached.append(time.time())
from tumortrace_runtime.bundle import open_bundle
from tumortrace_runtime.models import find_bundle
bundle = open_bundle(find_bundle(sys.argv[2]))
reached.append(time.time())
from tumortrace_runtime.backends import devices
devices(sys.argv[3])
reached.append(time.time())
segmenter = Segmenter(bundle, backend=sys.argv[3], precision=sys.argv[4])
reached.append(time.time())
shape = (int(sys.argv[5]), *bundle.preprocessing.grid_px, len(bundle.preprocessing.channels))
voxels = np.arange(np.prod(shape)).reshape(shape).astype(np.uint8)
segmenter.segment(voxels)
reached.append(time.time())
import json
print(json.dumps([(after - before) * 1e3 for before, after in zip(reached, reached[1:])] + [time.process_time() * 1e3]))
"""


@click.command()
@click.argument("bundle", default="lgg-unet-s")
@click.option("--backend", "backends", multiple=True, default=("openvino", "onnxruntime"), show_default=True)
@click.option("--precision", default="int8", show_default=True)
@click.option("--slices", type=click.IntRange(min=1), default=1, show_default=True, help="Of the first scan.")
@click.option("--runs", type=click.IntRange(min=1), default=5, show_default=True)
def command(bundle: str, backends: tuple[str, ...], precision: str, slices: int, runs: int) -> None:
    """Start processes that segment one scan with BUNDLE, and print a table of milliseconds."""
    taken: dict[tuple[str, str], list[list[float]]] = {}
    for _ in range(runs):
        for backend in backends:
            with tempfile.TemporaryDirectory(prefix="tumortrace-") as cache:
                for start in ("first", "later"):
                    found = start_process(cache, bundle, backend, precision, str(slices))
                    taken.setdefault((backend, start), []).append(found)
    click.echo(format_table(("engine", "start", *STAGES, "to first mask", "processor"), _rows(taken)))


def start_process(cache: str, *arguments: str) -> list[float]:
    """Milliseconds of each of `STAGES` in a new process, and its processor time."""
    command = [sys.executable, "-c", _PROCESS, str(time.time()), *arguments]
    environment = os.environ | {"XDG_CACHE_HOME": cache}
    told: list[float] = json.loads(subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout)
    return told


def _rows(taken: Mapping[tuple[str, str], list[list[float]]]) -> list[tuple[str, ...]]:
    rows = []
    for key, runs in taken.items():
        stages = [median(stage) for stage in zip(*(each[:-1] for each in runs), strict=True)]
        figures = [*stages, median(sum(each[:-1]) for each in runs), median(each[-1] for each in runs)]
        rows.append((*key, *(f"{figure:.0f}" for figure in figures)))
    return rows


if __name__ == "__main__":
    run(command, "cold_start")
