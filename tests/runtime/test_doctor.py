from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tumortrace_runtime.bundle import MANIFEST, SEAL, open_bundle
from tumortrace_runtime.doctor import Engine, advise, diagnose, inspect_engine, warn
from tumortrace_runtime.errors import BundleError
from tumortrace_runtime.files import sha256_file, write_json
from tumortrace_runtime.golden import REQUIRED_DICE, load_golden, save_golden
from tumortrace_runtime.machine import Cpu, Machine, inspect_machine

_ORIN = "NVIDIA Jetson Orin Nano Developer Kit"
_CPU = Cpu("a CPU", "x86_64", 2, ("avx2", "avx512_vnni"))
_PLAIN = Machine(_CPU, None, intel_gpu=False, intel_npu=False, nvidia_driver="", cuda="", jetson="")
_OPENVINO = Engine("openvino", "2026.4", ("CPU",))
_ONNXRUNTIME = Engine("onnxruntime", "1.32", ("CPUExecutionProvider",))
_TENSORRT = Engine("tensorrt", problem="not installed")
_LIBRARIES = {"nibabel": "5", "isal": "1", "pillow": "12", "surface-distance": "0.1", "torch": "2"}


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def installs(machine: Machine = _PLAIN, engines: tuple[Engine, ...] = (), **libraries: str) -> dict[str, str]:
    given = {engine.name: engine for engine in (_OPENVINO, _ONNXRUNTIME, _TENSORRT, *engines)}
    found = advise(machine, tuple(given.values()), _LIBRARIES | libraries)
    return {item.missing: item.install for item in found}


def test_an_intel_box_is_recognised(tmp_path: Path) -> None:
    write(tmp_path / "proc/cpuinfo", "processor\t: 0\nmodel name\t: Intel(R) Core(TM) Ultra 7 155H\n")
    write(tmp_path / "proc/meminfo", "MemTotal:       32000000 kB\nMemFree: 1 kB\n")
    write(tmp_path / "sys/class/drm/renderD128/device/vendor", "0x8086\n")
    write(tmp_path / "sys/class/accel/accel0/device/vendor", "0x8086\n")
    machine = inspect_machine(tmp_path)
    assert machine.cpu.model == "Intel(R) Core(TM) Ultra 7 155H"
    assert machine.memory_bytes == 32_000_000 * 1024
    assert (machine.intel_gpu, machine.intel_npu, machine.jetson, machine.nvidia_driver) == (True, True, "", "")


def test_a_jetson_is_recognised(tmp_path: Path) -> None:
    write(tmp_path / "proc/device-tree/model", f"{_ORIN}\0")
    write(tmp_path / "etc/nv_tegra_release", "# R36 (release), REVISION: 4.0\n")
    machine = inspect_machine(tmp_path)
    assert (machine.jetson, machine.cpu.model) == (_ORIN, _ORIN)


@pytest.mark.parametrize(
    "line",
    [
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.15  Release Build  (dvs-builder)",
    ],
)
def test_the_nvidia_driver_is_recognised(tmp_path: Path, line: str) -> None:
    write(tmp_path / "proc/driver/nvidia/version", f"{line}\nGCC version: gcc 12.2.0\n")
    assert inspect_machine(tmp_path).nvidia_driver == "550.54.15"


def test_another_vendors_gpu_is_not_intels(tmp_path: Path) -> None:
    write(tmp_path / "sys/class/drm/renderD128/device/vendor", "0x1002\n")
    machine = inspect_machine(tmp_path)
    assert not machine.intel_gpu
    assert machine.memory_bytes is None


@pytest.mark.parametrize(
    ("features", "fast"),
    [(("avx2",), False), (("avx2", "avx_vnni"), True), (("asimdhp",), False), (("asimdhp", "asimddp"), True)],
)
def test_int8_dot_product(features: tuple[str, ...], fast: bool) -> None:
    cpu = replace(_CPU, features=features)
    assert cpu.int8_dot_product == fast
    assert bool(list(warn(cpu))) != fast


def test_saturation_is_a_warning_on_x86_alone() -> None:
    (x86,) = warn(replace(_CPU, features=("avx2",)))
    (arm,) = warn(replace(_CPU, architecture="aarch64", features=()))
    assert "saturate" in x86
    assert "saturate" not in arm


def test_nothing_is_advised_where_nothing_is_missing() -> None:
    assert installs() == {}


def test_each_missing_package_comes_with_its_extra() -> None:
    missing = installs(engines=(Engine("openvino"), Engine("onnxruntime")), nibabel="", pillow="", torch="")
    assert missing == {
        "openvino": "pip install 'tumortrace[openvino]'",
        "onnxruntime": "pip install 'tumortrace[onnxruntime]'",
        "nibabel": "pip install 'tumortrace[nifti]'",
        "pillow": "pip install 'tumortrace[images]'",
        "torch": "pip install 'tumortrace[train]'",
    }


