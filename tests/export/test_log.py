from __future__ import annotations

import re
from pathlib import Path

import pytest

from tumortrace_export.log import keep_log
from tumortrace_runtime.errors import AccuracyError, InputError


def lines_of(path: Path) -> list[str]:
    """The log's lines without their times, which every line begins with."""
    lines = path.read_text().splitlines()
    assert all(re.match(r" *\d+\.\d s  ", line) for line in lines)
    return [line.split(" s  ", 1)[1] for line in lines]


def test_lines_are_kept_and_shown_but_for_those_that_the_user_sees_anyway(tmp_path: Path) -> None:
    shown: list[str] = []
    with keep_log(tmp_path / "lgg.bundle", shown.append) as report:
        report("writing")
        report("engine  Dice\n------  ----", shown=False)
        assert not list(tmp_path.iterdir())
    assert lines_of(tmp_path / "lgg.export.log") == ["writing", "engine  Dice", "------  ----"]
    assert shown == ["writing"]


def test_a_bundle_by_another_name_and_a_silent_program(tmp_path: Path) -> None:
    (tmp_path / "lgg-2.export.log").write_text("of an earlier export")
    with keep_log(tmp_path / "lgg-2", None) as report:
        report("writing")
    assert lines_of(tmp_path / "lgg-2.export.log") == ["writing"]


def test_a_refused_bundle_leaves_the_reason(tmp_path: Path) -> None:
    shown: list[str] = []
    with pytest.raises(AccuracyError), keep_log(tmp_path / "lgg.bundle", shown.append) as report:
        report("measuring")
        raise AccuracyError("int8: lost too much. Nothing was written.")
    assert lines_of(tmp_path / "lgg.export.log") == ["measuring", "Error: int8: lost too much. Nothing was written."]
    assert shown == ["measuring"]


@pytest.mark.parametrize("problem", [InputError("wrong input"), KeyboardInterrupt()])
def test_wrong_input_and_an_interruption_leave_the_earlier_log(problem: BaseException, tmp_path: Path) -> None:
    (tmp_path / "lgg.export.log").write_text("of an earlier export")
    with pytest.raises(type(problem)), keep_log(tmp_path / "lgg.bundle", None) as report:
        report("reading")
        raise problem
    assert (tmp_path / "lgg.export.log").read_text() == "of an earlier export"
