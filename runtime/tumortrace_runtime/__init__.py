"""From a bundle and a scan to a mask and its lesions, without PyTorch.

with Segmenter("lgg.bundle", backend="openvino", device="CPU", precision="int8") as segmenter:
    result = segmenter.segment(volume)  # (slices, rows, columns, channels), any real dtype
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, cast

from tumortrace_runtime.version import __version__

if TYPE_CHECKING:
    from tumortrace_runtime.result import Result
    from tumortrace_runtime.segmenter import Segmenter

# OpenVINO tells its makers of every import and conversion over the network, by processes that it forks beside its
# threads, which may hang. Nothing that runs beside a scanner calls home: to OpenVINO that package is not installed.
sys.modules.setdefault("openvino_telemetry", cast(Any, None))

__all__ = ["Result", "Segmenter", "__version__"]


def __getattr__(name: str) -> Any:
    """Load the segmenter, and with it numpy and the native core, only when it is used."""
    if name not in ("Result", "Segmenter"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tumortrace_runtime import segmenter

    return getattr(segmenter, name)
