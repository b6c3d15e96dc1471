"""CUDA as far as the TensorRT backend needs it: names, the case of no driver, and a stand-in driver's one GPU."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
from collections.abc import Callable

import pytest

from tumortrace_runtime.backends import cuda_memory
from tumortrace_runtime.backends.cuda import find_device, find_devices
from tumortrace_runtime.errors import BackendError

Execute = Callable[..., subprocess.CompletedProcess[str]]

_PROLOGUE = """
import ctypes, json
from tumortrace_runtime.backends.cuda import find_device, find_devices, record
from tumortrace_runtime.backends.cuda_memory import open_gpu
from tumortrace_runtime.errors import BackendError
left = ctypes.CDLL("libcuda.so.1").standin_left
"""


@pytest.fixture(params=["PyCUDA", "cuda-python"])
def library(request: pytest.FixtureRequest) -> dict[str, str]:
    """Each library that device memory may go through, as the variables that choose it."""
    if request.param == "PyCUDA":
        return {"PYCUDA": "1"}
    pytest.importorskip("cuda.bindings.driver", reason="not run: no cuda-python")
    return {}


@pytest.fixture
def outcome(standin: Execute) -> Callable[..., object]:
    """The JSON that statements print last, run with the stand-ins."""

    def run(statements: str, **variables: str) -> object:
        done = standin(_PROLOGUE + statements, **variables)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.mark.parametrize("ask", [find_devices, lambda: find_device("0")])
def test_no_driver_is_told_in_one_line(ask: Callable[[], object], no_driver: None) -> None:
    with pytest.raises(BackendError, match=r"^tensorrt: no NVIDIA driver here \(no libcuda\.so\.1\).*alone\.$"):
        ask()


def test_a_driver_without_a_gpu_is_told_with_its_error(standin: Execute) -> None:
    done = standin(_PROLOGUE + "find_devices()", STANDIN_NO_DEVICE="1")
    assert done.stderr.endswith("NVIDIA's driver finds no GPU that it can use (CUDA_ERROR_NO_DEVICE).\n")


def test_a_device_is_described(outcome: Callable[..., object]) -> None:
    assert outcome("print(json.dumps(vars(find_device('0'))))") == {
        "index": 0,
        "name": "Stand-in GPU",
        "compute_capability": "8.7",
        "multiprocessors": 8,
        "integrated": False,
    }


def test_a_device_that_is_not_there_is_refused_with_those_that_are(standin: Execute) -> None:
    done = standin(_PROLOGUE + "find_device('1')")
    assert done.stderr.endswith("BackendError: tensorrt: no device '1' here; there are: 0.\n")


def test_bytes_go_to_the_device_and_back_and_all_memory_is_given_back(
    library: dict[str, str], outcome: Callable[..., object]
) -> None:
    statements = """
device = find_device("0")
gpu = open_gpu(device)
with gpu.current():
    buffer = gpu.allocate(8, shared=device.integrated)
    buffer.host[:] = range(8)
    gpu.upload(buffer, 6)
    gpu.synchronize()
    buffer.host[:] = 9
    gpu.download(buffer, 4)
    gpu.synchronize()
    came = buffer.host.tolist()
gpu.close()
print(json.dumps([came, type(gpu).__name__, left()]))
"""
    kept = 1 if library else 0  # PyCUDA's context stays with the process
    name = "_PyCuda" if library else "_CudaPython"
    assert outcome(statements, **library) == [[0, 1, 2, 3, 9, 9, 9, 9], name, kept]


def test_memory_that_both_sides_share_is_one(library: dict[str, str], outcome: Callable[..., object]) -> None:
    statements = """
device = find_device("0")
gpu = open_gpu(device)
with gpu.current():
    buffer = gpu.allocate(8, shared=device.integrated)
    buffer.host[:] = range(8)
    seen = list((ctypes.c_uint8 * 8).from_address(buffer.address))
gpu.close()
print(json.dumps([device.integrated, buffer.shared, seen]))
"""
    assert outcome(statements, STANDIN_INTEGRATED="1", **library) == [True, True, [0, 1, 2, 3, 4, 5, 6, 7]]


def test_memory_that_is_short_is_a_typed_error(library: dict[str, str], standin: Execute) -> None:
    statements = "gpu = open_gpu(find_device('0'))\nwith gpu.current(): gpu.allocate(1 << 30, shared=False)"
    done = standin(_PROLOGUE + statements, **library)
    assert re.search(r"BackendError: tensorrt: CUDA failed \(cuMemAlloc.*\)\.\n$", done.stderr)


def test_recorded_work_runs_only_when_it_is_launched(outcome: Callable[..., object]) -> None:
    statements = """
gpu = open_gpu(find_device("0"))
with gpu.current():
    buffer = gpu.allocate(2, shared=False)
    buffer.host[:] = 1
    gpu.upload(buffer, 2)
    buffer.host[:] = 2
    graph = record(gpu.stream, lambda: gpu.upload(buffer, 2))
    gpu.download(buffer, 2)
    gpu.synchronize()
    recorded_only = buffer.host.tolist()
    for value in (5, 7):
        buffer.host[:] = value
        graph.launch(gpu.stream)
        buffer.host[:] = 0
        gpu.download(buffer, 2)
        gpu.synchronize()
        assert buffer.host.tolist() == [value, value]
    graph.close()
gpu.close()
print(json.dumps([recorded_only, left()]))
"""
    assert outcome(statements, PYCUDA="1") == [[1, 1], 1]


def test_work_that_cannot_be_recorded_gives_no_graph_and_leaves_the_stream_usable(
    outcome: Callable[..., object],
) -> None:
    statements = """
gpu = open_gpu(find_device("0"))
def fail(): raise BackendError("no")
with gpu.current():
    graph = record(gpu.stream, fail)
    gpu.synchronize()
    again = record(gpu.stream, lambda: None)
print(json.dumps([graph is None, again is None]))
"""
    assert outcome(statements, PYCUDA="1") == [True, False]


def test_without_a_library_for_memory_the_error_says_where_the_command_stands(standin: Execute) -> None:
    block = "import sys; sys.modules.update({'cuda.bindings.driver': None, 'cuda.cuda': None, 'pycuda': None})\n"
    done = standin(block + _PROLOGUE + "open_gpu(find_device('0'))")
    assert "neither PyCUDA nor cuda-python is installed; `tumortrace doctor` prints the command." in done.stderr


def test_every_function_of_cuda_python_is_called_as_it_is_declared() -> None:
    driver = pytest.importorskip("cuda.bindings.driver", reason="not run: no cuda-python")
    source = inspect.getsource(cuda_memory._CudaPython)
    calls = re.findall(r'_call\(\s*"(cu\w+)", ([^\n]*)\)', source)
    freed = re.findall(r'append\(\("(cu\w+)", \w+\)\)', source)
    assert len(calls) >= 8
    for function, arguments in [*calls, *((name, "start") for name in freed)]:
        declared = (getattr(driver, function).__doc__ or "").strip().splitlines()[0]
        given = 1 + re.sub(r"\(.*?\)", "", arguments.partition("))")[0]).count(",")
        assert declared.count(",") + 1 == given, (declared, arguments)
