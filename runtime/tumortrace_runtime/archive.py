"""A bundle as one file: a tar archive whose every byte follows from the bundle, so that equal bundles pack equally.

The headers are written here and not by `tarfile`, whose bytes differ between Python versions, and nothing is
compressed, because the bytes of a compressor differ between its versions. Reading needs no parser that could be fooled:
the manifest comes first and says what follows, and whatever is not that, byte for byte, is refused.
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from tumortrace_runtime.bundle import MANIFEST, SEAL, open_bundle, seal_of
from tumortrace_runtime.errors import BundleError, OutputError
from tumortrace_runtime.files import atomic_directory, atomic_file, parse_json, sha256_bytes
from tumortrace_runtime.signature import SIGNATURE, SIGNATURE_BYTES

_BLOCK_BYTES = 512
_END = bytes(2 * _BLOCK_BYTES)
_MANIFEST_LIMIT_BYTES = 1 << 24
_ENTRY_LIMIT_BYTES = 1 << 33  # 11 octal digits

# POSIX.1-2017, pax, "ustar Interchange Format": name, mode, uid, gid, size, mtime, checksum, type, link, magic,
# version, user, group, device numbers, prefix.
_HEADER = struct.Struct("100s 8s 8s 8s 12s 12s 8s c 100s 6s 2s 32s 32s 8s 8s 155s 12x")
_SIZE = slice(124, 135)


@dataclass(frozen=True)
class _Entry:
    """A file of the archive: its name in the bundle, its size, and the header that says so."""

    name: str
    size_bytes: int
    header: bytes

    @property
    def padding(self) -> bytes:
        """What fills the last block."""
        return bytes(-self.size_bytes % _BLOCK_BYTES)


def pack(bundle: Path, archive: Path) -> None:
    """Write a bundle, with its signature where it has one, as one file.

    The bytes follow from the bundle alone: not from the folder's name, times, owners, modes, or the machine.

    Args:
        bundle: the bundle's folder.
        archive: the file to write, by custom `NAME.bundle.tar`.

    Raises:
        BundleError: the bundle does not hold, or has what the format has no place for: a file of 8 GiB, a path of
            more than 100 bytes.
        OutputError: `archive` exists, lies in the bundle, or cannot be written.
    """
    if archive.exists():
        raise OutputError(f"{archive}: already exists; remove it or choose another name.")
    if archive.resolve().is_relative_to(bundle.resolve()):
        raise OutputError(f"{archive}: lies in the bundle that it is to hold; choose a place outside.")
    open_bundle(bundle)
    entries = _entries(bundle / MANIFEST, (bundle / MANIFEST).read_bytes(), signed=(bundle / SIGNATURE).exists())
    with atomic_file(archive) as partial, partial.open("wb") as stream:
        for entry in entries:
            stream.write(entry.header)
            _append(bundle / entry.name, stream, entry.size_bytes)
            stream.write(entry.padding)
        stream.write(_END)


def unpack(archive: Path, out: Path, *, public_key: Path | None = None) -> None:
    """Make the bundle's folder of an archive, verified before it gets its name, or nothing.

    Args:
        archive: what `pack` wrote.
        out: the folder to make.
        public_key: PEM file of the Ed25519 key that must have signed the bundle; None asks for no signature.

    Raises:
        BundleError: the archive is not what `pack` writes, byte for byte (so no link, device, duplicate, path out of
            the bundle, or file that the manifest does not list), or the bundle in it does not hold.
        InputError: the key cannot be used.
        OutputError: `out` exists or cannot be written.
    """
    with _opened(archive) as stream:
        entries = _read_entries(archive, stream)
        with atomic_directory(out) as folder:
            for entry in entries:
                _expect(stream, entry.header, f"{archive}: has something else where {entry.name!r} is due")
                _extract(archive, stream, folder / entry.name, entry.size_bytes)
                _expect(stream, entry.padding, f"{archive}: has something behind the end of {entry.name!r}")
            _expect(stream, _END, f"{archive}: has something behind its last file")
            _verify(archive, folder, public_key)


def _verify(archive: Path, folder: Path, public_key: Path | None) -> None:
    """Open the bundle in the temporary `folder`; an error names the archive instead."""
    try:
        open_bundle(folder, public_key=public_key)
    except BundleError as problem:
        raise BundleError(str(problem).replace(str(folder), str(archive))) from problem


def _append(file: Path, stream: BinaryIO, size_bytes: int) -> None:
    start = stream.tell()
    with file.open("rb") as source:
        shutil.copyfileobj(source, stream)
    if (found := stream.tell() - start) != size_bytes:
        raise BundleError(f"{file}: has {found} bytes, {size_bytes} wanted.")


def _extract(archive: Path, stream: BinaryIO, file: Path, size_bytes: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    left = size_bytes
    with file.open("xb") as target:
        while left:
            block = stream.read(min(left, 1 << 20))
            if not block:
                raise BundleError(f"{archive}: ended while it was read.")
            target.write(block)
            left -= len(block)


def _expect(stream: BinaryIO, wanted: bytes, complaint: str) -> None:
    if stream.read(len(wanted)) != wanted:
        raise BundleError(f"{complaint}: altered, or not packed by TumorTrace.")


@contextmanager
def _opened(archive: Path) -> Iterator[BinaryIO]:
    try:
        stream = archive.open("rb")
    except OSError as problem:
        raise BundleError(f"{archive}: cannot be read ({problem.strerror}).") from problem
    with stream:
        yield stream


def _read_entries(archive: Path, stream: BinaryIO) -> list[_Entry]:
    """What the archive must hold by its manifest and its length; the stream stands at the start again."""
    manifest = _read_manifest(archive, stream)
    found = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    for signed in (False, True):
        entries = _entries(archive / MANIFEST, manifest, signed=signed)
        if found == (wanted := _archive_bytes(entries)):
            return entries
    unsigned = wanted - 2 * _BLOCK_BYTES
    raise BundleError(
        f"{archive}: has {found} bytes; by its manifest it has {unsigned}, or {wanted} with a signature: cut, altered, "
        "or not packed by TumorTrace."
    )


def _read_manifest(archive: Path, stream: BinaryIO) -> bytes:
    header = stream.read(_BLOCK_BYTES)
    try:
        size_bytes = int(header[_SIZE], 8)
    except ValueError:
        size_bytes = -1
    if not header.startswith(MANIFEST.encode() + b"\0") or not 0 <= size_bytes <= _MANIFEST_LIMIT_BYTES:
        raise BundleError(f"{archive}: is no archive of a bundle; a tar file wanted that begins with {MANIFEST}.")
    return stream.read(size_bytes)


def _archive_bytes(entries: list[_Entry]) -> int:
    return sum(len(entry.header) + entry.size_bytes + len(entry.padding) for entry in entries) + len(_END)


def _entries(where: Path, manifest: bytes, *, signed: bool) -> list[_Entry]:
    """What the archive of a bundle with this manifest holds, in order; `where` is for errors."""
    sizes = {MANIFEST: len(manifest), SEAL: len(seal_of(sha256_bytes(manifest)))}
    if signed:
        sizes[SIGNATURE] = SIGNATURE_BYTES
    try:
        values = parse_json(manifest, where, BundleError)
        folder = f"{values['name']}.bundle"
        listed = {name: values["files"][name]["size_bytes"] for name in sorted(values["files"])}
    except (KeyError, TypeError, AttributeError) as problem:
        raise BundleError(f"{where}: a field is missing or of the wrong kind ({problem}).") from problem
    if unfit := [name for name in listed if not _is_inside(name) or name in (MANIFEST, SEAL, SIGNATURE)]:
        raise BundleError(f"{where}: lists {unfit[0]!r}, which is no place for a file of a bundle.")
    if "/" in folder:
        raise BundleError(f"{where}: names the bundle {values['name']!r}; a name without a slash wanted.")
    return [_Entry(name, size, _header(where, folder, name, size)) for name, size in (sizes | listed).items()]


def _is_inside(name: str) -> bool:
    """Whether a path is relative, leads to no folder above, and is spelled in the one plain way."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and str(path) == name


