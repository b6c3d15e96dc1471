"""The TensorRT backend: its names, a real parse and build, a run with stand-ins, and all of it where there is a GPU."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import tumortrace_runtime.backends.tensorrt as backend_module
from tumortrace_runtime.backends import load_backend
from tumortrace_runtime.backends.backend import Layer
from tumortrace_runtime.backends.cuda import find_devices
from tumortrace_runtime.backends.tensorrt_layers import executed_layers
from tumortrace_runtime.errors import BackendError

Execute = Callable[..., subprocess.CompletedProcess[str]]

SOURCES = sorted(Path(backend_module.__file__).parent.glob("tensorrt*.py"))
API = json.loads((Path(__file__).parent / "tensorrt_api.json").read_text())["names"]
EVERYWHERE = {name for name, releases in API.items() if "0" not in releases}

# What the code asks for with `hasattr`, or only where that says 8.6.
GUARDED = {
    "NetworkDefinitionCreationFlag.EXPLICIT_BATCH",
    "BuilderFlag.FP16",
    "BuilderFlag.INT8",
}
# The class of each variable that holds one of TensorRT's objects.
CLASSES = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "measured": "ITimingCache",
    "layer": "IConvolutionLayer",
    "engine": "ICudaEngine",
    "inspector": "EngineInspector",
    "context": "IExecutionContext",
}
# Methods of objects that no variable holds.
OTHERS = {"ParserError.desc", "Runtime.deserialize_cuda_engine", "INetworkDefinition.num_layers"}


def attributes() -> Iterator[str]:
    for source in SOURCES:
        yield from (
            ast.unparse(node) for node in ast.walk(ast.parse(source.read_text())) if isinstance(node, ast.Attribute)
        )


def test_every_name_of_the_module_is_in_all_releases() -> None:
    used = {".".join(chain.split(".")[1:3]) for chain in attributes() if re.fullmatch(r"trt(\.\w+)+", chain)}
    flags = {
        chain.replace("flags.", "NetworkDefinitionCreationFlag.") for chain in attributes() if chain[:6] == "flags."
    }
    assert len(used) >= 15
    assert (used | flags) - EVERYWHERE - GUARDED == {"__version__"}


def test_every_method_and_property_of_its_objects_is_in_all_releases() -> None:
    found = {re.fullmatch(r"(?:self\.)?(\w+)\.(\w+)", chain) for chain in attributes()}
    used = {f"{CLASSES[match[1]]}.{match[2]}" for match in found if match and match[1] in CLASSES}
    used.remove("IConvolutionLayer.__class__")
    assert len(used) >= 30
    assert (used | OTHERS) - EVERYWHERE == set()
    assert {name.split(".")[1] for name in OTHERS} <= {chain.rpartition(".")[2] for chain in attributes()}


def test_no_driver_is_told_before_tensorrt_is_touched(no_driver: None, tensorrt_folder: Path) -> None:
    statements = f"""
import sys
class Forbidden:
    def find_spec(self, name, *_):
        assert name.partition(".")[0] not in ("tensorrt", "pycuda", "cuda"), name
sys.meta_path.insert(0, Forbidden())
from pathlib import Path
from tumortrace_runtime.backends import devices, load_backend
from tumortrace_runtime.errors import BackendError
model = Path({str(tensorrt_folder / "model.fp16.onnx")!r})
for ask in (lambda: devices("tensorrt"), lambda: load_backend("tensorrt", model, precision="fp16")):
    try:
        ask()
    except BackendError as problem:
        print(problem)
