"""The runtime needs neither torch nor the packages above it, and training needs no export."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[1]
_RUNTIME = _ROOT / "runtime" / "tumortrace_runtime"
_FORBIDDEN = {
    _RUNTIME: {"cc3d", "cv2", "matplotlib", "scipy", "torch", "tumortrace", "tumortrace_export"},
    _ROOT / "tumortrace": {"tumortrace_export"},
}


def imports(source: str) -> Iterator[str]:
    """The top-level name of everything that `source` imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("package", _FORBIDDEN, ids=lambda package: package.name)
def test_no_import_goes_up(package: Path) -> None:
    files = sorted(package.rglob("*.py"))
    assert files
    offenders = {
        str(file.relative_to(_ROOT)): found
        for file in files
        if (found := _FORBIDDEN[package] & {*imports(file.read_text())})
    }
    assert offenders == {}


def modules(package: Path) -> list[str]:
    """The import names of a package's modules."""
    parts = (file.relative_to(package.parent).with_suffix("").parts for file in sorted(package.rglob("*.py")))
    return [".".join(name[:-1] if name[-1] == "__init__" else name) for name in parts]


def run_without(blocked: set[str], statements: str) -> None:
    """Run Python statements in a fresh process in which importing a `blocked` package fails."""
    block = f"import sys; sys.modules.update(dict.fromkeys({sorted(blocked)!r}))\n"
    done = subprocess.run([sys.executable, "-c", block + statements], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_runtime_imports_without_torch_and_what_lies_above() -> None:
    run_without(_FORBIDDEN[_RUNTIME], "\n".join(f"import {name}" for name in modules(_RUNTIME)))


def test_device_commands_import_without_torch() -> None:
    commands = ("segment", "bench", "doctor", "build_engine", "verify", "sign", "pack", "unpack", "models")
    run_without({"torch", "tumortrace_export"}, "\n".join(f"import tumortrace.commands.{name}" for name in commands))


@pytest.mark.parametrize("statement", ["import tumortrace", "import tumortrace.cli", "import tumortrace_runtime"])
def test_heavy_libraries_wait_until_they_are_used(statement: str) -> None:
    run_without({"torch", "openvino", "onnxruntime", "cv2", "cc3d", "scipy", "PIL", "nibabel", "pydicom"}, statement)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_segmenting_needs_numpy_and_one_engine(
    backend: str, tiny_bundle: Path, tiny_data: Path, tmp_path: Path
) -> None:
    other = {"openvino": "onnxruntime", "onnxruntime": "openvino"}[backend]
    scan = next(path for path in sorted((tiny_data / "phantoms").iterdir()) if path.is_dir())
    segment = ["tumortrace", "segment", *map(str, (tiny_bundle, scan, "--backend", backend, "-o", tmp_path / "out"))]
    heavy = {"torch", "cv2", "cc3d", "scipy", "matplotlib", "nibabel", other}
    statements = f"""
import atexit, sys
import tumortrace_runtime
atexit.register(lambda: print(sorted({heavy!r} & set(sys.modules)), file=sys.stderr))
sys.argv = {segment!r}
from tumortrace.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", statements], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()[-1:]) == (0, ["[]"]), done.stderr
    assert (tmp_path / "out" / scan.name / "overlay.png").is_file()


@pytest.mark.parametrize(
    ("package", "line"),
    [
        ("runtime/tumortrace_runtime", "import torch"),
        ("runtime/tumortrace_runtime", "import cv2"),
        ("runtime/tumortrace_runtime", "from tumortrace.model import UNet"),
        ("runtime/tumortrace_runtime", "import tumortrace_export"),
        ("tumortrace", "from tumortrace_export import cli"),
    ],
)
def test_lint_refuses_an_import_that_goes_up(package: str, line: str) -> None:
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--select",
        "TID251",
        "--stdin-filename",
        f"{package}/new.py",
        "-",
    ]
    done = subprocess.run(command, input=f"{line}\n", cwd=_ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, "TID251" in done.stdout) == (1, True), done.stdout + done.stderr
