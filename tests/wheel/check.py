"""Install a wheel into a clean environment, and segment a scan there: `make test-wheel`.

The checking environment has the extras of a device and no torch; the bundle and the scan that it is given are made by
the Python that runs this script, which has everything.
"""

from __future__ import annotations

import argparse
import os
import platform
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
_SYSTEMS = "manylinux_2_34"
_STABLE_ABI_SINCE = (3, 12)


def main() -> None:
    """Run the check; an exception, or a command that fails, is a failed check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--python", default="python3", help="the interpreter that the wheel was built for")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tumortrace-wheel-") as folder:
        check(arguments.wheel, arguments.python, Path(folder))


def check(wheel: Path, python: str, folder: Path) -> None:
    """Everything, in `folder`."""
    check_contents(wheel)
    check_tag(wheel, python)
    environment = folder / "venv"
    run(python, "-m", "venv", environment)
    clean_python = environment / "bin" / "python"
    pip(clean_python, "install", "-c", _CONSTRAINTS, "pip")
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


def check_tag(wheel: Path, python: str) -> None:
    """Refuse a wheel for other Pythons or systems than promised, in its name or in what it says inside."""
    version = subprocess.check_output([python, "-c", "import sys; print(*sys.version_info[:2])"], text=True)
    major, minor = map(int, version.split())
    stable = (major, minor) >= _STABLE_ABI_SINCE
    abi = "cp{}{}-abi3".format(*_STABLE_ABI_SINCE) if stable else f"cp{major}{minor}-cp{major}{minor}"
    wanted = f"{abi}-{_SYSTEMS}_{platform.machine()}"
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/WHEEL"))
        inside = archive.read(metadata).decode()
    if not wheel.name.endswith(f"-{wanted}.whl") or f"\nTag: {wanted}\n" not in inside:
        raise SystemExit(f"{wheel.name}: {wanted} wanted, in the name and inside, where there is:\n{inside}")


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
