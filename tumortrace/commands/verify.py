"""`tumortrace verify`: whether a bundle, or the archive of one, is whole, and who signed it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from tumortrace.commands.options import BUNDLE, key_option


@click.command("verify")
@click.argument("bundle", metavar="BUNDLE|ARCHIVE", type=BUNDLE)
@key_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(bundle: Path, public_key: Path | None, as_json: bool) -> None:
    """Check every hash, the contract and, with --key, the signature of a bundle; what does not hold is exit code 2.

    Runs no model: `tumortrace doctor BUNDLE` does.
    """
    with _folder(bundle, public_key) as folder:
        values = {"bundle": str(bundle), **_verified(folder, public_key)}
    click.echo(json.dumps(values) if as_json else "\n".join(_lines(values)))


@contextmanager
def _folder(bundle: Path, public_key: Path | None) -> Iterator[Path]:
    """The bundle's folder; a temporary one when it is an archive."""
    from tumortrace_runtime.archive import unpack

    if not bundle.is_file():
        yield bundle
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "bundle"
        unpack(bundle, folder, public_key=public_key)
        yield folder


def _verified(folder: Path, public_key: Path | None) -> dict[str, Any]:
    from tumortrace_runtime.bundle import open_bundle
    from tumortrace_runtime.signature import SIGNATURE, fingerprint

    opened = open_bundle(folder, public_key=public_key)
    return {
        "name": opened.name,
        "sha256": opened.sha256,
        "files": len(opened.manifest["files"]),
        "channels": opened.preprocessing.channels,
        "grid_px": opened.preprocessing.grid_px,
        "has_signature": (folder / SIGNATURE).is_file(),
        "signed_by": None if public_key is None else fingerprint(public_key),
    }


def _lines(values: dict[str, Any]) -> Iterator[str]:
    rows, columns = values["grid_px"]
    yield f"{values['bundle']}: bundle {values['name']} holds"
    yield f"  hashes     {values['files']} files and the manifest, {values['sha256']}"
    yield f"  contract   {', '.join(values['channels'])} on {rows} x {columns} px"
    yield f"  signature  {_signature_text(values)}"


def _signature_text(values: dict[str, Any]) -> str:
    if values["signed_by"]:
        return f"by key {values['signed_by']}"
    return "there, but not checked: --key PUBLIC.pem checks it" if values["has_signature"] else "none"
