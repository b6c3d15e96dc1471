"""`tumortrace pack`: a bundle's folder in, one reproducible file out."""

from __future__ import annotations

import json
from pathlib import Path

import click

from tumortrace.commands.options import BUNDLE


@click.command("pack")
@click.argument("bundle", type=BUNDLE)
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="File to write, as NAME.bundle.tar.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(bundle: Path, out: Path, as_json: bool) -> None:
    """Verify BUNDLE and write it, with its signature where it has one, as one file: equal bundles, equal bytes."""
    from tumortrace_runtime.archive import pack
    from tumortrace_runtime.files import sha256_file

    pack(bundle, out)
    values = {"archive": str(out), "sha256": sha256_file(out), "size_bytes": out.stat().st_size}
    text = f"{out}: {values['size_bytes']} bytes, SHA-256 {values['sha256']}"
    click.echo(json.dumps(values) if as_json else text)