"""
    done = subprocess.run([sys.executable, "-c", statements], capture_output=True, text=True, check=False)
    line = "tensorrt: no NVIDIA driver here (no libcuda.so.1); it runs on NVIDIA GPUs alone.\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, 2 * line, "")


# A real parse and build.


def build_with_rtx(folder: Path, statements: str) -> subprocess.CompletedProcess[str]:
    """Run statements with NVIDIA's TensorRT-RTX as `trt`: its parser and builder need no GPU."""
    pytest.importorskip("tensorrt_rtx", reason="not run: no tensorrt-rtx")
    prologue = f"""
from pathlib import Path
import json, tensorrt_rtx as trt
from tumortrace_runtime.backends.tensorrt_build import build_plan
from tumortrace_runtime.backends.tensorrt_recipe import read_recipe
folder = Path({str(folder)!r})
recipe = read_recipe(folder / "recipe.json")
"""
    return subprocess.run(
        [sys.executable, "-c", prologue + statements], capture_output=True, text=True, check=False, timeout=120
    )


def test_nvidias_parser_and_builder_take_what_the_recipe_says(tensorrt_folder: Path) -> None:
    statements = """
plan, timings = build_plan(trt, folder / "model.fp16.onnx", recipe, "fp16", b"")
again, _ = build_plan(trt, folder / "model.int8-fp16.onnx", recipe, "int8", b"of another version")
print(json.dumps([len(plan.data), len(again.data), [vars(layer) for layer in plan.layers]]))
"""
    done = build_with_rtx(tensorrt_folder, statements)
    assert done.returncode == 0, done.stderr
    size, other, layers = json.loads(done.stdout)
    assert min(size, other) > 1000
    assert [(layer["name"], layer["kind"], layer["macs"], layer["precision"]) for layer in layers] == [
        ("first", "Conv", 16 * 4 * 3 * 3 * 32 * 32, "unknown"),
        ("second", "Conv", 16 * 32 * 32, "unknown"),
    ]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("file = folder / 'broken.onnx'; file.write_bytes(b'no network')", r"broken\.onnx: TensorRT .* cannot read it"),
        (
            "recipe = dataclasses.replace(recipe, shape=(5, 32, 32))",
            r"model\.fp16\.onnx: TensorRT .* built no engine \(",
        ),
    ],
)
def test_what_nvidias_builder_refuses_is_one_typed_error(
    change: str, told: str, tensorrt_folder: Path, tmp_path: Path
) -> None:
    for file in tensorrt_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    build = (
        f"import dataclasses\nfile = folder / 'model.fp16.onnx'\n{change}\nbuild_plan(trt, file, recipe, 'fp16', b'')"
    )
    done = build_with_rtx(tmp_path, build)
    assert re.search(rf"BackendError: \S*{told}", done.stderr), done.stderr


# With stand-ins.

RUN = """
import ctypes, json, logging, os, sys
from pathlib import Path
import numpy as np
from tumortrace_runtime.backends import devices, load_backend
from tumortrace_runtime.errors import BackendError, InputError
folder, out = Path(FOLDER), Path(OUT)
images = np.load(out / "images.npy")
mode = os.environ.get("MODE", "throughput")
with load_backend("tensorrt", folder / "model.fp16.onnx", precision="fp16", mode=mode) as backend:
    results = {f"{name} {count}": values for count in (4, 1, 3, 9, 4, 1)
               for name, values in backend.run_all(images[:count]).items()}
    first = backend.run(images[:2])
    kept = first.copy()
    backend.run(images[2:4])
    assert (first == kept).all()
    said = [backend.device, backend.version, backend.layer_precisions, backend.executed_precision, devices("tensorrt")]
    for wrong in (images[0], images[:, :3], images.astype(np.float64), images[:0]):
        try:
            backend.run(wrong)
        except InputError:
            said.append("refused")
backend.close()
try:
    backend.run(images)
except BackendError as problem:
    said.append(str(problem))
np.savez(out / "results.npz", **results)
import tensorrt
said.append(sorted((context.count, context.runs) for context in tensorrt.IExecutionContext.made))
said.append(tensorrt.IExecutionContext.made[0].engine.about["flags"])
print(json.dumps([*said, ctypes.CDLL("libcuda.so.1").standin_left()]))
"""


