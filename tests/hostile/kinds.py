"""How the tables of hostile input are written: what each kind does to a good file, and what is said of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Harm = Callable[[Path], object]


@dataclass(frozen=True)
class Kind:
    """One kind of hostile input.

    Attributes:
        of: the good file that it is made of, by its name among those of its subject.
        harm: makes the file at a path hostile.
        said: what the refusal says of it.
        names: whether the refusal names the file, or the folder that it is in.
    """

    of: str
    harm: Harm
    said: str
    names: Literal["file", "folder"] = "file"


@dataclass(frozen=True)
class Subject:
    """A sort of input and the kinds of it that are hostile.

    Attributes:
        make: writes the good input of a name into a new folder; the path of the file that kinds harm.
        read: reads the input in a folder.
        kinds: by name.
    """

    make: Callable[[str, Path], Path]
    read: Callable[[Path], object]
    kinds: Mapping[str, Kind]


def rewritten(change: Callable[[bytes], bytes]) -> Harm:
    """Changes a file's bytes."""
    return lambda path: path.write_bytes(change(path.read_bytes()))


def replaced_by(content: bytes) -> Harm:
    """Puts another file in its place."""
    return rewritten(lambda _: content)


def cut(kept: float) -> Harm:
    """Keeps the first bytes: so many, all but so many, or such a share of them."""
    return rewritten(lambda content: content[: int(kept * len(content)) if isinstance(kept, float) else kept])


def put(place: int, content: bytes) -> Harm:
    """Overwrites bytes at a place."""
    return rewritten(lambda old: old[:place] + content + old[place + len(content) :])


def swapped(old: bytes, new: bytes) -> Harm:
    """Puts bytes in the place of others, which must be there."""

    def swap(content: bytes) -> bytes:
        assert old in content
        return content.replace(old, new, 1)

    return rewritten(swap)


def folder(path: Path) -> None:
    """Puts a folder in its place."""
    path.unlink()
    path.mkdir()


def loop(path: Path) -> None:
    """Puts a link to itself in its place."""
    path.unlink()
    path.symlink_to(path.name)


def pipe(path: Path) -> None:
    """Puts a pipe in its place, of which reading never ends."""
    path.unlink()
    os.mkfifo(path)


def endless(path: Path) -> None:
    """Puts a link to a device without an end in its place."""
    path.unlink()
    path.symlink_to("/dev/zero")
