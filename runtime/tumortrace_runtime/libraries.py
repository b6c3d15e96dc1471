"""Libraries that extras bring, and what is said of one that is missing."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from tumortrace_runtime.errors import InputError

# Import name: distribution, extra.
_LIBRARIES = {
    "cryptography": ("cryptography", "sign"),
    "cv2": ("opencv-python-headless", "train"),
    "highdicom": ("highdicom", "dicom"),
    "isal": ("isal", "fast"),
    "lightning_fabric": ("lightning-fabric", "train"),
    "matplotlib": ("matplotlib", "train"),
    "nibabel": ("nibabel", "nifti"),
    "onnx": ("onnx", "export"),
    "onnxruntime": ("onnxruntime", "onnxruntime"),
    "onnxscript": ("onnxscript", "export"),
    "openvino": ("openvino", "openvino"),
    "optuna": ("optuna", "tune"),
    "PIL": ("pillow", "images"),
    "pydicom": ("pydicom", "dicom"),
    "safetensors": ("safetensors", "train"),
    "scipy": ("scipy", "metrics"),
    "surface_distance": ("surface-distance", "metrics"),
    "torch": ("torch", "train"),
}


def import_library(name: str) -> Any:
    """The module `name` of a library that an extra brings, such as "PIL.Image".

    Raises:
        InputError: the library is not installed, or broken.
    """
    try:
        module: ModuleType = importlib.import_module(name)
    except ImportError as problem:
        raise InputError(missing_library(problem, name)) from problem
    return module


def missing_library(problem: ImportError, name: str, extra: str | None = None) -> str:
    """What is said of a library that cannot be imported, with the command that installs it.

    Args:
        problem: what importing it raised.
        name: import name of the library, or of a module in it.
        extra: the extra to name in place of the one that brings it.
    """
    library = name.partition(".")[0]
    absent = isinstance(problem, ModuleNotFoundError) and (problem.name or "").partition(".")[0] == library
    state = "is not installed" if absent else f"cannot be imported ({problem})"
    return f"{distribution(library)} {state}: {install_command(library, extra)}"


def is_optional(library: str) -> bool:
    """Whether an extra brings the library of this import name; only then do the other functions know it."""
    return library in _LIBRARIES


def distribution(library: str) -> str:
    """The name under which the library of this import name is installed."""
    return _LIBRARIES[library][0]


def install_command(library: str, extra: str | None = None) -> str:
    """The command that installs the library of this import name, by its own extra or by another one."""
    return f"pip install 'tumortrace[{extra or _LIBRARIES[library][1]}]'"
