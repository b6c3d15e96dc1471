"""Segment phantoms with the wheel for Arm under qemu, and hold the masks to this machine's: `make test-arm-python`.

ONNX Runtime runs the bundle here and there. Debian's Python for arm64 and what it needs are unpacked into a folder, and
nothing is installed; what is downloaded is kept beside it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import materials
import numpy as np
from check import run
from PIL import Image

_CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints.txt"
_PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
_ONNXRUNTIME = "onnxruntime==1.26.0"  # 1.30, 1.31 and 1.32 crash on import under qemu 7.2
_SYSTEMS = tuple(f"manylinux_2_{minor}_aarch64" for minor in (34, 31, 28, 27, 17))
_CPUS = ("cortex-a53", "cortex-a76")  # without and with dot products and float16 arithmetic
_PRECISIONS = ("fp32", "int8")
_TUMORTRACE = ("-c", "from tumortrace.cli import main; main()")


def main() -> None:
    """Run the check; an exception, or a command that fails, is a failed check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path, help="for aarch64 and a Python of the version that runs this")
    parser.add_argument("--cache", type=Path, required=True, help="folder for what is downloaded and unpacked")
    arguments = parser.parse_args()
    cache = arguments.cache.resolve()
    emulated = unpack_python(cache / _PYTHON)
    if emulated is None:
        return
    install(arguments.wheel, cache)
    with tempfile.TemporaryDirectory(prefix="tumortrace-arm-") as folder:
        differing = [found for found in compare(emulated, cache / "site", Path(folder)) if found]
    if differing:
        sys.exit(f"{len(differing)} of {len(_CPUS) * len(_PRECISIONS)} runs differ from this machine's.")


def unpack_python(folder: Path) -> Path | None:
    """The root of a system with Debian's Python for arm64, without its shell; None, said aloud, where apt has none."""
    root = folder / "root"
    if root.exists():
        return root
    (folder / "state/lists/partial").mkdir(parents=True, exist_ok=True)
    (folder / "cache/archives/partial").mkdir(parents=True, exist_ok=True)
    # A system of its own as far as apt knows, in which nothing is installed: all that Python needs is downloaded.
    status = folder / "state/status"
    status.touch()
    settings = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "Dir::State": folder / "state",
        "Dir::State::status": status,
        "Dir::Cache": folder / "cache",
    }
    apt = ["apt-get", "-qq", *(part for name, value in settings.items() for part in ("-o", f"{name}={value}"))]
    wanted = ("install", "--yes", "--no-install-recommends", "--download-only", _PYTHON, "libstdc++6")
    for arguments in (("update",), wanted):
        if subprocess.run([*apt, *arguments], check=False).returncode != 0:
            print(f"test-arm-python: SKIPPED: apt has no {_PYTHON} for arm64 here")
            return None
    unpacking = folder / "unpacking"
    shutil.rmtree(unpacking, ignore_errors=True)
    unpacking.mkdir()
    for package in sorted((folder / "cache/archives").glob("*.deb")):
        subprocess.run(["dpkg", "-x", package, unpacking], check=True)
    return unpacking.rename(root)


def install(wheel: Path, cache: Path) -> None:
    """Unpack the wheel, and the wheels for Arm of what it needs, into `cache/site`."""
    site, constraints = cache / "site", cache / "constraints.txt"
    shutil.rmtree(site, ignore_errors=True)
    pinned = _CONSTRAINTS.read_text().splitlines()
    constraints.write_text("\n".join(line for line in pinned if not line.startswith("onnxruntime==")) + "\n")
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--cache-dir", cache / "pip")
    platforms = (part for system in _SYSTEMS for part in ("--platform", system))
    packages = (f"{wheel}[onnxruntime,images]", _ONNXRUNTIME)
    run(*pip, "install", "--target", site, "--only-binary=:all:", *platforms, "-c", constraints, *packages)


def compare(root: Path, site: Path, folder: Path) -> list[int]:
    """Voxels whose mask is another under qemu, for each CPU and precision."""
    bundle, scan = materials.make(folder / "materials")
    phantoms = scan.parent
    differing = []
    for precision in _PRECISIONS:
        here = folder / f"here-{precision}"
        segment = (*_TUMORTRACE, "segment", bundle, phantoms, "--backend", "onnxruntime", "--precision", precision)
        run(sys.executable, *segment, "-o", here)
        for cpu in _CPUS:
            there = folder / f"{cpu}-{precision}"
            variables = ("-E", f"PYTHONHOME={root}/usr", "-E", f"PYTHONPATH={site}")
            qemu = ("qemu-aarch64-static", "-cpu", cpu, "-L", root, *variables)
            run(*qemu, root / "usr/bin" / _PYTHON, *segment, "-o", there)
            differing.append(report(here, there))
    return differing


def report(here: Path, there: Path) -> int:
    """Voxels that differ between the masks in two folders of the same cases; says how many of how many."""
    masks = sorted(path.relative_to(here) for path in here.rglob("*_mask.tif"))
    assert masks, f"{here} has no masks"
    pairs = [(read_mask(here / mask), read_mask(there / mask)) for mask in masks]
    differing = sum(int(np.count_nonzero(ours != theirs)) for ours, theirs in pairs)
    voxels, lesion = sum(ours.size for ours, _ in pairs), sum(int(np.count_nonzero(ours)) for ours, _ in pairs)
    assert lesion, f"{here} has no lesion"
    print(f"{there.name}: {differing} of {voxels} voxels differ from this machine's, {lesion} of which are lesion")
    if differing == 0:
        for result in sorted(path.relative_to(here) for path in here.rglob("result.json")):
            assert read_lesions(here / result) == read_lesions(there / result), result
    return differing


def read_mask(path: Path) -> np.ndarray:
    """The pixels of a mask's file."""
    with Image.open(path) as image:
        return np.asarray(image)


def read_lesions(path: Path) -> object:
    """What a case's result says of its lesions."""
    return json.loads(path.read_text())["lesions"]


if __name__ == "__main__":
    main()
