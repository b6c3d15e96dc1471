"""What the runtime with one engine takes up beside the PyTorch stack, and how long importing it takes.

python benchmarks/footprint.py

Installed bytes are those of the files that the distributions list, of all that a requirement asks for in turn. The
PyTorch stack is torch, what torch asks for, and NumPy, without which no scan gets into it. Of torch, the build that is
installed here counts: the one for CPUs is by far the smallest.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.metadata import distribution
from pathlib import Path
from statistics import median

import click
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tumortrace_runtime.command import run
from tumortrace_runtime.table import format_table

STACKS = {
    "OpenVINO": ["tumortrace[openvino]"],
    "ONNX Runtime": ["tumortrace[onnxruntime]"],
    "PyTorch": ["torch", "numpy"],
}
PACKAGES = ("tumortrace", "tumortrace_export", "tumortrace_runtime")

# What is imported, and what before the clock starts.
IMPORTS = {
    "import numpy": "",
    "import tumortrace_runtime": "import numpy",
    "from tumortrace_runtime import Segmenter": "import numpy",
    "import tumortrace_runtime.backends.openvino": "from tumortrace_runtime import Segmenter",
    "import tumortrace_runtime.backends.onnxruntime": "from tumortrace_runtime import Segmenter",
    "import torch": "import numpy",
}
_TIMED = """{before}
import time
started = time.perf_counter()
{statement}
print((time.perf_counter() - started) * 1e3)
"""


@click.command()
@click.option("--runs", type=click.IntRange(min=0), default=5, show_default=True, help="Of each import; 0 for none.")
@click.option("--json", "as_json", is_flag=True, help="Print bytes and milliseconds as JSON.")
def command(runs: int, as_json: bool) -> None:
    """Measure what is installed here."""
    stacks = {name: installed_bytes(requirements) for name, requirements in STACKS.items()}
    imports_ms = time_imports(runs) if runs else {}
    if as_json:
        click.echo(json.dumps({"stacks": stacks, "imports_ms": imports_ms}))
        return
    whole = sum(stacks["PyTorch"].values())
    rows = [
        (name, f"{sum(sizes.values()) / 1e6:.0f}", f"{100 * sum(sizes.values()) / whole:.1f} %", _listed(sizes))
        for name, sizes in stacks.items()
    ]
    click.echo(format_table(("stack", "MB", "of PyTorch's", "MB of each"), rows))
    if imports_ms:
        click.echo()
        click.echo(format_table(("statement", "ms"), [(name, f"{taken:.1f}") for name, taken in imports_ms.items()]))


def installed_bytes(requirements: Iterable[str]) -> dict[str, int]:
    """The size of every distribution that must be there for `requirements`, by name, the largest first."""
    wanted = [(Requirement(text), "") for text in requirements]
    known = set()
    sizes: dict[str, int] = {}
    while wanted:
        requirement, extra = wanted.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        for asked in ("", *requirement.extras):
            if (key := (canonicalize_name(requirement.name), asked)) not in known:
                known.add(key)
                wanted += [(Requirement(text), asked) for text in distribution(requirement.name).requires or ()]
                sizes[key[0]] = size_of(requirement.name)
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def size_of(name: str) -> int:
    """Bytes of a distribution's files; of this one, which may be editable, of its packages where they lie."""
    files = {Path(str(file.locate())) for file in distribution(name).files or ()}
    if canonicalize_name(name) == "tumortrace":
        folders = [Path(folder) for package in PACKAGES for folder in import_module(package).__path__]
        files |= {file for folder in folders for file in folder.rglob("*")}
    return sum(file.stat().st_size for file in files if file.is_file())


def time_imports(runs: int) -> dict[str, float]:
    """Median milliseconds of each of `IMPORTS`, every one in processes of its own, in turn."""
    taken: dict[str, list[float]] = {statement: [] for statement in IMPORTS}
    for _ in range(runs):
        for statement, before in IMPORTS.items():
            code = _TIMED.format(before=before, statement=statement)
            done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE)
            taken[statement].append(float(done.stdout))
    return {statement: median(each) for statement, each in taken.items()}


def _listed(sizes: Mapping[str, int]) -> str:
    small = sum(size for size in sizes.values() if size < 5e5)
    large = [f"{name} {size / 1e6:.0f}" for name, size in sizes.items() if size >= 5e5]
    return ", ".join([*large, *([f"others {small / 1e6:.1f}"] if small else [])])


if __name__ == "__main__":
    run(command, "footprint")
