"""Equal bundles give equal archives, and whatever is not the archive of a bundle, byte for byte, is refused whole."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tumortrace_runtime.archive import pack, unpack
from tumortrace_runtime.bundle import MANIFEST, SEAL, open_bundle, seal_of
from tumortrace_runtime.errors import BundleError, OutputError
from tumortrace_runtime.files import canonical_json, sha256_bytes
from tumortrace_runtime.signature import SIGNATURE, SIGNATURE_BYTES

_CONTENT = {"model.onnx": b"weights" * 200, "golden/phantom-1.npz": bytes(512), "openvino/model.int8.bin": b""}

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def manifest(tiny_bundle: Path) -> dict[str, Any]:
    """A manifest of a real export, for the few bytes of `_CONTENT`."""
    values: dict[str, Any] = json.loads((tiny_bundle / MANIFEST).read_bytes())
    values["files"] = {name: {"sha256": sha256_bytes(data), "size_bytes": len(data)} for name, data in _CONTENT.items()}
    return values


@pytest.fixture(scope="module")
def archive_bytes(manifest: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("small")
    pack(write_bundle(folder / "small.bundle", manifest), folder / "small.bundle.tar")
    return (folder / "small.bundle.tar").read_bytes()


def write_bundle(folder: Path, manifest: dict[str, Any]) -> Path:
    for name, data in _CONTENT.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / MANIFEST).write_bytes(canonical_json(manifest))
    (folder / SEAL).write_bytes(seal_of(sha256_bytes(canonical_json(manifest))))
    return folder


def changed(manifest: dict[str, Any], change: Change) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(canonical_json(manifest))
    change(copy)
    return copy


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def refusal(data: bytes, folder: Path) -> str:
    """What is said of an archive of these bytes, which leaves nothing behind."""
    folder.mkdir(exist_ok=True)
    (folder / "x.tar").write_bytes(data)
    with pytest.raises(BundleError) as caught:
        unpack(folder / "x.tar", folder / "deep" / "out")
    assert files(folder) == {"x.tar": data}
    assert list((folder / "deep").glob("*") if (folder / "deep").exists() else ()) == []
    assert str(caught.value).startswith(str(folder / "x.tar"))
    assert ".partial-" not in str(caught.value)
    return str(caught.value)


def test_a_bundle_comes_back_as_it_was(tiny_bundle: Path, tmp_path: Path) -> None:
    pack(tiny_bundle, tmp_path / "tiny.bundle.tar")
    unpack(tmp_path / "tiny.bundle.tar", tmp_path / "back")

    assert files(tmp_path / "back") == files(tiny_bundle)
    assert open_bundle(tmp_path / "back").sha256 == open_bundle(tiny_bundle).sha256


def test_a_signature_comes_along(manifest: dict[str, Any], tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b", manifest)
    (bundle / SIGNATURE).write_bytes(b"s" * SIGNATURE_BYTES)
    pack(bundle, tmp_path / "b.tar")
    unpack(tmp_path / "b.tar", tmp_path / "back")

    assert files(tmp_path / "back") == files(bundle)


def test_times_modes_order_links_and_the_folders_name_change_no_byte(
    manifest: dict[str, Any], archive_bytes: bytes, tmp_path: Path
) -> None:
    bundle = write_bundle(tmp_path / "real", manifest)
    other = tmp_path / "another name"
    for number, name in enumerate(sorted(files(bundle), reverse=True)):
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle / name, other / name)
        (other / name).chmod(0o400 + 0o111 * (number % 2))
        os.utime(other / name, (number * 1e8, number * 1e8))
    (other / "model.onnx").unlink()
    (other / "model.onnx").symlink_to(bundle / "model.onnx")
    (other / "empty").mkdir()
    pack(other, tmp_path / "other.tar")

    assert (tmp_path / "other.tar").read_bytes() == archive_bytes


def test_any_tar_reads_it(manifest: dict[str, Any], archive_bytes: bytes, tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(archive_bytes)) as archive:
        members = archive.getmembers()

    assert [member.name for member in members] == [
        f"{manifest['name']}.bundle/{name}" for name in (MANIFEST, SEAL, *sorted(_CONTENT))
    ]
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode, m.type) for m in members} == {
        (0, 0, 0, "", "", 0o644, tarfile.REGTYPE)
    }
    if shutil.which("tar") is None:
        pytest.skip("no tar on this machine")
    (tmp_path / "a.tar").write_bytes(archive_bytes)
    done = subprocess.run(["tar", "xf", "a.tar"], cwd=tmp_path, capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")
    open_bundle(tmp_path / f"{manifest['name']}.bundle")


@pytest.mark.parametrize("name", ["Großer Name mit Leerzeichen", "..", "a" * 148])
def test_any_name_without_a_slash_will_do(name: str, manifest: dict[str, Any], tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b", changed(manifest, lambda values: values.update(name=name)))
    pack(bundle, tmp_path / "b.tar")
    unpack(tmp_path / "b.tar", tmp_path / "back")

    assert files(tmp_path / "back") == files(bundle)
    with tarfile.open(tmp_path / "b.tar") as archive:
        assert {Path(member).parts[0] for member in archive.getnames()} == {f"{name}.bundle"}


@pytest.mark.parametrize("name", ["a/b", "../b", "a" * 149, "\0", "\ud800"])
def test_a_name_that_a_tar_cannot_hold_safely_is_refused(name: str, manifest: dict[str, Any], tmp_path: Path) -> None:
    values = changed(manifest, lambda values: values.update(name=name))
    bundle = write_bundle(tmp_path / "b", manifest)
    text = json.dumps(values).encode()
    (bundle / MANIFEST).write_bytes(text)
    (bundle / SEAL).write_bytes(seal_of(sha256_bytes(text)))
    with pytest.raises(BundleError, match=r"without a slash wanted|cannot stand in an archive|is not JSON"):
        pack(bundle, tmp_path / "b.tar")

    assert not (tmp_path / "b.tar").exists()


def test_a_bundle_that_does_not_hold_is_not_packed(manifest: dict[str, Any], tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b", manifest)
    (bundle / "model.onnx").write_bytes(b"another")
    with pytest.raises(BundleError, match=r"model\.onnx: was altered"):
        pack(bundle, tmp_path / "b.tar")

    assert not (tmp_path / "b.tar").exists()


@pytest.mark.parametrize(("size", "told"), [(1, "has 1400 bytes, 1 wanted"), (-1, "-1"), (2**33, "0 to"), ("1", "'1'")])
def test_a_wrong_size_in_the_manifest_is_told(size: Any, told: str, manifest: dict[str, Any], tmp_path: Path) -> None:
    values = changed(manifest, lambda values: values["files"]["model.onnx"].update(size_bytes=size))
    bundle = write_bundle(tmp_path / "b", values)
    with pytest.raises(BundleError, match=told):
        pack(bundle, tmp_path / "b.tar")

    assert list(tmp_path.iterdir()) == [bundle]


def test_a_cut_signature_is_not_packed(manifest: dict[str, Any], tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b", manifest)
    (bundle / SIGNATURE).write_bytes(b"s" * (SIGNATURE_BYTES - 1))
    with pytest.raises(BundleError, match=r"manifest\.sig: has 63 bytes, 64 wanted"):
        pack(bundle, tmp_path / "b.tar")


def test_what_is_there_is_kept(manifest: dict[str, Any], archive_bytes: bytes, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b", manifest)
    (tmp_path / "taken").write_bytes(b"kept")
    (tmp_path / "a.tar").write_bytes(archive_bytes)
    before = files(tmp_path)
    with pytest.raises(OutputError, match="taken: already exists"):
        pack(bundle, tmp_path / "taken")
    with pytest.raises(OutputError, match="lies in the bundle"):
        pack(bundle, bundle / "golden" / "b.tar")
    for place in ("b", "taken"):
        with pytest.raises(OutputError, match=f"{place}: already exists"):
            unpack(tmp_path / "a.tar", tmp_path / place)

    assert files(tmp_path) == before


def test_a_full_disk_leaves_nothing(
    tiny_bundle: Path, tmp_path: Path, files_of_at_most: Callable[[int], AbstractContextManager[None]]
) -> None:
    pack(tiny_bundle, tmp_path / "whole.tar")
    with files_of_at_most(4096):
        with pytest.raises(OutputError, match=r"new\.tar: cannot be written"):
            pack(tiny_bundle, tmp_path / "new.tar")
        with pytest.raises(OutputError, match="out: cannot be written"):
            unpack(tmp_path / "whole.tar", tmp_path / "out")

    assert [path.name for path in tmp_path.iterdir()] == ["whole.tar"]


def test_new_files_have_the_permissions_of_any_new_file(archive_bytes: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(archive_bytes)
    before = os.umask(0o027)
    try:
        unpack(tmp_path / "a.tar", tmp_path / "out")
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "out" / "model.onnx").stat().st_mode) == 0o640


def test_truncated_at_any_length_it_is_refused(archive_bytes: bytes, tmp_path: Path) -> None:
    for length in range(0, len(archive_bytes), 37):
        refusal(archive_bytes[:length], tmp_path)
    assert "cut, altered, or not packed" in refusal(archive_bytes[:-1], tmp_path)
    assert "is no archive of a bundle" in refusal(b"", tmp_path)


def test_a_grown_one_is_refused(archive_bytes: bytes, tmp_path: Path) -> None:
    for more in (b"\0", bytes(512), bytes(1024), bytes(10240), archive_bytes):
        refusal(archive_bytes + more, tmp_path)


@settings(max_examples=300)
@given(data=st.data())
def test_any_flipped_bits_are_refused(
    data: st.DataObject, archive_bytes: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    position = data.draw(st.integers(0, len(archive_bytes) - 1))
    flipped = bytearray(archive_bytes)
    flipped[position] ^= data.draw(st.integers(1, 255))
    refusal(bytes(flipped), tmp_path_factory.getbasetemp() / "flipped")


@given(data=st.binary(max_size=2048))
def test_any_other_bytes_are_refused(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert "is no archive" in refusal(data, tmp_path_factory.getbasetemp() / "other")


def with_header(archive: bytes, entry: bytes, place: slice, value: bytes) -> bytes:
    """The archive with one field of an entry's header replaced, and the checksum made good."""
    start = archive.index(entry + b"\0")
    header = bytearray(archive[start : start + 512])
    header[place] = value.ljust(place.stop - place.start, b"\0")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return archive[:start] + bytes(header) + archive[start + 512 :]


