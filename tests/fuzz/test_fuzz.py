"""Every fuzzed reader takes good files, and refuses damaged ones with a typed error or not at all.

The same files each time, without a fuzzer; `python tests/fuzz TARGET` looks further.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .targets import TARGETS

MUTATIONS = {"checkpoint": 60}
"""Of each good file; 150 where nothing else is said. Networks take longer to make than files to read."""

NOT_READ = {("dicom", "deflated"), ("dicom", "directory"), ("tiff", "slice"), ("tiff", "lzw")}
"""Refused though not damaged: a compressed header, a DICOMDIR without its files, and slices in place of masks."""


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[Path]:
    """New empty folders."""
    return (folder for number in range(10**6) if not (folder := tmp_path / str(number)).mkdir())


@pytest.mark.parametrize("name", TARGETS)
def test_good_files_are_read(name: str, folders: Iterator[Path]) -> None:
    for seed, content in TARGETS[name].seeds().items():
        refused = TARGETS[name].try_to_read(content, next(folders))
        assert bool(refused) == ((name, seed) in NOT_READ), f"{seed}: {refused}"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files_are_refused_or_read(name: str, folders: Iterator[Path]) -> None:
    target = TARGETS[name]
    damaged = [
        target.mutate(content, number)
        for content in target.seeds().values()
        for number in range(MUTATIONS.get(name, 150))
    ]
    refused = [content for content in damaged if target.try_to_read(content, next(folders))]
    assert len(refused) > len(damaged) / 2


@pytest.mark.parametrize("name", TARGETS)
def test_damage_is_the_same_each_time(name: str) -> None:
    content = next(iter(TARGETS[name].seeds().values()))
    once, again = ([TARGETS[name].mutate(content, number) for number in range(20)] for _ in range(2))
    assert once == again
    assert len(set(once)) > 15
