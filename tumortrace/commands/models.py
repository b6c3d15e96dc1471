"""`tumortrace models`: which models are shipped, and can be named where a command takes a bundle."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from tumortrace_runtime.command import DonePartly

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tumortrace_runtime.models import ShippedModel


@click.command("models")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(as_json: bool) -> None:
    """List the shipped models: a NAME serves wherever a command takes a BUNDLE.

    The licence is that of the weights, which is not TumorTrace's.
    """
    from tumortrace_runtime.errors import BundleError
    from tumortrace_runtime.models import FOLDER_VARIABLE, model_folders, shipped_models

    listed, refused = [], []
    for model in shipped_models():
        try:
            listed.append(_values(model))
        except BundleError as problem:
            refused.append(str(problem))
    folders = [str(folder) for folder in model_folders()]
    if as_json:
        click.echo(json.dumps({"models": listed, "refused": refused, "folders": folders}))
    elif listed:
        click.echo(_table(listed))
    elif not refused:
        click.echo(f"no models in {' and '.join(folders) or 'any folder'}; {FOLDER_VARIABLE} names another folder")
    if refused:
        raise DonePartly("\n".join(refused))


def _values(model: ShippedModel) -> dict[str, Any]:
    from tumortrace_runtime.bundle import open_bundle

    opened = open_bundle(model.bundle)
    preferred = dict(opened.manifest["measurements"]["preferred"])
    test = (opened.manifest.get("test") or {}).get("accuracy", {})
    return {
        "name": model.name,
        "bundle": str(model.bundle),
        "size_bytes": sum(entry["size_bytes"] for entry in opened.manifest["files"].values()),
        "preferred": preferred,
        "test_dice": {name: accuracy["dice"] for name, accuracy in test.items()},
        "licence": model.licence,
    }


def _table(models: Sequence[dict[str, Any]]) -> str:
    from tumortrace_runtime.table import format_table

    rows = [
        (
            model["name"],
            f"{model['size_bytes'] / 1e6:.1f}",
            _engines_text(model),
            model["licence"] or "none found",
            model["bundle"],
        )
        for model in models
    ]
    return format_table(("name", "MB", "runs best, with Dice on test cases", "licence of the weights", "where"), rows)


def _engines_text(model: dict[str, Any]) -> str:
    chosen = [f"{backend} {precision}" for backend, precision in model["preferred"].items()]
    dice = model["test_dice"]
    return ", ".join(f"{name} {dice[name]:.4f}" if name in dice else f"{name} n/a" for name in chosen)
