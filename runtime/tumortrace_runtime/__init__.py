"""From a bundle and a scan to a mask and its lesions, without PyTorch.

with Segmenter("lgg.bundle", backend="openvino", device="CPU", precision="int8") as segmenter:
    result = segmenter.segment(volume)  # (slices, rows, columns, channels), any real dtype
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tumortrace_runtime.version import __version__

if TYPE_CHECKING:
    from tumortrace_runtime.segmenter import Result, Segmenter

__all__ = ["Result", "Segmenter", "__version__"]


def __getattr__(name: str) -> Any:
    """Load the segmenter, and with it numpy, OpenCV and the native core, only when it is used."""
    if name not in ("Result", "Segmenter"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tumortrace_runtime import segmenter

    return getattr(segmenter, name)
