"""Lossless JPEG as a plugin of pydicom's, decoded by the native core.

It is the commonest compression in archives. pydicom's own plugins for it are under the GPL, or end the process on a
damaged frame.
"""

from __future__ import annotations

from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from tumortrace_runtime import _native

PLUGIN = "tumortrace"
SYNTAXES = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
"""Transfer syntaxes: JPEG Lossless, with any predictor and with the first."""

DECODER_DEPENDENCIES: dict[str, tuple[str, ...]] = {syntax: () for syntax in SYNTAXES}
"""What pydicom asks a plugin for."""

_ADDING = Lock()


def is_available(uid: str) -> bool:
    """Whether the plugin can decode a transfer syntax, as pydicom asks."""
    return uid in SYNTAXES


def decode_frame(src: bytes, runner: Any) -> bytearray:
    """Decode a frame, as pydicom asks: `runner` is its `DecodeRunner`.

    Raises:
        ValueError: the frame is damaged, or not what the header says.
    """
    samples: npt.NDArray[np.uint16] = np.empty((runner.rows, runner.columns), np.uint16)
    _native.decode_lossless_jpeg(src, samples)
    if runner.bits_allocated == 8:
        return bytearray(samples.astype(np.uint8))
    runner.set_option("bits_allocated", 16)
    return bytearray(samples)


def add_to(decoder: Any) -> None:
    """Make a decoder of pydicom's know the plugin, if it can use it."""
    with _ADDING:
        if decoder.UID in SYNTAXES and PLUGIN not in decoder.available_plugins:
            decoder.add_plugin(PLUGIN, (__name__, decode_frame.__name__))
