"""What is malformed or hostile is refused: with a typed error that names it, nothing left behind, and little taken."""

from __future__ import annotations

import os
import resource
import signal
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tumortrace_runtime.errors import InputError

from . import bundles, checkpoints, dicom, images, nifti
from .kinds import Kind, Subject

SUBJECTS: Mapping[str, Subject] = {
    "dicom": dicom.SUBJECT,
    "nifti": nifti.SUBJECT,
    "images": images.SUBJECT,
    "bundles": bundles.FOLDER_SUBJECT,
    "archives": bundles.ARCHIVE_SUBJECT,
    "checkpoints": checkpoints.SUBJECT,
}
ALL = [(subject, name) for subject in SUBJECTS for name in SUBJECTS[subject].kinds]
KINDS_WANTED = 60
MOST_MEMORY = 1 << 30
MOST_SECONDS = 60
LONGEST_MESSAGE = 1200

Program = Callable[..., Any]


@contextmanager
def bounded() -> Iterator[None]:
    """A gigabyte more than there is now, and a minute."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limits = resource.getrlimit(resource.RLIMIT_AS)

    def stop(number: int, frame: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MOST_MEMORY, limits[1]))
    signal.alarm(MOST_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.signal(signal.SIGALRM, before)


def made_hostile(subject: str, name: str, root: Path) -> tuple[Path, Kind]:
    kind = SUBJECTS[subject].kinds[name]
    root.mkdir(parents=True)
    path = SUBJECTS[subject].make(kind.of, root)
    kind.harm(path)
    return path, kind


def check_message(said: str, path: Path, kind: Kind) -> None:
    assert kind.said in said
    assert str(path if kind.names == "file" else path.parent) in said
    assert len(said) <= LONGEST_MESSAGE
    assert len(said.splitlines()) <= 2
    assert all(line.isprintable() for line in said.split("\n"))


def test_there_are_many_kinds(tmp_path: Path) -> None:
    left = {_left_by(subject, name, tmp_path / str(number)) for number, (subject, name) in enumerate(ALL)}
    assert len(left) == len(ALL) >= KINDS_WANTED


def _left_by(subject: str, name: str, root: Path) -> tuple[object, ...]:
    """What a kind leaves in its folder, which is another thing for each."""
    made_hostile(subject, name, root)
    return (subject, *((path.relative_to(root), _content(path)) for path in sorted(root.rglob("*"))))


def _content(path: Path) -> object:
    kind = path.lstat().st_mode
    if stat.S_ISLNK(kind):
        return path.readlink()
    return path.read_bytes() if stat.S_ISREG(kind) else stat.S_IFMT(kind)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_what_is_not_harmed_is_read(subject: str, tmp_path: Path) -> None:
    unread = {("dicom", "deflated"), ("dicom", "directory")}
    for name in sorted({kind.of for kind in SUBJECTS[subject].kinds.values()}):
        root = tmp_path / f"good {name}"
        root.mkdir()
        SUBJECTS[subject].make(name, root)
        if (subject, name) not in unread:
            SUBJECTS[subject].read(root)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("subject", "name"), ALL, ids=[f"{subject}: {name}" for subject, name in ALL])
def test_each_kind_is_refused_and_named_and_leaves_nothing(subject: str, name: str, tmp_path: Path) -> None:
    root = tmp_path / "input"
    path, kind = made_hostile(subject, name, root)
    before = sorted(tmp_path.rglob("*"))
    with bounded(), pytest.raises(InputError) as caught:
        SUBJECTS[subject].read(root)
    check_message(str(caught.value), path, kind)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("subject", "options"),
    [
        ("dicom", [f"--channel={channel}={dicom.CONDITION}" for channel in dicom.CHANNELS]),
        ("nifti", ["--layout=nifti"]),
        ("images", ["--layout=lgg"]),
    ],
)
def test_scans_of_every_kind_are_refused_in_one_run(
    subject: str, options: list[str], tumortrace: Program, tiny_bundle: Path, tmp_path: Path
) -> None:
    roots = [tmp_path / f"scan {number}" for number in range(len(SUBJECTS[subject].kinds))]
    for name, root in zip(SUBJECTS[subject].kinds, roots, strict=True):
        made_hostile(subject, name, root)
    ended = tumortrace("segment", tiny_bundle, *roots, "-o", tmp_path / "out", *options)
    assert ended.code == 2
    assert (ended.out, "Traceback" in ended.err) == ("", False)
    assert [root for root in roots if str(root) not in ended.err] == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("subject", ["bundles", "archives", "checkpoints"])
def test_models_of_every_kind_are_refused(subject: str, tumortrace: Program, tiny_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    data = ("--data", tiny_data / "index.json", "--split", tiny_data / "split.json", "--part", "val")
    for number, name in enumerate(SUBJECTS[subject].kinds):
        root = tmp_path / str(number)
        path, _ = made_hostile(subject, name, root)
        ended = {
            "bundles": lambda root=root: tumortrace("verify", root),
            "archives": lambda path=path: tumortrace("unpack", path, "-o", out),
            "checkpoints": lambda root=root: tumortrace("evaluate", root, *data, "-o", out),
        }[subject]()
        assert (ended.code, ended.out) == (2, ""), name
        assert ended.err.startswith(f"Error: {root}"), name
        assert not out.exists()


@pytest.mark.parametrize("name", [b"case\xff", b"case\x1b[2J", b"case\n1"])
def test_a_case_whose_name_is_no_text_is_refused(
    name: bytes, tumortrace: Program, tiny_bundle: Path, tmp_path: Path
) -> None:
    root = tmp_path / "cases" / os.fsdecode(name)
    root.mkdir(parents=True)
    nifti.make("plain", root)
    ended = tumortrace("segment", tiny_bundle, root.parent, "-o", tmp_path / "out")
    assert ended.code == 2
    assert "is not UTF-8, or has control characters; rename it" in ended.err
    assert "\x1b" not in ended.err
    assert not (tmp_path / "out").exists()
    ended = tumortrace("prepare", root.parent, "-o", tmp_path / "index.json")
    assert (ended.code, "Traceback" in ended.err) == (2, False)
