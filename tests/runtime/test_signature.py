"""A bundle that its key did not sign is refused, and every other kind of key is told what is wrong with it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from tumortrace_runtime import Segmenter
from tumortrace_runtime.bundle import MANIFEST, SEAL, open_bundle, seal_of
from tumortrace_runtime.doctor import diagnose
from tumortrace_runtime.errors import BundleError, InputError, OutputError
from tumortrace_runtime.files import sha256_bytes
from tumortrace_runtime.signature import SIGNATURE, SIGNATURE_BYTES, fingerprint, require_signature, sign

_MANIFEST = b'{"format": "tumortrace-bundle"}\n'

# RFC 8032, 7.1, test 2: secret key, message, signature.
_RFC_KEY = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"
_RFC_SIGNATURE = (
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)


@dataclass(frozen=True)
class Keys:
    private: Path
    public: Path


def write_keys(folder: Path, key: Ed25519PrivateKey) -> Keys:
    folder.mkdir(parents=True, exist_ok=True)
    keys = Keys(folder / "private.pem", folder / "public.pem")
    keys.private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    keys.public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return keys


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return write_keys(tmp_path_factory.mktemp("keys"), Ed25519PrivateKey.generate())


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return write_keys(tmp_path_factory.mktemp("others"), Ed25519PrivateKey.generate())


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A bundle that a test may change."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "tiny.bundle"))


@pytest.fixture
def signed(bundle: Path, keys: Keys) -> Path:
    sign(bundle, (bundle / MANIFEST).read_bytes(), keys.private)
    return bundle


def test_the_signature_is_that_of_rfc_8032(tmp_path: Path) -> None:
    keys = write_keys(tmp_path / "keys", Ed25519PrivateKey.from_private_bytes(bytes.fromhex(_RFC_KEY)))
    sign(tmp_path, b"\x72", keys.private)

    assert (tmp_path / SIGNATURE).read_bytes().hex() == _RFC_SIGNATURE


def test_keys_and_signatures_are_those_of_openssl(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on this machine")

    def openssl(*arguments: object) -> bytes:
        command = ["openssl", *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout

    openssl("genpkey", "-algorithm", "ed25519", "-out", "private.pem")
    openssl("pkey", "-in", "private.pem", "-pubout", "-out", "public.pem")
    (tmp_path / MANIFEST).write_bytes(_MANIFEST)
    (tmp_path / "public.der").write_bytes(openssl("pkey", "-pubin", "-in", "public.pem", "-outform", "DER"))

    key_sha256 = sign(tmp_path, _MANIFEST, tmp_path / "private.pem")
    assert key_sha256 == fingerprint(tmp_path / "public.pem")
    assert openssl("dgst", "-sha256", "-r", "public.der").decode().startswith(key_sha256)
    ours = (tmp_path / SIGNATURE).read_bytes()
    openssl("pkeyutl", "-sign", "-inkey", "private.pem", "-rawin", "-in", MANIFEST, "-out", "theirs")
    assert (tmp_path / "theirs").read_bytes() == ours
    require_signature(tmp_path, _MANIFEST, tmp_path / "public.pem")


def test_a_signed_bundle_opens_with_its_key_and_without(signed: Path, keys: Keys) -> None:
    assert (signed / SIGNATURE).stat().st_size == SIGNATURE_BYTES
    assert open_bundle(signed, public_key=keys.public) == open_bundle(signed)


def test_a_bundle_without_a_signature_is_refused(bundle: Path, keys: Keys) -> None:
    with pytest.raises(BundleError, match=r"tiny\.bundle: is not signed: manifest\.sig is missing"):
        open_bundle(bundle, public_key=keys.public)


def test_another_key_is_refused_by_its_fingerprint(signed: Path, others: Keys) -> None:
    told = (
        rf"manifest\.sig: is no signature of this manifest by {others.public} \(key {fingerprint(others.public)[:16]}"
    )
    with pytest.raises(BundleError, match=told):
        open_bundle(signed, public_key=others.public)


def test_a_manifest_altered_and_sealed_anew_is_refused(signed: Path, keys: Keys) -> None:
    altered = (signed / MANIFEST).read_bytes().replace(b'"threshold": 0.5', b'"threshold": 0.9')
    (signed / MANIFEST).write_bytes(altered)
    (signed / SEAL).write_bytes(seal_of(sha256_bytes(altered)))

    assert open_bundle(signed).postprocessing.threshold == 0.9
    with pytest.raises(BundleError, match=r"manifest\.sig: is no signature of this manifest"):
        open_bundle(signed, public_key=keys.public)


@given(position=st.integers(0, SIGNATURE_BYTES - 1), flip=st.integers(1, 255))
def test_any_flipped_bits_of_a_signature_are_refused(
    position: int, flip: int, keys: Keys, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("flipped", numbered=True)
    sign(folder, _MANIFEST, keys.private)
    flipped = bytearray((folder / SIGNATURE).read_bytes())
    flipped[position] ^= flip
    (folder / SIGNATURE).write_bytes(flipped)
    with pytest.raises(BundleError, match="is no signature of this manifest"):
        require_signature(folder, _MANIFEST, keys.public)


@pytest.mark.parametrize("content", [b"", b"\0" * 63, b"\0" * 64, b"\0" * 65, b"-----BEGIN SIGNATURE-----"])
def test_what_is_no_signature_is_refused(content: bytes, keys: Keys, tmp_path: Path) -> None:
    (tmp_path / SIGNATURE).write_bytes(content)
    with pytest.raises(BundleError, match="is no signature of this manifest"):
        require_signature(tmp_path, _MANIFEST, keys.public)


def test_signing_again_changes_nothing_and_another_signature_is_kept(signed: Path, keys: Keys, others: Keys) -> None:
    before = (signed / SIGNATURE).read_bytes()
    manifest = (signed / MANIFEST).read_bytes()
    assert sign(signed, manifest, keys.private) == fingerprint(keys.public)
    with pytest.raises(OutputError, match=r"manifest\.sig: is there, but not by"):
        sign(signed, manifest, others.private)

    assert (signed / SIGNATURE).read_bytes() == before


def pem_of_private(key: ec.EllipticCurvePrivateKey | ed448.Ed448PrivateKey | x25519.X25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def pem_of_public(key: rsa.RSAPublicKey | ed448.Ed448PublicKey | x25519.X25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def encrypted() -> bytes:
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (lambda: pem_of_private(ec.generate_private_key(ec.SECP256R1())), "another kind.*genpkey -algorithm ed25519"),
        (lambda: pem_of_private(ed448.Ed448PrivateKey.generate()), "another kind"),
        (lambda: pem_of_private(x25519.X25519PrivateKey.generate()), "another kind"),
        (encrypted, r"is encrypted; decrypt it first: openssl pkey -in .*key\.pem -out plain\.pem"),
        (lambda: b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", r"can be read \(PRIVATE KEY\)"),
        (lambda: b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", r"can be read \(CERTIFICATE\)"),
        (lambda: bytes(range(256)), "is no key in PEM"),
        (lambda: b"", "is no key in PEM"),
    ],
)
def test_what_is_no_private_key_is_refused(content: Callable[[], bytes], told: str, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(content())
    with pytest.raises(InputError, match=rf"key\.pem: .*{told}"):
        sign(tmp_path, _MANIFEST, tmp_path / "key.pem")

    assert not (tmp_path / SIGNATURE).exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (lambda: pem_of_public(rsa.generate_private_key(65537, 2048).public_key()), "another kind.*pkey -pubout"),
        (lambda: pem_of_public(ed448.Ed448PrivateKey.generate().public_key()), "another kind"),
        (lambda: pem_of_public(x25519.X25519PrivateKey.generate().public_key()), "another kind"),
        (encrypted, "is a private key"),
        (lambda: b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", r"can be read \(PUBLIC KEY\)"),
        (lambda: b"ssh-ed25519 AAAA me@here", "is no key in PEM"),
    ],
)
def test_what_is_no_public_key_is_refused(content: Callable[[], bytes], told: str, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(content())
    with pytest.raises(InputError, match=rf"key\.pem: .*{told}"):
        require_signature(tmp_path, _MANIFEST, tmp_path / "key.pem")


def test_each_half_in_the_place_of_the_other_is_told(keys: Keys, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is a private key.*openssl pkey -in .*private\.pem -pubout"):
        require_signature(tmp_path, _MANIFEST, keys.private)
    with pytest.raises(InputError, match="is a public key; the private key wanted"):
        sign(tmp_path, _MANIFEST, keys.public)


@pytest.mark.parametrize("name", ["none.pem", "."])
def test_a_key_that_cannot_be_read_is_told(name: str, bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        open_bundle(bundle, public_key=tmp_path / name)


def test_without_cryptography_bundles_open_and_signatures_ask_for_it(
    signed: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "cryptography"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)

    assert open_bundle(signed).name == "tiny"
    with pytest.raises(InputError, match=r"cryptography is not installed: pip install 'tumortrace\[sign\]'"):
        open_bundle(signed, public_key=keys.public)


def test_a_runtime_told_to_require_a_signature_refuses_without_one(signed: Path, keys: Keys, others: Keys) -> None:
    load = partial(Segmenter, backend="onnxruntime", precision="fp32")
    opened = open_bundle(signed)
    for bundle in (signed, str(signed), opened):
        with load(bundle, public_key=keys.public) as segmenter:
            assert segmenter.bundle.sha256 == opened.sha256
        with pytest.raises(BundleError, match="is no signature"):
            load(bundle, public_key=others.public)
    (signed / SIGNATURE).unlink()
    for bundle in (signed, str(signed), opened):
        with pytest.raises(BundleError, match="is not signed"):
            load(bundle, public_key=keys.public)
    with pytest.raises(BundleError, match="is not signed"):
        diagnose(signed, keys.public)
