from __future__ import annotations

from pathlib import Path

import pytest

from tumortrace_export.resources import check_room
from tumortrace_runtime.errors import InputError, OutputError

SMALL_NETWORK = 1_000_000
LITTLE_DATA = 10 * 20 * 3 * 256 * 256


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """The root of a machine with 8 GB to be had, and 30 more that are not."""
    return machine_with(tmp_path / "machine", "MemTotal: 38000000 kB\nMemFree: 100000 kB\nMemAvailable: 8000000 kB\n")


def machine_with(root: Path, meminfo: str) -> Path:
    (root / "proc").mkdir(parents=True)
    (root / "proc" / "meminfo").write_text(meminfo)
    return root


def test_an_ordinary_export_has_room(machine: Path, tmp_path: Path) -> None:
    check_room(tmp_path / "not" / "there" / "yet.bundle", SMALL_NETWORK, LITTLE_DATA, root=machine)
    assert not (tmp_path / "not").exists()


@pytest.mark.parametrize(("parameters", "voxels"), [(100_000_000, LITTLE_DATA), (SMALL_NETWORK, 4_000_000_000)])
def test_too_little_memory_is_refused(parameters: int, voxels: int, machine: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"memory: 8,192 MB available, about 1\d,\d{3} MB wanted .*end other programs"):
        check_room(tmp_path / "large.bundle", parameters, voxels, root=machine)


def test_memory_in_use_is_not_counted(tmp_path: Path) -> None:
    busy = machine_with(tmp_path, "MemTotal: 64000000 kB\nMemAvailable: 500000 kB\n")
    with pytest.raises(InputError, match="memory: 512 MB available"):
        check_room(tmp_path / "small.bundle", SMALL_NETWORK, LITTLE_DATA, root=busy)


@pytest.mark.parametrize("meminfo", [None, "MemTotal: 8000 kB\n"], ids=["no file", "an old kernel"])
def test_a_system_that_does_not_tell_its_memory_is_believed_to_have_it(meminfo: str | None, tmp_path: Path) -> None:
    root = tmp_path if meminfo is None else machine_with(tmp_path, meminfo)
    check_room(tmp_path / "large.bundle", SMALL_NETWORK, 10**12, root=root)


def test_too_little_disk_is_refused(machine: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=rf"{tmp_path}: [\d,]+ MB free, about 40,\d{{3}},\d{{3}},\d{{3}} MB wanted"):
        check_room(tmp_path / "huge.bundle", 10**15, 0, root=machine)
