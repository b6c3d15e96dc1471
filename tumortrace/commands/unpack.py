"""`tumortrace unpack`: an archive in, the verified folder of a bundle out."""

from __future__ import annotations

import json
from pathlib import Path

import click

from tumortrace.commands.options import key_option


@click.command("unpack")
@click.argument("archive", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Folder to make.")
@key_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(archive: Path, out: Path, public_key: Path | None, as_json: bool) -> None:
    """Make the bundle's folder of ARCHIVE, verified before it gets its name, or nothing."""
    from tumortrace_runtime.archive import unpack

    unpack(archive, out, public_key=public_key)
    click.echo(json.dumps({"bundle": str(out)}) if as_json else f"{out}: unpacked and verified")
