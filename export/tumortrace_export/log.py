"""The log of an export, kept beside the bundle: also where the bundle was refused, for then it says why."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from tumortrace_runtime.errors import AccuracyError
from tumortrace_runtime.files import write_bytes


class Report(Protocol):
    """Takes lines for the log, which the user sees too where `shown`."""

    def __call__(self, line: str, *, shown: bool = True) -> None:
        """Take a line, or several in one."""
        ...


@contextmanager
def keep_log(out: Path, show: Callable[[str], None] | None) -> Iterator[Report]:
    """Yield what takes lines; they are written when the export is done, or refused for its accuracy.

    Args:
        out: the bundle, `NAME.bundle`; the log is `NAME.export.log` beside it, and replaces an earlier one.
        show: shows a line to the user; None to show none.
    """
    started = time.monotonic()
    lines: list[str] = []

    def report(line: str, *, shown: bool = True) -> None:
        elapsed = f"{time.monotonic() - started:8.1f} s  "
        lines.extend(f"{elapsed}{part}".rstrip() for part in line.splitlines())
        if shown and show is not None:
            show(line)

    path = out.with_name(f"{out.name.removesuffix('.bundle')}.export.log")
    try:
        yield report
    except AccuracyError as problem:
        report(f"Error: {problem}", shown=False)
        _write(path, lines)
        raise
    _write(path, lines)


def _write(path: Path, lines: list[str]) -> None:
    write_bytes(path, "".join(f"{line}\n" for line in lines).encode())
