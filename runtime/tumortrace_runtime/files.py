"""Files written whole or not at all, hashes, and JSON in one canonical form."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tumortrace_runtime.errors import InputError, OutputError

PARTIAL = ".partial-"
"""What the temporary name of everything half-written begins with."""

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")

_SYNCED_AT_ONCE = 8
"""A disk that is told of several files at once writes them together: 88 took a fifth of the time on a busy one."""


def sha256_bytes(data: bytes) -> str:
    """The SHA-256 of `data` as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's content as 64 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(stream)


def _digest(stream: Any) -> str:  # Python 3.10, which JetPack 6 brings, has no hashlib.file_digest
    digest = hashlib.sha256()
    while block := stream.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def canonical_json(value: Any) -> bytes:
    """`value` as UTF-8 JSON with sorted keys, so that equal values give equal bytes and equal hashes."""
    return (json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_json(path: Path, error: type[InputError] = InputError) -> Any:
    """The JSON in `path`.

    Raises:
        error: the file is missing or is not JSON.
    """
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise error(f"{path}: cannot be read ({problem.strerror}).") from problem
    return parse_json(content, path, error)


def parse_json(content: bytes, path: Path, error: type[InputError] = InputError) -> Any:
    """The JSON that was read from `path`: UTF-8 (RFC 8259), each key once, and text and numbers that others can read.

    Raises:
        error: it is none.
    """
    try:
        text = content.decode("utf-8-sig")
        value = json.loads(text, object_pairs_hook=_unambiguous, parse_constant=_refuse_constant)
        if _SURROGATE.search(text):
            canonical_json(value)  # raises where half a character stands alone
    except (ValueError, RecursionError) as problem:
        raise error(f"{path}: is not JSON ({problem}).") from problem
    return value


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, of which one reader would take the first and another the last of two equal keys."""
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError(f"an object with the keys {', '.join(sorted(values)[:8])} has one of them twice")
    return values


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def is_text(text: str) -> bool:
    """Whether it can be written as UTF-8 and has no control characters, which a terminal would take for commands."""
    return not any(unicodedata.category(sign) in ("Cc", "Cs") for sign in text)


def spelled_out(text: str) -> str:
    """`text`, in which the name of a file may stand, with all but line breaks that `is_text` refuses as escapes."""
    return "".join(sign if sign == "\n" or is_text(sign) else repr(sign)[1:-1] for sign in text)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as canonical JSON, whole or not at all."""
    write_bytes(path, canonical_json(value))


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data`, whole or not at all; the folder is made when it is missing."""
    with atomic_file(path) as partial:
        partial.write_bytes(data)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path` to write to; it becomes `path` only when the block ends without an error.

    The temporary name ends as `path` does, because image and NIfTI libraries choose their format by it.

    Raises:
        OutputError: the disk is full, or the folder cannot be written.
    """
    partial: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=PARTIAL, suffix=path.name, dir=path.parent)
        os.close(descriptor)
        partial = Path(name)
        yield partial
        _synchronise(partial)
        partial.chmod(0o666 & ~_umask())
        partial.replace(path)
    except OSError as problem:
        if _is_elsewhere(problem, path):
            raise
        raise OutputError(_refusal(path, problem)) from problem
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; it becomes `path` only when the block ends without an error.

    Args:
        path: the folder to make.
        replace: whether a folder already there is replaced; else it is refused.

    Raises:
        OutputError: `path` exists and `replace` is false, the disk is full, or the place cannot be written.
    """
    partial: Path | None = None
    try:
        if path.exists() and not replace:
            raise OutputError(f"{path}: already exists; remove it or choose another name.")
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = _folder_beside(path)
        yield partial
        _synchronise_all([file for file in partial.rglob("*") if file.is_file()])
        partial.chmod(0o777 & ~_umask())
        if replace and path.exists():
            _exchange(partial, path)
        else:
            partial.replace(path)
    except OSError as problem:
        if _is_elsewhere(problem, path):
            raise
        raise OutputError(_refusal(path, problem)) from problem
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def output_folder(path: Path) -> Iterator[Path]:
    """A folder for what the block will put into it, made or found writable before.

    Folders that were made for it, and stay empty, are removed.

    Raises:
        OutputError: it cannot be made, or cannot be written.
    """
    new = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        try:
            path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=PARTIAL, dir=path):
                pass
        except OSError as problem:
            raise OutputError(_refusal(path, problem)) from problem
        yield path
    finally:
        for folder in new:
            with suppress(OSError):  # it is not empty, or gone already
                folder.rmdir()


def cache_folder(name: str) -> Path:
    """Where this user's TumorTrace keeps what it can make anew: $XDG_CACHE_HOME/tumortrace/`name`, else in ~/.cache."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "tumortrace" / name


def _exchange(new: Path, path: Path) -> None:
    """Put folder `new` in the place of the folder `path`, which stays where `new` cannot take its place."""
    old = _folder_beside(path)
    try:
        path.replace(old)
    except OSError:
        old.rmdir()
        raise
    try:
        new.replace(path)
    except OSError:
        old.replace(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _folder_beside(path: Path) -> Path:
    return Path(tempfile.mkdtemp(prefix=f"{PARTIAL}{path.name}-", dir=path.parent))


def _synchronise_all(files: list[Path]) -> None:
    from concurrent.futures import ThreadPoolExecutor  # takes 5 ms to load, which only who writes a folder need pay

    with ThreadPoolExecutor(_SYNCED_AT_ONCE) as threads:
        for _ in threads.map(_synchronise, files):
            pass


def _synchronise(file: Path) -> None:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())


def _is_elsewhere(problem: OSError, path: Path) -> bool:
    """Whether an error came from what the block does besides writing `path`: a file that it reads, a closed pipe."""
    if problem.filename is None:
        return isinstance(problem, BrokenPipeError)
    named = Path(str(problem.filename)).absolute()
    return not path.absolute().is_relative_to(named) and not any(part.startswith(PARTIAL) for part in named.parts)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _refusal(path: Path, problem: OSError) -> str:
    return f"{path}: cannot be written ({problem.strerror or problem}); nothing was left behind."