def test_intel_hardware_that_openvino_does_not_see_wants_a_driver() -> None:
    machine = replace(_PLAIN, intel_gpu=True, intel_npu=True)
    assert set(installs(machine)) == {"Intel's OpenCL driver", "Intel's NPU driver"}
    seen = replace(_OPENVINO, devices=("CPU", "GPU.0", "NPU"))
    assert installs(machine, engines=(seen,)) == {}


def test_tensorrt_comes_from_apt_on_a_jetson_and_from_nvidia_elsewhere() -> None:
    assert installs(replace(_PLAIN, jetson=_ORIN, cuda="12.6"))["tensorrt"].startswith("sudo apt-get install ")
    assert installs(replace(_PLAIN, cuda="13.0"))["tensorrt"].endswith(" tensorrt-cu13")


def test_tensorrt_wants_a_python_library_for_cuda_too() -> None:
    machine, found = replace(_PLAIN, cuda="12.6", jetson=_ORIN), Engine("tensorrt", "10.3.0", ("0",))
    assert installs(machine, engines=(found,))["CUDA for Python"].startswith("pip install 'cuda-bindings==12.*'")
    assert installs(machine, engines=(found,), **{"CUDA for Python": "pycuda 2026.1"}) == {}


def test_a_cuda_provider_is_advised_for_an_nvidia_gpu() -> None:
    machine = replace(_PLAIN, cuda="12.4")
    assert "onnxruntime-gpu" in installs(machine)
    seen = replace(_ONNXRUNTIME, devices=("CUDAExecutionProvider", "CPUExecutionProvider"))
    assert "onnxruntime-gpu" not in installs(machine, engines=(seen,))


@pytest.mark.parametrize(("name", "device"), [("openvino", "CPU"), ("onnxruntime", "CPUExecutionProvider")])
def test_installed_engines_are_found(name: str, device: str) -> None:
    engine = inspect_engine(name)
    assert device in engine.devices
    assert (engine.version[0].isdigit(), engine.problem) == (True, "")


def test_a_missing_engine_says_what_installs_it() -> None:
    code = """
import sys; sys.modules["openvino"] = None
from tumortrace_runtime.doctor import inspect_engine
engine = inspect_engine("openvino")
assert engine.version == "" and engine.devices == (), engine
assert "pip install 'tumortrace[openvino]'" in engine.problem, engine
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_command_prints_for_people_and_for_machines() -> None:
    start = [sys.executable, "-c", "from tumortrace.cli import main; main()", "doctor"]
    text, printed = (
        subprocess.run([*start, *more], capture_output=True, check=True).stdout for more in ([], ["--json"])
    )
    assert b"INT8 dot product" in text
    found = json.loads(printed)
    assert {engine["name"] for engine in found["engines"]} == {"openvino", "onnxruntime", "tensorrt"}
    assert found["machine"]["cpu"]["threads"] >= 1
    assert found["trials"] == []


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is no bundle"):
        diagnose(tmp_path)


def test_every_model_of_a_bundle_is_tried(tiny_bundle: Path) -> None:
    diagnosis = diagnose(tiny_bundle)
    trials = {(trial.backend, trial.precision): trial for trial in diagnosis.trials}
    assert diagnosis.bundle == "tiny"
    assert set(trials) == set(open_bundle(tiny_bundle).choices())
    for choice in (("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "int8")):
        assert (trials[choice].executed_precision, trials[choice].problem) == (choice[1], "")
        assert (trials[choice].golden_dice or 0.0) >= REQUIRED_DICE
        assert {layer.precision for layer in trials[choice].layers} == {choice[1]}


def test_a_model_that_computes_something_else_is_not_recommended(tiny_bundle: Path, tmp_path: Path) -> None:
    altered = tmp_path / "altered.bundle"
    shutil.copytree(tiny_bundle, altered)
    golden = sorted((altered / "golden").glob("*.npz"))[0]
    case = load_golden(golden)
    save_golden(golden, replace(case, masks={name: 1 - mask for name, mask in case.masks.items()}))
    manifest = json.loads((altered / MANIFEST).read_bytes())
    manifest["files"][golden.relative_to(altered).as_posix()]["sha256"] = sha256_file(golden)
    write_json(altered / MANIFEST, manifest)
    (altered / SEAL).write_text(f"{sha256_file(altered / MANIFEST)}  {MANIFEST}\n")
    trials = diagnose(altered).trials
    tested = [trial for trial in trials if trial.backend != "tensorrt"]  # which an export does not run
    assert len(tested) >= 8
    assert all("self-test failed" in trial.problem and not trial.executed_precision for trial in tested)
    assert not any(trial.layers for trial in tested)