_NAME, _MODE, _SIZE, _TYPE, _LINK = slice(0, 100), slice(100, 108), slice(124, 136), slice(156, 157), slice(157, 257)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (_NAME, b"/etc/passwd"),
        (_NAME, b"../../evil"),
        (_NAME, b"golden/phantom-1.npz"),
        (_NAME, b"unlisted"),
        (_MODE, b"0004755"),
        (_SIZE, b"77777777777"),
        (_SIZE, b"00000000000"),
        (_TYPE, tarfile.SYMTYPE),
        (_TYPE, tarfile.LNKTYPE),
        (_TYPE, tarfile.CHRTYPE),
        (_TYPE, tarfile.BLKTYPE),
        (_TYPE, tarfile.FIFOTYPE),
        (_TYPE, tarfile.DIRTYPE),
        (_TYPE, tarfile.XHDTYPE),
        (_TYPE, tarfile.GNUTYPE_SPARSE),
        (_LINK, b"/etc/passwd"),
    ],
)
def test_a_header_that_says_anything_else_is_refused(
    place: slice, value: bytes, archive_bytes: bytes, tmp_path: Path
) -> None:
    hostile = with_header(archive_bytes, b"model.onnx", place, value)
    with tarfile.open(fileobj=io.BytesIO(hostile)) as archive:
        assert archive.next() is not None

    assert "has something else where 'model.onnx' is due" in refusal(hostile, tmp_path)


