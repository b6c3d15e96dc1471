"""Build a wheel, install it into a clean environment, and segment a scan there: `make test-wheel`.

The checking environment has the extras of a device and no torch; the bundle and the scan that it is given are made by
the Python that runs this script, which has everything.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import materials

_ROOT = Path(__file__).resolve().parents[2]
_CONSTRAINTS = _ROOT / "constraints.txt"
_EXTRAS = "openvino,onnxruntime,nifti,images"
_WANTED = (
    "tumortrace/cli.py",
    "tumortrace/py.typed",
    "tumortrace_export/cli.py",
    "tumortrace_export/py.typed",
    "tumortrace_runtime/_native.pyi",
    "tumortrace_runtime/py.typed",
    "tumortrace_runtime/segmenter.py",
)
_TOP_LEVEL = {"tumortrace", "tumortrace_export", "tumortrace_runtime"}


def main() -> None:
    """Run the check; an exception, or a command that fails, is a failed check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default="python3", help="the interpreter to build and install for")
    with tempfile.TemporaryDirectory(prefix="tumortrace-wheel-") as folder:
        check(parser.parse_args().python, Path(folder))


def check(python: str, folder: Path) -> None:
    """Everything, in `folder`."""
    environment = folder / "venv"
    run(python, "-m", "venv", environment)
    clean_python = environment / "bin" / "python"
    pip(clean_python, "install", "-c", _CONSTRAINTS, "pip")
    wheel = build_wheel(clean_python, folder / "dist")
    check_contents(wheel)
    pip(clean_python, "install", "-c", _CONSTRAINTS, f"{wheel}[{_EXTRAS}]")
    pip(clean_python, "check")

    bundle, scan = materials.make(folder / "materials")
    empty = folder / "empty"
    empty.mkdir()
    run(clean_python, "-I", Path(__file__).with_name("segment.py"), bundle, scan, cwd=empty)
    tumortrace = environment / "bin" / "tumortrace"
    run(tumortrace, "doctor", bundle, cwd=empty)
    for backend in ("openvino", "onnxruntime"):
        run(tumortrace, "segment", bundle, scan, "--backend", backend, "-o", empty / backend, cwd=empty)


def build_wheel(python: Path, folder: Path) -> Path:
    """The wheel of this checkout, for `python`."""
    build_folder = folder.with_name("build")
    pip(
        python,
        "wheel",
        "--no-deps",
        "--build-constraint",
        _CONSTRAINTS,
        f"-Cbuild-dir={build_folder}",
        "-w",
        folder,
        _ROOT,
    )
    (wheel,) = folder.glob("tumortrace-*.whl")
    return wheel


def check_contents(wheel: Path) -> None:
    """Refuse a wheel that lacks something or brings something that is not the packages'."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    missing = [name for name in _WANTED if name not in names]
    native = [name for name in names if name.startswith("tumortrace_runtime/_native.") and name.endswith(".so")]
    strays = sorted({name.partition("/")[0] for name in names} - _TOP_LEVEL)
    if missing or len(native) != 1 or not all(name.endswith(".dist-info") for name in strays):
        raise SystemExit(f"{wheel.name}: missing {missing}, native modules {native}, other top-level names {strays}.")
    print(f"{wheel.name}: {len(names)} files, {wheel.stat().st_size / 1024:.0f} KiB")


def pip(python: Path, *arguments: str | Path) -> None:
    """Run pip quietly for `python`."""
    run(python, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments)


def run(*command: str | Path, cwd: Path | None = None) -> None:
    """Run a command without this checkout on its import path; a failure ends the check."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    print("+", *command, flush=True)
    if subprocess.run(command, cwd=cwd, env=environment, check=False).returncode != 0:
        sys.exit(f"failed: {' '.join(map(str, command))}")


if __name__ == "__main__":
    main()
