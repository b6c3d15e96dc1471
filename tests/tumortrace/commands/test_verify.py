"""`tumortrace sign`, `pack`, `unpack`, `verify`, and --key of the commands that open bundles."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tumortrace_runtime.bundle import open_bundle
from tumortrace_runtime.files import sha256_file
from tumortrace_runtime.signature import fingerprint

Program = Callable[..., Any]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `private.pem` and `public.pem`, and `other.pem`, the public half of another key."""
    folder = tmp_path_factory.mktemp("keys")
    key, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    (folder / "private.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    for name, half in (("public", key.public_key()), ("other", other.public_key())):
        (folder / f"{name}.pem").write_bytes(half.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return folder


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A bundle that a test may change."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "tiny.bundle"))


def test_from_signing_to_a_device_and_back(tumortrace: Program, bundle: Path, keys: Path, tmp_path: Path) -> None:
    archive, back, public = tmp_path / "tiny.bundle.tar", tmp_path / "back", keys / "public.pem"
    key_sha256 = fingerprint(public)

    signed = tumortrace("sign", bundle, "--key", keys / "private.pem", "--json")
    assert json.loads(signed.out) == {"signature": str(bundle / "manifest.sig"), "key_sha256": key_sha256}
    packed = tumortrace("pack", bundle, "-o", archive, "--json")
    assert json.loads(packed.out) == {
        "archive": str(archive),
        "sha256": sha256_file(archive),
        "size_bytes": archive.stat().st_size,
    }
    unpacked = tumortrace("unpack", archive, "-o", back, "--key", public, "--json")
    assert json.loads(unpacked.out) == {"bundle": str(back)}
    for place in (bundle, archive, back):
        verified = tumortrace("verify", place, "--key", public, "--json")
        found = json.loads(verified.out)
        assert (found["bundle"], found["name"], found["signed_by"]) == (str(place), "tiny", key_sha256)
        assert (found["sha256"], found["has_signature"]) == (open_bundle(bundle).sha256, True)
        assert found["files"] == len(open_bundle(bundle).manifest["files"])


def test_what_holds_is_told_in_words(tumortrace: Program, bundle: Path, keys: Path) -> None:
    told = tumortrace("verify", bundle)
    assert (told.code, told.err) == (0, "")
    assert f"{bundle}: bundle tiny holds" in told.out
    assert f"files and the manifest, {open_bundle(bundle).sha256}" in told.out
    assert "t1, flair, t1ce on 64 x 64 px" in told.out
    assert "signature  none" in told.out
    assert fingerprint(keys / "public.pem") in tumortrace("sign", bundle, "--key", keys / "private.pem").out
    assert "there, but not checked" in tumortrace("verify", bundle).out
    assert (
        f"by key {fingerprint(keys / 'public.pem')}" in tumortrace("verify", bundle, "--key", keys / "public.pem").out
    )


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "archive"])
def test_what_does_not_hold_ends_with_two_and_the_reason(
    packed: bool, tumortrace: Program, bundle: Path, keys: Path, tmp_path: Path
) -> None:
    place = bundle
    tumortrace("sign", bundle, "--key", keys / "private.pem")
    if packed:
        place = tmp_path / "tiny.bundle.tar"
        tumortrace("pack", bundle, "-o", place)

    other = tumortrace("verify", place, "--key", keys / "other.pem")
    assert (other.code, other.out) == (2, "")
    assert f"{place / 'manifest.sig'}: is no signature" in other.err
    assert tumortrace("verify", place, "--key", keys / "private.pem").code == 2
    if packed:
        place.write_bytes(place.read_bytes()[:-1])
    else:
        (bundle / "model.onnx").write_bytes(b"")
    altered = tumortrace("verify", place)
    assert (altered.code, altered.out) == (2, "")
    assert str(place) in altered.err
    assert "Traceback" not in altered.err


def test_nothing_is_written_when_it_does_not_hold(
    tumortrace: Program, bundle: Path, keys: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "tiny.bundle.tar"
    assert tumortrace("pack", bundle, "-o", archive).code == 0
    assert tumortrace("unpack", archive, "-o", tmp_path / "back", "--key", keys / "public.pem").code == 2
    assert tumortrace("sign", archive, "--key", keys / "private.pem").code == 2
    (bundle / "model.onnx").write_bytes(b"")
    assert tumortrace("sign", bundle, "--key", keys / "private.pem").code == 2
    assert tumortrace("pack", bundle, "-o", tmp_path / "another.tar").code == 2
    assert {path.name for path in tmp_path.iterdir()} == {"tiny.bundle", "tiny.bundle.tar"}
    assert not (bundle / "manifest.sig").exists()


def test_commands_told_to_require_a_signature_refuse_without_one(
    tumortrace: Program, bundle: Path, tiny_data: Path, tiny_checkpoint: Path, keys: Path, tmp_path: Path
) -> None:
    scan = sorted((tiny_data / "phantoms").iterdir())[1]
    data = ("--data", tiny_data / "index.json", "--split", tiny_data / "split.json")
    key = ("--key", keys / "public.pem")
    for command in (
        ("segment", bundle, scan, "-o", tmp_path / "segmented"),
        ("evaluate", bundle, *data, "-o", tmp_path / "evaluated"),
        ("bench", "run", bundle, *data, "-o", tmp_path / "bench.json"),
        ("doctor", bundle),
    ):
        ended = tumortrace(*command, *key)
        assert (ended.code, ended.out) == (2, "")
        assert "is not signed" in ended.err
    checkpoint = tumortrace("evaluate", tiny_checkpoint, *data, "-o", tmp_path / "evaluated", *key)
    assert checkpoint.code == 2
    assert "is no bundle" in checkpoint.err
    assert list(tmp_path.iterdir()) == [bundle]
    assert "name the bundle" in tumortrace("doctor", *key).err

    tumortrace("sign", bundle, "--key", keys / "private.pem")
    assert tumortrace("segment", bundle, scan, "-o", tmp_path / "segmented", *key).code == 0
    assert tumortrace("doctor", bundle, *key).code == 0
