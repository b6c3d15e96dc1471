"""What a machine was and ran while it was measured."""

from __future__ import annotations

import platform
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


def describe_environment(root: Path = Path("/")) -> dict[str, Any]:
    """Machine, clocks and versions, as JSON values; `root` is where /proc, /sys and /etc are found.

    `clocks_mhz` has the highest that the processor may reach, by its governor; on a Jetson `nvpmodel` is the power mode
    and `temperatures_c` what its sensors say. What Linux does not tell is left out.
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
        "temperatures_c": _temperatures(root),
    }
    return found | {name: value for name, value in told.items() if value}


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
