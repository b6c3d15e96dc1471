"""Hostile checkpoints; the hash of weights that were changed is that of the change, as a hostile trainer's would be."""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from tumortrace.checkpoint import CONFIG, WEIGHTS, load_checkpoint
from tumortrace_runtime.files import sha256_bytes

from ..fuzz import seeds
from .kinds import Harm, Kind, Subject, cut, folder, loop, pipe, replaced_by, rewritten

_UNREADABLE = "cannot be read"
_UNFIT = "its tensors do not fit"
_NO_JSON = "is not JSON"


def make(name: str, root: Path) -> Path:
    for file, content in _good().items():
        (root / file).write_bytes(content)
    return root / name


def read(root: Path) -> None:
    load_checkpoint(root).network()


def hashed(harm: Harm) -> Harm:
    """Does it to the weights, and tells the description their new hash."""

    def change(path: Path) -> None:
        harm(path)
        config = json.loads((path.parent / CONFIG).read_bytes())
        config["weights_sha256"] = sha256_bytes(path.read_bytes())
        (path.parent / CONFIG).write_text(json.dumps(config))

    return change


def tensors(change: Callable[[dict[str, Any]], object]) -> Harm:
    """Changes the header of a safetensors file, of which the tensors' bytes stay."""

    def rewrite(content: bytes) -> bytes:
        (length,) = struct.unpack_from("<Q", content)
        header = json.loads(content[8 : 8 + length])
        change(header)
        new = json.dumps(header).encode()
        return struct.pack("<Q", len(new)) + new + content[8 + length :]

    return hashed(rewritten(rewrite))


def header(content: bytes, length: int | None = None) -> Harm:
    """Puts a safetensors header in place of the file."""
    return hashed(replaced_by(struct.pack("<Q", len(content) if length is None else length) + content))


def config(change: Callable[[dict[str, Any]], object]) -> Harm:
    """Changes the description."""

    def edit(path: Path) -> None:
        values = json.loads(path.read_bytes())
        change(values)
        path.write_text(json.dumps(values))

    return edit


def model(**settings: Any) -> Harm:
    return config(lambda values: values["model"].update(settings))


class _Harmful:
    """Runs a command where it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch unpickled",)


def _first(values: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = next(value for value in values.values() if value.get("dtype") == "F32")
    return entry


def _half_as_wide(values: dict[str, Any]) -> None:
    entry = _first(values)
    entry.update(dtype="F16", shape=[2 * entry["shape"][0], *entry["shape"][1:]])


@cache
def _good() -> seeds.Files:
    return seeds.checkpoint()


KINDS = {
    "a pickle in place of the weights": Kind(WEIGHTS, hashed(replaced_by(pickle.dumps(_Harmful()))), _UNREADABLE),
    "no weights": Kind(WEIGHTS, hashed(cut(0)), _UNREADABLE),
    "weights cut in the header": Kind(WEIGHTS, hashed(cut(200)), _UNREADABLE),
    "weights cut in the middle": Kind(WEIGHTS, hashed(cut(0.5)), _UNREADABLE),
    "weights without their last byte": Kind(WEIGHTS, hashed(cut(-1)), _UNREADABLE),
    "other weights than were described": Kind(WEIGHTS, rewritten(lambda data: data[:-1] + b"\1"), "was altered"),
    "a header of 2^63 bytes": Kind(WEIGHTS, header(b"{}", 1 << 63), _UNREADABLE),
    "a header of 100 MB that is not there": Kind(WEIGHTS, header(b"{}", 100_000_000), _UNREADABLE),
    "a header that is not JSON": Kind(WEIGHTS, header(b"{" * 50), _UNREADABLE),
    "a header 100,000 lists deep": Kind(WEIGHTS, header(b"[" * 100_000), _UNREADABLE),
    "a header that is not UTF-8": Kind(WEIGHTS, header(b'{"\xff": {}}'), _UNREADABLE),
    "tensors one over the other": Kind(
        WEIGHTS, tensors(lambda values: _first(values).update(data_offsets=[0, 4])), _UNREADABLE
    ),
    "a tensor beyond the end": Kind(
        WEIGHTS, tensors(lambda values: _first(values).update(data_offsets=[0, 1 << 40])), _UNREADABLE
    ),
    "a tensor of 2^62 numbers": Kind(
        WEIGHTS, tensors(lambda values: _first(values).update(shape=[1 << 62])), _UNREADABLE
    ),
    "a tensor of a negative size": Kind(
        WEIGHTS, tensors(lambda values: _first(values).update(shape=[-1])), _UNREADABLE
    ),
    "a type that does not exist": Kind(
        WEIGHTS, tensors(lambda values: _first(values).update(dtype="F13")), _UNREADABLE
    ),
    "numbers of another type": Kind(WEIGHTS, tensors(_half_as_wide), _UNFIT),
    "integers for weights": Kind(WEIGHTS, tensors(lambda values: _first(values).update(dtype="I32")), _UNFIT),
    "a tensor by another name": Kind(
        WEIGHTS, tensors(lambda values: values.update({"../evil": values.pop("head.weight")})), _UNFIT
    ),
    "a folder in place of the weights": Kind(WEIGHTS, folder, "is missing"),
    "a link to itself in place of the weights": Kind(WEIGHTS, loop, "is missing"),
    "a pipe in place of the weights": Kind(WEIGHTS, pipe, "is missing"),
    "nothing in the description": Kind(CONFIG, cut(0), _NO_JSON),
    "a description cut in the middle": Kind(CONFIG, cut(0.5), _NO_JSON),
    "a description 100,000 lists deep": Kind(CONFIG, replaced_by(b"[" * 100_000), _NO_JSON),
    "one key twice": Kind(
        CONFIG, rewritten(lambda data: data.replace(b'"version": 1', b'"version": 1, "version": 1')), "twice"
    ),
    "invalid UTF-8": Kind(CONFIG, rewritten(lambda data: data.replace(b"flair", b"fl\xffir")), _NO_JSON),
    "a pipe in place of the description": Kind(CONFIG, pipe, "is no checkpoint", "folder"),
    "a network of 10^12 weights": Kind(CONFIG, model(widths=[4096] * 8), _UNFIT, "folder"),
    "a network without an end": Kind(CONFIG, model(widths=[16] * 10_000), "two to eight multiples of 16"),
    "a network wider than memory": Kind(CONFIG, model(widths=[16, 1 << 40]), "two to eight multiples of 16"),
    "another network": Kind(CONFIG, model(architecture="classic"), _UNFIT, "folder"),
    "an architecture that is code": Kind(CONFIG, model(architecture="__import__('os')"), "architecture is"),
    "a hash that is a list": Kind(
        CONFIG, config(lambda values: values.update(weights_sha256=[])), "was altered", "folder"
    ),
}

SUBJECT = Subject(make, read, KINDS)