def forge(manifest: bytes, *entries: tuple[str, bytes]) -> bytes:
    """An archive by another's hand, of any manifest and any entries."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in [(MANIFEST, manifest), (SEAL, seal_of(sha256_bytes(manifest))), *entries]:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/evil", "a/../../evil", "", ".", "./a", "a//b", "a/", MANIFEST, SEAL, SIGNATURE]
)
def test_a_manifest_that_lists_another_place_is_refused(name: str, manifest: dict[str, Any], tmp_path: Path) -> None:
    entry = {"sha256": sha256_bytes(b"evil"), "size_bytes": 4}
    values = canonical_json(changed(manifest, lambda values: values.update(files={name: entry})))

    assert "which is no place for a file of a bundle" in refusal(forge(values, (name, b"evil")), tmp_path)


@pytest.mark.parametrize(
    ("name", "told"),
    [("a" * 101, "cannot stand in an archive"), ("a\0b", "cannot stand in an archive"), ("\ud800", "is not JSON")],
)
def test_a_manifest_that_lists_no_name_is_refused(
    name: str, told: str, manifest: dict[str, Any], tmp_path: Path
) -> None:
    values = changed(manifest, lambda values: values.update(files={name: {"sha256": "", "size_bytes": 0}}))

    assert told in refusal(forge(json.dumps(values).encode()), tmp_path)


def test_a_manifest_that_promises_gigabytes_is_refused_before_anything_is_written(
    manifest: dict[str, Any], tmp_path: Path
) -> None:
    change: Change = lambda values: values["files"]["model.onnx"].update(size_bytes=2**33 - 1)  # noqa: E731
    values = canonical_json(changed(manifest, change))

    assert "by its manifest it has 85899" in refusal(forge(values, *_CONTENT.items()), tmp_path)
    assert not (tmp_path / "deep").exists()


def test_a_manifest_of_gigabytes_is_not_read(archive_bytes: bytes, tmp_path: Path) -> None:
    hostile = with_header(archive_bytes, MANIFEST.encode(), _SIZE, b"77777777777")

    assert "is no archive of a bundle" in refusal(hostile, tmp_path)


@pytest.mark.parametrize(
    "manifest_bytes",
    [b"", b"[]", b"null", b"{", b"\xff", b"[" * 100_000, b"{}", b'{"name": "x"}', b'{"name": "x", "files": {"a": 1}}'],
)
def test_what_is_no_manifest_is_refused(manifest_bytes: bytes, tmp_path: Path) -> None:
    said = refusal(forge(manifest_bytes), tmp_path)
    assert "manifest.json: a field is missing" in said or "manifest.json: is not JSON" in said


def test_altered_content_is_named_within_the_archive(archive_bytes: bytes, tmp_path: Path) -> None:
    told = refusal(archive_bytes.replace(b"weights", b"weighty", 1), tmp_path)

    assert told.startswith(f"{tmp_path / 'x.tar' / 'model.onnx'}: was altered")


def test_a_contract_that_does_not_hold_is_refused(manifest: dict[str, Any], tmp_path: Path) -> None:
    """Packed by hand, for `pack` would refuse it: all hashes are right, and the network's shape is not."""
    bundle = write_bundle(tmp_path / "b", manifest)
    pack(bundle, tmp_path / "b.tar")
    whole = (tmp_path / "b.tar").read_bytes()
    before = canonical_json(manifest)
    after = before.replace(b'"batch"', b'"match"')
    old, new = (seal_of(sha256_bytes(text)) for text in (before, after))

    assert "the network takes" in refusal(whole.replace(before, after).replace(old, new), tmp_path / "new")


@pytest.mark.parametrize("name", ["none.tar", "folder"])
def test_a_missing_file_or_a_folder_is_told(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(BundleError, match=rf"{name}: cannot be read"):
        unpack(tmp_path / name, tmp_path / "out")


def test_opening_an_archive_as_a_bundle_says_how_to_unpack_it(archive_bytes: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(archive_bytes)
    with pytest.raises(BundleError, match=rf"tumortrace unpack {tmp_path}/a\.tar -o FOLDER"):
        open_bundle(tmp_path / "a.tar")
