"""What a machine was and ran while it was measured."""

from __future__ import annotations

import platform
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tumortrace_runtime.machine import inspect_machine
from tumortrace_runtime.version import __version__, installed_version

_PACKAGES = {
    "numpy": "numpy",
    "openvino": "openvino",
    "onnxruntime": "onnxruntime",
    "tensorrt": "tensorrt",
    "torch": "torch",
    "monai": "monai",
    "model_api": "openvino-model-api",
}
"""Import name to distribution."""

_NVIDIA = ("name", "clocks.current.sm", "clocks.max.sm", "temperature.gpu", "power.limit")
"""What `nvidia-smi` is asked for; MHz, degrees Celsius and watts."""


def describe_environment(root: Path = Path("/")) -> dict[str, Any]:
    """Machine, clocks and versions, as JSON values; `root` is where /proc, /sys and /etc are found.

    `clock_mhz` is the highest that the processor may reach, by its governor; on a Jetson `nvpmodel` is the power mode;
    `temperatures_c` is what sensors say, `nvidia` what the driver's `nvidia-smi` says of each GPU. What nothing tells
    is left out.
    """
    found = asdict(inspect_machine(root)) | {
        "kernel": platform.release(),
        "python": platform.python_version(),
        "tumortrace": __version__,
        "packages": {
            distribution: version
            for module, distribution in _PACKAGES.items()
            if (version := installed_version(module, distribution))
        },
    }
    told = {
        "governor": _text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "clock_mhz": _thousandth(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq"),
        "nvpmodel": _text(root / "var/lib/nvpmodel/status"),
        "gpu_clock_mhz": _devfreq(root),
        "temperatures_c": _temperatures(root),
        "nvidia": _nvidia(),
    }
    return found | {name: value for name, value in told.items() if value}


def _devfreq(root: Path) -> dict[str, float]:
    """The clocks that a Jetson's GPU may reach, by the device's name, in MHz."""
    found = {
        path.name: _thousandth(path / "max_freq") / 1000 for path in sorted((root / "sys/class/devfreq").glob("*"))
    }
    return {name: clock for name, clock in found.items() if clock}


def _nvidia() -> list[dict[str, str]]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, f"--query-gpu={','.join(_NVIDIA)}", "--format=csv,noheader,nounits"]
    told = subprocess.run(command, check=False, capture_output=True, text=True)
    lines = told.stdout.splitlines() if told.returncode == 0 else []
    return [dict(zip(_NVIDIA, line.split(", "), strict=False)) for line in lines]


def _temperatures(root: Path) -> dict[str, float]:
    """By the sensor's name, in degrees Celsius."""
    zones = sorted((root / "sys/class/thermal").glob("thermal_zone*"))
    found = {_text(zone / "type"): _thousandth(zone / "temp") for zone in zones}
    return {name: degrees for name, degrees in found.items() if name and degrees}


def _thousandth(path: Path) -> float:
    try:
        return int(_text(path)) / 1000
    except ValueError:
        return 0.0


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
