"""Hostile bundles, as folders and as archives; their manifests are sealed, as those of a hostile exporter would be."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from tumortrace_runtime.archive import unpack
from tumortrace_runtime.bundle import SEAL, open_bundle, seal_of
from tumortrace_runtime.files import sha256_bytes

from ..fuzz import seeds
from .kinds import Harm, Kind, Subject, cut, endless, folder, loop, pipe, put, replaced_by, rewritten

_NO_JSON = "is not JSON"
_ALTERED = "one of the two was altered"
_MODEL = "model.onnx"
_SIZE = 124
"""Where a header of a tar archive has the size."""


def make_folder(name: str, root: Path) -> Path:
    """The manifest is what kinds harm, or a listed file."""
    seeds.write_bundle(root, _manifest())
    return root / name


def make_archive(name: str, root: Path) -> Path:
    path = root / "small.tar"
    path.write_bytes(_archive())
    return path


def read_archive(root: Path) -> None:
    unpack(root / "small.tar", root / "out")


def sealed(change: Callable[[bytes], bytes]) -> Harm:
    """Changes the bytes of a manifest, and seals it anew."""

    def seal(path: Path) -> None:
        rewritten(change)(path)
        path.with_name(SEAL).write_bytes(seal_of(sha256_bytes(path.read_bytes())))

    return seal


def manifest(change: Callable[[dict[str, Any]], object]) -> Harm:
    """Changes the values of a manifest, and seals it anew."""
    return sealed(lambda content: changed(content, change))


def changed(content: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    values = json.loads(content)
    change(values)
    return json.dumps(values).encode()


def listing(name: str) -> Harm:
    """Lists one more file."""
    return manifest(lambda values: values["files"].update({name: {"sha256": sha256_bytes(b""), "size_bytes": 0}}))


def preprocessing(**settings: Any) -> Harm:
    return manifest(lambda values: values["input"]["preprocessing"].update(settings))


def packed(change: Callable[[dict[str, Any]], object]) -> Harm:
    """Changes the values of an archive's manifest, whose size its header then tells."""

    def repack(content: bytes) -> bytes:
        size = int(content[_SIZE : _SIZE + 11], 8)
        new = changed(content[512 : 512 + size], change)
        rest = content[512 + size + -size % 512 :]
        head = content[:_SIZE] + b"%011o" % len(new) + content[_SIZE + 11 : 512]
        return head + new + bytes(-len(new) % 512) + rest

    return rewritten(repack)


def _listed_twice(content: bytes) -> bytes:
    return content.replace(b'"format"', b'"version": 1,\n "format"', 1)


@cache
def _manifest() -> bytes:
    return seeds.manifest()["manifest"]


@cache
def _archive() -> bytes:
    return seeds.archive()["archive"]


MANIFEST = "manifest.json"

