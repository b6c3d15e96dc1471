"""`tumortrace sign`: a bundle gets a signature of its manifest."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("sign")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--key",
    "private_key",
    type=click.Path(path_type=Path),
    required=True,
    help="PEM file of the private Ed25519 key, as `openssl genpkey -algorithm ed25519` writes it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(bundle: Path, private_key: Path, as_json: bool) -> None:
    """Verify BUNDLE and write manifest.sig into it, by which `tumortrace verify --key` knows who signed."""
    from tumortrace_runtime.bundle import MANIFEST, open_bundle
    from tumortrace_runtime.signature import SIGNATURE, sign

    open_bundle(bundle)
    key_sha256 = sign(bundle, (bundle / MANIFEST).read_bytes(), private_key)
    values = {"signature": str(bundle / SIGNATURE), "key_sha256": key_sha256}
    click.echo(json.dumps(values) if as_json else f"{values['signature']}: signed by key {key_sha256}")
