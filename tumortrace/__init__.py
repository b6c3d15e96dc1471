"""TumorTrace's training core: index, splits, data sets, phantoms, model, training, evaluation."""

from __future__ import annotations

from tumortrace_runtime.version import __version__

__all__ = ["__version__"]