FOLDERS = {
    "nothing in the manifest": Kind(MANIFEST, sealed(lambda _: b""), _NO_JSON),
    "a manifest cut in the middle": Kind(MANIFEST, sealed(lambda content: content[:400]), _NO_JSON),
    "another manifest than was sealed": Kind(MANIFEST, cut(-1), _ALTERED),
    "no object": Kind(MANIFEST, sealed(lambda _: b"[]"), "holds no object"),
    "100,000 lists within lists": Kind(MANIFEST, sealed(lambda _: b"[" * 100_000), _NO_JSON),
    "lists 500 deep for a setting": Kind(
        MANIFEST, preprocessing(context=json.loads("[" * 500 + "]" * 500)), "context is"
    ),
    "one key twice": Kind(MANIFEST, sealed(_listed_twice), "has one of them twice"),
    "a number of 5,000 digits": Kind(MANIFEST, sealed(lambda c: c.replace(b'"batch"', b"9" * 5000)), _NO_JSON),
    "a number beyond all floats": Kind(
        MANIFEST, sealed(lambda c: c.replace(b"0.1,", b"1e999,")), "foreground_fraction"
    ),
    "a number that is none": Kind(MANIFEST, sealed(lambda c: c.replace(b"0.1,", b"NaN,")), "NaN is no number of JSON"),
    "invalid UTF-8": Kind(MANIFEST, sealed(lambda c: c.replace(b"small", b"sm\xffll")), _NO_JSON),
    "half a character": Kind(MANIFEST, sealed(lambda c: c.replace(b"small", b"sm\\ud800ll")), _NO_JSON),
    "UTF-16": Kind(MANIFEST, sealed(lambda c: c.decode().encode("utf-16")), _NO_JSON),
    "a version to come": Kind(MANIFEST, manifest(lambda values: values.update(version=2**70)), "version 1 wanted"),
    "a megabyte of text for a number": Kind(MANIFEST, preprocessing(context="9" * (1 << 20)), "context is"),
    "a grid of a billion pixels a side": Kind(MANIFEST, preprocessing(grid_px=[10**9, 10**9]), "16 to 4096 px"),
    "a negative context": Kind(MANIFEST, preprocessing(context=-1), "0 to 8 slices"),
    "a setting that does not exist": Kind(MANIFEST, preprocessing(__class__="os.system"), "unknown setting"),
    "a shape that is none": Kind(MANIFEST, manifest(lambda values: values["input"].update(shape={})), "network takes"),
    "files that are no object": Kind(MANIFEST, manifest(lambda values: values.update(files=7)), "wrong kind"),
    "a hash that is a number": Kind(
        MANIFEST, manifest(lambda values: values["files"][_MODEL].update(sha256=5)), "wrong kind"
    ),
    "an absolute path": Kind(MANIFEST, listing("/etc/passwd"), "lies outside the bundle"),
    "a path that leads out": Kind(MANIFEST, listing("golden/../../secret"), "lies outside the bundle"),
    "a file name with a NUL": Kind(MANIFEST, listing("a\0b"), "without control characters"),
    "a file name with commands to the terminal": Kind(
        MANIFEST, listing("\x1b[2J\r\nall is well"), "without control characters"
    ),
    "a listed file that is not there": Kind(MANIFEST, listing("more.onnx"), "is missing", "folder"),
    "a model that was altered": Kind(_MODEL, replaced_by(b"other weights"), "was altered"),
    "a pickle in place of the model": Kind(_MODEL, replaced_by(b"\x80\x04cos\nsystem\n."), "was altered"),
    "an empty model": Kind(_MODEL, cut(0), "was altered"),
    "a folder in place of the model": Kind(_MODEL, folder, "is missing"),
    "a link to itself in place of the model": Kind(_MODEL, loop, "cannot be read"),
    "a pipe in place of the model": Kind(_MODEL, pipe, "is no file"),
    "an endless device in place of the model": Kind(_MODEL, endless, "is no file"),
    "a file that is not listed": Kind(
        _MODEL, lambda path: path.with_name("run.sh").write_text("rm -rf /"), "is not listed", "folder"
    ),
    "no seal": Kind("manifest.sha256", lambda path: path.unlink(), "is missing"),
    "an empty seal": Kind("manifest.sha256", cut(0), _ALTERED, "folder"),
    "a folder in place of the manifest": Kind(MANIFEST, folder, "is no bundle", "folder"),
    "a pipe in place of the manifest": Kind(MANIFEST, pipe, "is no bundle", "folder"),
    "a pipe in place of the seal": Kind("manifest.sha256", pipe, "is missing"),
}

_CUT = "cut, altered, or not packed by TumorTrace"

ARCHIVES = {
    "nothing in it": Kind("", cut(0), "is no archive of a bundle"),
    "cut in the header": Kind("is no archive of a bundle", cut(100), ""),
    "cut in the manifest": Kind(_NO_JSON, cut(700), ""),
    "cut in the middle": Kind("", cut(0.6), _CUT),
    "cut at the end": Kind("", cut(-1), _CUT),
    "more behind it": Kind(_CUT, rewritten(lambda data: data + bytes(512)), ""),
    "a compressed archive": Kind("", rewritten(gzip.compress), "is no archive of a bundle"),
    "a ZIP": Kind("", replaced_by(b"PK\3\4" + bytes(600)), "is no archive of a bundle"),
    "a manifest of 8 GB": Kind("", put(_SIZE, b"77777777777"), "is no archive of a bundle"),
    "a negative size": Kind("", put(_SIZE, b"-0000000001"), "is no archive of a bundle"),
    "a size in base 256": Kind("", put(_SIZE, struct.pack(">BQ3x", 0x80, 1 << 40)[:11]), "is no archive of a bundle"),
    "a model of 8 GB": Kind("", packed(lambda values: values["files"][_MODEL].update(size_bytes=2**33 - 1)), _CUT),
    "a path for a name": Kind("", packed(lambda values: values.update(name="../../etc")), "a name without a slash"),
    "a path that leads out": Kind(
        "",
        packed(lambda values: values["files"].update({"../x": {"size_bytes": 0}})),
        "no place for a file of a bundle",
    ),
    "an absolute path": Kind(
        "", packed(lambda values: values["files"].update({"/x": {"size_bytes": 0}})), "no place for a file of a bundle"
    ),
    "a folder in its place": Kind("", folder, "cannot be read"),
    "a link to itself": Kind("", loop, "cannot be read"),
}

FOLDER_SUBJECT = Subject(make_folder, open_bundle, FOLDERS)
ARCHIVE_SUBJECT = Subject(make_archive, read_archive, ARCHIVES)
