from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tumortrace_runtime.bundle import MANIFEST, SEAL, open_bundle, seal_of
from tumortrace_runtime.files import sha256_file, write_json

Program = Callable[..., Any]
OnGpu = Callable[..., subprocess.CompletedProcess[str]]

_STANDIN = Path(__file__).parents[2] / "runtime" / "backends" / "standin"
_NO_DRIVER = "Error: tensorrt: no NVIDIA driver here (no libcuda.so.1); it runs on NVIDIA GPUs alone.\n"


@pytest.fixture(scope="module")
def bundle(
    tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory, write_tensorrt_recipe: Callable[..., None]
) -> Path:
    """The tiny bundle with a `tensorrt` folder: its ONNX files under the names of the recipe."""
    path = tmp_path_factory.mktemp("built") / "tiny.bundle"
    shutil.copytree(tiny_bundle, path)
    shutil.rmtree(path / "tensorrt", ignore_errors=True)
    (path / "tensorrt").mkdir()
    shutil.copy(path / "model.onnx", path / "tensorrt" / "model.fp16.onnx")
    shutil.copy(path / "model.int8.onnx", path / "tensorrt" / "model.int8-fp16.onnx")
    files = {"fp16": "model.fp16.onnx", "int8": "model.int8-fp16.onnx"}
    write_tensorrt_recipe(path / "tensorrt", (9, 64, 64), files)
    manifest = json.loads((path / MANIFEST).read_bytes())
    kept = {name: entry for name, entry in manifest["files"].items() if not name.startswith("tensorrt/")}
    added = {f"tensorrt/{file.name}": {"sha256": sha256_file(file)} for file in (path / "tensorrt").iterdir()}
    write_json(path / MANIFEST, manifest | {"files": kept | added})
    (path / SEAL).write_bytes(seal_of(sha256_file(path / MANIFEST)))
    open_bundle(path)
    return path


@pytest.fixture(scope="module")
def on_gpu(tmp_path_factory: pytest.TempPathFactory) -> OnGpu:
    """Run `tumortrace build-engine` in a process with stand-ins for NVIDIA's driver and TensorRT."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("not run: no C compiler for the stand-in of NVIDIA's driver")
    library = tmp_path_factory.mktemp("standin") / "libcuda.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, _STANDIN / "libcuda.c", "-ldl"], check=True)
    found = {"LD_LIBRARY_PATH": str(library.parent), "PYTHONPATH": str(_STANDIN)}

    def call(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from tumortrace.cli import main; main()", "build-engine"]
        environment = os.environ | found | variables
        return subprocess.run(
            [*command, *map(str, arguments)], env=environment, capture_output=True, text=True, check=False
        )

    return call


def test_no_driver_is_a_wrong_machine_told_in_one_line(bundle: Path) -> None:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        pass
    else:
        pytest.skip("not run: this machine has an NVIDIA driver")
    command = [sys.executable, "-c", "from tumortrace.cli import main; main()", "build-engine", str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", _NO_DRIVER)


def test_the_bundle_is_verified_first(tumortrace: Program, bundle: Path, tmp_path: Path) -> None:
    ended = tumortrace("build-engine", tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert "is no bundle" in ended.err
    altered = tmp_path / "altered.bundle"
    shutil.copytree(bundle, altered)
    (altered / "tensorrt" / "model.fp16.onnx").write_bytes(b"altered")
    ended = tumortrace("build-engine", altered)
    assert ended.code == 2
    assert "model.fp16.onnx: was altered" in ended.err


def test_a_bundle_without_a_recipe_is_refused(tumortrace: Program, bundle: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.bundle"
    shutil.copytree(bundle, bare)
    shutil.rmtree(bare / "tensorrt")
    manifest = json.loads((bare / MANIFEST).read_bytes())
    manifest["files"] = {name: entry for name, entry in manifest["files"].items() if not name.startswith("tensorrt/")}
    write_json(bare / MANIFEST, manifest)
    (bare / SEAL).write_bytes(seal_of(sha256_file(bare / MANIFEST)))
    ended = tumortrace("build-engine", bare)
    assert (ended.code, ended.err) == (
        2,
        f"Error: {bare}: has no tensorrt/recipe.json; export it with --format tensorrt.\n",
    )


def test_both_engines_are_built_and_then_reused(on_gpu: OnGpu, bundle: Path, tmp_path: Path) -> None:
    done = on_gpu(bundle, "--cache", tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "TensorRT 10.3.0.30 on Stand-in GPU, compute capability 8.7"
    rows = [line.split() for line in lines if line.startswith(("fp16", "int8"))]
    assert [row[:2] for row in rows] == [["fp16", "built"], ["int8", "built"]]
    assert all(Path(row[4]).parent == tmp_path and Path(row[4]).stat().st_size > 0 for row in rows)
    assert done.stderr.count("building the engine, which takes minutes (there is none yet).\n") == 2
    assert lines[-2:] == [
        f"  TUMORTRACE_ENGINES={tmp_path} tumortrace doctor {bundle}",
        f"  TUMORTRACE_ENGINES={tmp_path} tumortrace segment {bundle} SCAN -o OUT"
        " --backend tensorrt --device 0 --precision int8",
    ]
    again = on_gpu(bundle, "--cache", tmp_path)
    assert [line.split()[:2] for line in again.stdout.splitlines() if line.startswith(("fp16", "int8"))] == [
        ["fp16", "reused"],
        ["int8", "reused"],
    ]
    assert again.stderr == ""


def test_json_is_one_object_with_what_is_in_the_users_cache(on_gpu: OnGpu, bundle: Path, tmp_path: Path) -> None:
    cache = {"TUMORTRACE_ENGINES": str(tmp_path)}
    first = on_gpu(bundle, "--precision", "int8", "--json", **cache)
    told = json.loads(first.stdout)
    (engine,) = told["engines"]
    assert (told["device"], told["tensorrt"]) == ("Stand-in GPU", "10.3.0.30")
    assert (engine["precision"], engine["reused"]) == ("int8", False)
    assert engine["size_bytes"] == Path(engine["path"]).stat().st_size
    assert told["next"][0] == f"tumortrace doctor {bundle}"
    rebuilt = json.loads(on_gpu(bundle, "--precision", "int8, int8", "--rebuild", "--json", **cache).stdout)
    assert [engine["reused"] for engine in rebuilt["engines"]] == [False]


@pytest.mark.parametrize(
    ("arguments", "variables", "told"),
    [
        (("--device", "1"), {}, "tensorrt: no device '1' here; there are: 0."),
        (("--precision", "fp32"), {}, "has no fp32 engine; it has fp16, int8."),
        ((), {"STANDIN_BUILD_FAILS": "1"}, "TensorRT 10.3.0.30 built no engine (no tactic fits)."),
    ],
)
def test_what_cannot_be_built_ends_with_2_and_a_reason(
    arguments: tuple[str, ...], variables: dict[str, str], told: str, on_gpu: OnGpu, bundle: Path, tmp_path: Path
) -> None:
    done = on_gpu(bundle, "--cache", tmp_path, *arguments, **variables)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(f"{told}\n")
    assert "Traceback" not in done.stderr