def contexts_used(variables: dict[str, str]) -> list[list[int]]:
    """The size of every context's batches, and how often it ran: twice to be recorded, and as graphs from then on."""
    if "STANDIN_NO_CAPTURE" in variables:
        return [[1, 4], [2, 3], [3, 2], [4, 2], [4, 4]]
    sizes = [1, 2, 3, 4] if variables.get("MODE") == "latency" else [1, 2, 3, 4, 4]
    return [[size, 2] for size in sizes]


@pytest.mark.parametrize(
    "variables",
    [
        {"PYCUDA": "1"},
        {},
        {"STANDIN_INTEGRATED": "1"},
        {"STANDIN_TENSORRT": "8.6.2", "PYCUDA": "1"},
        {"STANDIN_NO_CAPTURE": "1", "PYCUDA": "1"},
        {"MODE": "latency", "PYCUDA": "1"},
    ],
    ids=["PyCUDA", "cuda-python", "shared memory", "8.6", "without graphs", "one session"],
)
def test_batches_of_every_size_come_back_as_onnx_runtime_computes_them(
    variables: dict[str, str], standin: Execute, tensorrt_folder: Path, tmp_path: Path
) -> None:
    if "PYCUDA" not in variables:
        pytest.importorskip("cuda.bindings.driver", reason="not run: no cuda-python")
    images = np.random.default_rng(3).standard_normal((9, 4, 32, 32)).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    statements = RUN.replace("FOLDER", repr(str(tensorrt_folder))).replace("OUT", repr(str(tmp_path)))
    done = standin(statements, TUMORTRACE_ENGINES=str(tmp_path / "engines"), **variables)
    assert done.returncode == 0, done.stderr
    assert "building the engine, which takes minutes (there is none yet)." in done.stderr
    version = variables.get("STANDIN_TENSORRT", "10.3.0.30")
    left = 1 if "PYCUDA" in variables else 0
    assert json.loads(done.stdout) == [
        *("0", version, {"int8": 1}, "int8", ["0"]),
        *4 * ["refused"],
        "tensorrt: the model has been closed.",
        contexts_used(variables),
        ["FP16"] if version.startswith("8") else [],
        left,
    ]
    session = onnxruntime.InferenceSession(tensorrt_folder / "model.fp16.onnx", providers=["CPUExecutionProvider"])
    expected = dict(zip(("logits", "mask"), session.run(["logits", "mask"], {"input": images}), strict=True))
    results = np.load(tmp_path / "results.npz")
    assert len(results.files) == 8
    for name in results.files:
        output, count = name.split()
        np.testing.assert_array_equal(results[name], expected[output][: int(count)])
        assert results[name].dtype == expected[output].dtype


LOAD = """
from pathlib import Path
from tumortrace_runtime.backends import load_backend
{change}
load_backend("tensorrt", Path({folder!r}) / {file!r}, precision={precision!r}, device={device!r})
"""


@pytest.mark.parametrize(
    ("given", "variables", "told"),
    [
        ({"device": "1"}, {}, "tensorrt: no device '1' here; there are: 0."),
        ({"precision": "fp32"}, {}, r"model\.fp16\.onnx: \S*recipe\.json does not name it for fp32\."),
        ({"precision": "int8"}, {}, r"recipe\.json does not name it for int8\."),
        ({}, {"STANDIN_BUILD_FAILS": "1"}, r"TensorRT 10\.3\.0\.30 built no engine \(no tactic fits\)\."),
        ({}, {"STANDIN_NO_CONTEXT": "1"}, "no context for batches of 4 is to be had; GPU memory may be short."),
        (
            {"change": "import sys; sys.modules['tensorrt'] = None"},
            {},
            r"tensorrt cannot be imported \(.*\); `tumortrace doctor` prints the command that installs it here\.",
        ),
    ],
)
def test_what_cannot_be_loaded_is_one_typed_error(
    given: dict[str, str], variables: dict[str, str], told: str, standin: Execute, tensorrt_folder: Path, tmp_path: Path
) -> None:
    defaults = {"change": "", "folder": str(tensorrt_folder), "file": "model.fp16.onnx"}
    statements = LOAD.format(**defaults | {"precision": "fp16", "device": "0"} | given)
    done = standin(statements, PYCUDA="1", TUMORTRACE_ENGINES=str(tmp_path), **variables)
    assert re.search(rf"BackendError: .*{told}\n$", done.stderr), done.stderr


