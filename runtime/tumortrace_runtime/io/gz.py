"""gzip (RFC 1952) and zlib (RFC 1950) through the fastest library there is: isal, zlib-ng, or Python's own."""

from __future__ import annotations

import importlib
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

GZIP = ("isal.igzip", "zlib_ng.gzip_ng", "gzip")
"""Modules that offer what Python's `gzip` does; the first that is there is used. With the extra `fast`, isal is."""

ZLIB = ("isal.isal_zlib", "zlib_ng.zlib_ng", "zlib")
"""Modules that offer what Python's `zlib` does, likewise."""

_FAST = 1
"""The level: a mask or a picture becomes little smaller with the next ones, and takes several times as long."""


def open_file(path: Path) -> BinaryIO:
    """A gzip file, to be read as what it holds.

    Reading a damaged one raises errors of many kinds, as the libraries have them; the checksum stands at its end.
    """
    stream: BinaryIO = _first(GZIP).open(path)
    return stream


def compress(content: bytes) -> bytes:
    """`content` as a gzip file; equal contents give equal files, for the same library."""
    compressed: bytes = _first(GZIP).compress(content, _FAST, mtime=0)
    return compressed


def compress_zlib(content: bytes | memoryview) -> bytes:
    """`content` as a zlib stream, as PNG holds it."""
    compressed: bytes = _first(ZLIB).compress(content, _FAST)
    return compressed


def _first(modules: tuple[str, ...]) -> Any:
    for name in modules[:-1]:
        with suppress(ImportError):
            return importlib.import_module(name)
    return importlib.import_module(modules[-1])
