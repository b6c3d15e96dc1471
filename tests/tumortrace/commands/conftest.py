from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tumortrace.cli import main


@dataclass(frozen=True)
class Ended:
    """How a program ended: its exit code and what it said."""

    code: int
    out: str
    err: str


@pytest.fixture
def tumortrace(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run `tumortrace` with arguments through its entry point, in this process."""

    def call(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["tumortrace", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return Ended(int(ended.value.code or 0), said.out, said.err)

    return call