def _header(where: Path, folder: str, name: str, size_bytes: Any) -> bytes:
    if type(size_bytes) is not int or not 0 <= size_bytes < _ENTRY_LIMIT_BYTES:
        raise BundleError(f"{where}: says {name!r} has {size_bytes!r} bytes; 0 to {_ENTRY_LIMIT_BYTES - 1} wanted.")
    nothing = b"%07o\0" % 0
    return _with_checksum(
        _text(where, name, 100),
        *(b"%07o\0" % 0o644, nothing, nothing),
        *(b"%011o\0" % size_bytes, b"%011o\0" % 0),
        b" " * 8,
        *(b"0", b"", b"ustar\0", b"00", b"", b"", nothing, nothing),
        _text(where, folder, 155),
    )


def _with_checksum(*fields: bytes) -> bytes:
    """The header of these fields, among which the checksum is spaces: as which it enters the sum of the bytes."""
    blank = _HEADER.pack(*fields)
    checksum = b"%06o\0 " % sum(blank)
    return blank[:148] + checksum + blank[156:]


def _text(where: Path, text: str, limit_bytes: int) -> bytes:
    encoded = text.encode()
    if not 0 < len(encoded) <= limit_bytes or b"\0" in encoded:
        raise BundleError(f"{where}: {text!r} cannot stand in an archive; at most {limit_bytes} bytes of UTF-8 wanted.")
    return encoded
