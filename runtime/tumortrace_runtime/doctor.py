"""What this machine can run, what is missing, and the command that installs it."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tumortrace_runtime.backends import BACKENDS, devices
from tumortrace_runtime.backends.backend import Layer
from tumortrace_runtime.bundle import Bundle, open_bundle
from tumortrace_runtime.errors import TumorTraceError
from tumortrace_runtime.golden import self_test
from tumortrace_runtime.libraries import distribution, install_command
from tumortrace_runtime.machine import Cpu, Machine, inspect_machine
from tumortrace_runtime.segmenter import Segmenter
from tumortrace_runtime.version import installed_version

# Import name: what it serves.
_LIBRARIES = {
    "nibabel": "NIfTI scans",
    "isal": "faster .nii.gz; Python's own gzip serves too",
    "PIL": "image scans",
    "surface_distance": "HD95 and surface Dice",
    "torch": "training and export; segmenting does not need it",
}

# The TensorRT backend needs one of these distributions; before 12.8 cuda-python was one by itself.
_CUDA_LIBRARIES = ("pycuda", "cuda-bindings", "cuda-python")
_CUDA = "CUDA for Python"


@dataclass(frozen=True)
class Engine:
    """A library that runs models.

    Attributes:
        name: its import name.
        version: "" when it is missing or broken.
        devices: where it can run, by its own names.
        problem: why it cannot be used, or "".
    """

    name: str
    version: str = ""
    devices: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Advice:
    """Something that is missing.

    Attributes:
        missing: what.
        serves: what cannot be done without it.
        install: the command that brings it, or where it is found.
    """

    missing: str
    serves: str
    install: str


@dataclass(frozen=True)
class Trial:
    """A model of a bundle, tried on this machine with the bundle's golden inputs.

    Attributes:
        backend: the engine.
        precision: what was asked for.
        executed_precision: what most multiply-accumulates ran in, or "" when it cannot be used.
        golden_dice: the lowest Dice against a golden mask, or None when it cannot be used or the bundle has none.
        problem: why it cannot be used, or "".
        layers: what multiplies and accumulates, and what each of it ran in; none when it cannot be used.
    """

    backend: str
    precision: str
    executed_precision: str = ""
    golden_dice: float | None = None
    problem: str = ""
    layers: tuple[Layer, ...] = ()


@dataclass(frozen=True)
class Diagnosis:
    """All that `doctor` found.

    Attributes:
        machine: the hardware.
        engines: those that TumorTrace runs models with.
        libraries: version of each optional library, "" for a missing one.
        advice: what to install, and for what.
        warnings: what to know before trusting a result of this machine.
        bundle: name of the bundle, or None when none was given.
        trials: every model of the bundle.
    """

    machine: Machine
    engines: tuple[Engine, ...]
    libraries: Mapping[str, str]
    advice: tuple[Advice, ...]
    warnings: tuple[str, ...]
    bundle: str | None = None
    trials: tuple[Trial, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values."""
        values = asdict(self)
        values["machine"]["cpu"]["int8_dot_product"] = self.machine.cpu.int8_dot_product
        return values


def diagnose(bundle: Path | None = None, public_key: Path | None = None) -> Diagnosis:
    """Inspect this machine and, where a bundle is given, try each of its models on the engine's default device.

    Args:
        bundle: the bundle's folder.
        public_key: PEM file of the Ed25519 key that must have signed it; None asks for no signature.

    Raises:
        BundleError: the bundle does not hold, or is not signed as asked.
        InputError: the key cannot be used.
    """
    opened = None if bundle is None else open_bundle(bundle, public_key=public_key)
    machine = inspect_machine()
    engines = tuple(inspect_engine(name) for name in sorted(BACKENDS))
    libraries = {distribution(name): installed_version(name, distribution(name)) for name in _LIBRARIES}
    if machine.cuda:
        libraries[_CUDA] = next(_cuda_libraries(), "")
    return Diagnosis(
        machine=machine,
        engines=engines,
        libraries=libraries,
        advice=tuple(advise(machine, engines, libraries)),
        warnings=tuple(warn(machine.cpu)),
        bundle=None if opened is None else opened.name,
        trials=() if opened is None else tuple(_trials(opened)),
    )