# What the inspector tells, of the releases that name things differently.

KNOWN = tuple(Layer(name, "Conv", "unknown", macs) for name, macs in (("stem", 400), ("down", 500), ("head", 100)))


def kernel(name: str, kind: str, told: str, **more: Any) -> dict[str, Any]:
    return {"Name": name, "LayerType": kind, "Inputs": [{"Name": "x", "Format/Datatype": told}], **more}


@pytest.mark.parametrize(
    ("kernels", "precisions"),
    [
        (
            [
                kernel("Reformatting CopyNode for Input Tensor 0 to stem", "Reformat", "Row major linear FP32"),
                kernel("stem + relu", "CaskConvolution", "Channel major FP16 format where channel % 8 == 0"),
                kernel("down", "CaskConvolution", "Thirty-two wide channel vectorized row major Int8 format"),
                kernel("head", "CaskGemmConvolution", "Row major linear FP32"),
            ],
            ["fp16", "int8", "fp32"],
        ),
        (
            [
                kernel("k0", "correlation", "Half", Metadata="[ONNX Layer: stem]\x1e[ONNX Layer: relu]"),
                kernel("k1", "CaskConvolution", "N/A due to dynamic shapes", Weights={"Type": "Int8", "Count": 9}),
                {"Name": "head", "LayerType": "gemm", "Inputs": [{"DataType": "Float", "Format": "N/A"}]},
            ],
            ["fp16", "int8", "fp32"],
        ),
        (
            [kernel("stem", "CaskConvolution", "BFloat16"), kernel("down", "kgen", "Int8")],
            ["bf16", "unknown", "unknown"],
        ),
        ([kernel("stem", "CaskConvolution", "FP8 format"), "down"], ["unknown", "unknown", "unknown"]),
        ([], ["unknown", "unknown", "unknown"]),
    ],
)
def test_layers_have_the_precisions_that_the_inspector_tells(kernels: list[Any], precisions: list[str]) -> None:
    layers = executed_layers(KNOWN, json.dumps({"Layers": kernels, "Bindings": []}))
    assert [layer.precision for layer in layers] == precisions
    assert [(layer.name, layer.macs) for layer in layers] == [("stem", 400), ("down", 500), ("head", 100)]


@pytest.mark.parametrize("information", ["", "not JSON", "[]", "{}", '"text"'])
def test_an_inspector_that_tells_nothing_leaves_them_unknown(information: str) -> None:
    assert {layer.precision for layer in executed_layers(KNOWN, information)} == {"unknown"}


# With a GPU.


def test_an_engine_of_this_gpu_computes_what_onnx_runtime_computes(
    tensorrt_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        find_devices()
    except BackendError as problem:
        pytest.skip(f"not run: {problem}")
    pytest.importorskip("tensorrt", reason="not run: no TensorRT")
    monkeypatch.setenv("TUMORTRACE_ENGINES", str(tmp_path))
    images = np.random.default_rng(3).standard_normal((5, 4, 32, 32)).astype(np.float32)
    session = onnxruntime.InferenceSession(tensorrt_folder / "model.fp16.onnx", providers=["CPUExecutionProvider"])
    expected = session.run(["logits"], {"input": images})[0]
    with load_backend("tensorrt", tensorrt_folder / "model.fp16.onnx", precision="fp16") as backend:
        for _ in range(3):
            found = backend.run_all(images)
            np.testing.assert_allclose(found["logits"], expected, atol=0.01 * np.abs(expected).max())
            np.testing.assert_array_equal(found["mask"], found["logits"] > 0)
        assert backend.executed_precision in ("fp16", "unknown")
        assert [layer.name for layer in backend.layers] == ["first", "second"]
