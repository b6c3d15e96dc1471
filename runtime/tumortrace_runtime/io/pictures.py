"""Pictures of scans whose own format has none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from tumortrace_runtime.algorithm import Algorithm
from tumortrace_runtime.files import write_bytes
from tumortrace_runtime.io.scan import Scan
from tumortrace_runtime.png import encode_png

OVERLAY = "overlay.png"


def write_overlay(
    scan: Scan, picture: npt.NDArray[np.uint8], folder: Path, algorithm: Algorithm | None = None
) -> list[Path]:
    """Write a picture, (rows, columns, 3) uint8 RGB, as `overlay.png`, which says nothing of scan or algorithm.

    Raises:
        OutputError: it could not be written; nothing is left behind.
    """
    write_bytes(folder / OVERLAY, encode_png(picture))
    return [folder / OVERLAY]