def inspect_engine(name: str) -> Engine:
    """The engine of a backend: its version and devices, or why it cannot be used."""
    try:
        found = tuple(devices(name))
    except TumorTraceError as problem:
        return Engine(name, problem=str(problem))
    return Engine(name, str(importlib.import_module(name).__version__).partition("-")[0], found)


def advise(machine: Machine, engines: tuple[Engine, ...], libraries: Mapping[str, str]) -> Iterator[Advice]:
    """What is missing on `machine`, given what is installed."""
    for engine in engines:
        if engine.name != "tensorrt" and not engine.version:
            yield Advice(engine.name, f"the {engine.name} backend", install_command(engine.name))
    for name, serves in _LIBRARIES.items():
        if not libraries.get(distribution(name)):
            yield Advice(distribution(name), serves, install_command(name))
    found = {engine.name: engine for engine in engines}
    yield from _advise_intel(machine, found["openvino"])
    yield from _advise_nvidia(machine, found["onnxruntime"], found["tensorrt"])
    if found["tensorrt"].version and not libraries.get(_CUDA):
        major = machine.cuda.partition(".")[0]
        yield Advice(_CUDA, "the tensorrt backend", f"pip install 'cuda-bindings=={major}.*' (PyCUDA serves too)")


def _advise_intel(machine: Machine, openvino: Engine) -> Iterator[Advice]:
    if not openvino.version:
        return
    if machine.intel_gpu and not any(device.startswith("GPU") for device in openvino.devices):
        yield Advice("Intel's OpenCL driver", "OpenVINO's GPU", "sudo apt-get install intel-opencl-icd")
    if machine.intel_npu and not any(device.startswith("NPU") for device in openvino.devices):
        yield Advice("Intel's NPU driver", "OpenVINO's NPU", "see https://github.com/intel/linux-npu-driver/releases")


def _advise_nvidia(machine: Machine, onnxruntime: Engine, tensorrt: Engine) -> Iterator[Advice]:
    if machine.cuda and not tensorrt.version:
        yield Advice("tensorrt", "the tensorrt backend", _tensorrt_command(machine))
    no_cuda_provider = onnxruntime.version and "CUDAExecutionProvider" not in onnxruntime.devices
    if machine.cuda and not machine.jetson and no_cuda_provider:
        serves = "ONNX Runtime's CUDAExecutionProvider on this NVIDIA GPU"
        yield Advice("onnxruntime-gpu", serves, "pip uninstall onnxruntime && pip install onnxruntime-gpu")


def warn(cpu: Cpu) -> Iterator[str]:
    """What to know before INT8 is run on `cpu`."""
    if cpu.int8_dot_product:
        return
    if cpu.architecture == "x86_64":
        yield (
            "this CPU has no INT8 dot product (VNNI): its INT8 sums saturate with weights of 8 bits. Asked for int8, "
            "TumorTrace runs a bundle's int8-7bit here, which cannot saturate, or refuses."
        )
    else:
        yield "this CPU has no INT8 dot product: an INT8 model is hardly faster here than fp32."


def _tensorrt_command(machine: Machine) -> str:
    if machine.jetson:
        return "sudo apt-get install tensorrt python3-libnvinfer"
    package = f"tensorrt-cu{machine.cuda.partition('.')[0]}"
    return f"pip install --extra-index-url https://pypi.nvidia.com {package}"


def _cuda_libraries() -> Iterator[str]:
    """Name and version of what is installed."""
    for name in _CUDA_LIBRARIES:
        with suppress(importlib.metadata.PackageNotFoundError):
            yield f"{name} {importlib.metadata.version(name)}"


def _trials(bundle: Bundle) -> Iterator[Trial]:
    for backend, precision in bundle.choices():
        try:
            with Segmenter(bundle, backend=backend, precision=precision) as segmenter:
                scores = self_test(segmenter)
                executed, layers = segmenter.backend.executed_precision, tuple(segmenter.backend.layers)
            yield Trial(backend, precision, executed, min(scores.values(), default=None), layers=layers)
        except TumorTraceError as problem:
            yield Trial(backend, precision, problem=str(problem))
