"""Versions: of the whole distribution, which pyproject.toml reads from here, and of installed libraries."""

from __future__ import annotations

__version__ = "0.1.0"


def installed_version(module: str, distribution: str) -> str:
    """The version of an installed library without importing it, which takes seconds for some.

    Returns:
        "" where the module is missing; "unknown" where it comes from another distribution, as onnxruntime may.
    """
    import importlib.metadata  # slow to import, and not always needed
    import importlib.util

    if importlib.util.find_spec(module) is None:
        return ""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
