"""gzip (RFC 1952) through the fastest library that is installed: isal, zlib-ng, or Python's own."""

from __future__ import annotations

import gzip
import importlib
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

LIBRARIES = ("isal.igzip", "zlib_ng.gzip_ng")
"""Modules that offer what Python's `gzip` does, the first that is installed; with the extra `fast`, isal is."""

_FAST = 1


def open_file(path: Path) -> BinaryIO:
    """A gzip file, to be read as what it holds.

    Reading a damaged one raises errors of many kinds, as the libraries have them; the checksum stands at its end.
    """
    stream: BinaryIO = _library().open(path)
    return stream


def compress(content: bytes) -> bytes:
    """`content` as a gzip file; equal contents give equal files, for the same library."""
    compressed: bytes = _library().compress(content, _FAST, mtime=0)
    return compressed


def _library() -> Any:
    for name in LIBRARIES:
        with suppress(ImportError):
            return importlib.import_module(name)
    return gzip
