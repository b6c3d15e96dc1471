"""Who vouches for a bundle: an Ed25519 signature (RFC 8032) of its manifest, whose hashes cover all else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from tumortrace_runtime.errors import BundleError, InputError, OutputError
from tumortrace_runtime.files import sha256_bytes, write_bytes
from tumortrace_runtime.libraries import import_library

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SIGNATURE = "manifest.sig"
"""The file beside the manifest that holds its signature: the 64 bytes as they are."""

SIGNATURE_BYTES = 64

_PRIVATE_WANTED = "a key as `openssl genpkey -algorithm ed25519` writes it wanted."
_PUBLIC_WANTED = "an Ed25519 key as `openssl pkey -pubout` writes it wanted."

_LABEL = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----")


def sign(folder: Path, manifest: bytes, private_key: Path) -> str:
    """Sign a bundle.

    Args:
        folder: the bundle's, which gets the file `manifest.sig`.
        manifest: the bytes of its `manifest.json`; the bundle was verified.
        private_key: PEM file, as `openssl genpkey -algorithm ed25519` writes it.

    Returns:
        The fingerprint of the key's public half.

    Raises:
        InputError: the key cannot be read, is of another kind, public or encrypted, or cryptography is not installed.
        OutputError: the signature cannot be written, or another one is there.
    """
    key = _load_private(private_key)
    signature = key.sign(manifest)
    place = folder / SIGNATURE
    if place.exists() and place.read_bytes() != signature:
        raise OutputError(f"{place}: is there, but not by {private_key} of this manifest; remove it to sign anew.")
    write_bytes(place, signature)
    return _fingerprint(key.public_key())


def require_signature(folder: Path, manifest: bytes, public_key: Path) -> None:
    """Refuse a bundle that the owner of a key did not sign.

    Args:
        folder: the bundle's.
        manifest: the bytes of its `manifest.json`.
        public_key: PEM file, as `openssl pkey -pubout` writes it.

    Raises:
        BundleError: there is no signature, or it is not one of this manifest by this key.
        InputError: the key cannot be read, is of another kind or private, or cryptography is not installed.
    """
    key = _load_public(public_key)
    from cryptography.exceptions import InvalidSignature

    place = folder / SIGNATURE
    if not place.is_file():
        raise BundleError(f"{folder}: is not signed: {SIGNATURE} is missing, and {public_key} is to have signed it.")
    try:
        key.verify(place.read_bytes(), manifest)
    except InvalidSignature as problem:
        raise BundleError(
            f"{place}: is no signature of this manifest by {public_key} (key {_fingerprint(key)[:16]}…): the bundle "
            "was altered, or signed by somebody else."
        ) from problem


def fingerprint(public_key: Path) -> str:
    """The SHA-256, as 64 hex digits, of a public key in DER: `openssl pkey -pubin -outform DER | sha256sum`.

    Raises:
        InputError: the key cannot be used.
    """
    return _fingerprint(_load_public(public_key))


def _fingerprint(key: Ed25519PublicKey) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return sha256_bytes(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def _load_public(path: Path) -> Ed25519PublicKey:
    pem, label = _read_pem(path)
    if label.endswith("PRIVATE KEY"):
        raise InputError(
            f"{path}: is a private key, which stays with who signs; its public half wanted: "
            f"openssl pkey -in {path} -pubout -out public.pem"
        )
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as problem:
        raise InputError(f"{path}: holds no public key that can be read ({label}); {_PUBLIC_WANTED}") from problem
    if not isinstance(key, Ed25519PublicKey):
        raise InputError(f"{path}: is a key of another kind; {_PUBLIC_WANTED}")
    return key


def _load_private(path: Path) -> Ed25519PrivateKey:
    pem, label = _read_pem(path)
    if label.endswith("PUBLIC KEY"):
        raise InputError(f"{path}: is a public key; the private key wanted, which alone can sign.")
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError as problem:  # how cryptography says that a password is wanted
        raise InputError(f"{path}: is encrypted; decrypt it first: openssl pkey -in {path} -out plain.pem") from problem
    except (ValueError, UnsupportedAlgorithm) as problem:
        raise InputError(f"{path}: holds no private key that can be read ({label}); {_PRIVATE_WANTED}") from problem
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"{path}: is a key of another kind; {_PRIVATE_WANTED}")
    return key


def _read_pem(path: Path) -> tuple[bytes, str]:
    """A PEM file and what it calls its content; cryptography is there to read it."""
    import_library("cryptography")
    try:
        pem = path.read_bytes()
    except OSError as problem:
        raise InputError(f"{path}: cannot be read ({problem.strerror}).") from problem
    label = _LABEL.search(pem)
    if label is None:
        raise InputError(f"{path}: is no key in PEM; an Ed25519 key wanted.")
    return pem, label.group(1).decode()
