"""`tumortrace build-engine`: TensorRT engines, which run only on the kind of GPU that they were built on."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tumortrace.commands.options import BUNDLE, key_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tumortrace_runtime.backends.tensorrt_cache import Cached


@click.command("build-engine")
@click.argument("bundle", type=BUNDLE)
@click.option("--precision", help="fp16, int8, or both with a comma; else all that the bundle has.")
@click.option("--device", default="0", show_default=True, help="CUDA index of the GPU.")
@click.option("--cache", type=click.Path(path_type=Path), help="Folder of the engines; else the user's cache folder.")
@click.option("--rebuild", is_flag=True, help="Build also what the cache has.")
@key_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    bundle: Path,
    precision: str | None,
    device: str,
    cache: Path | None,
    rebuild: bool,
    public_key: Path | None,
    as_json: bool,
) -> None:
    """Build the TensorRT engines of BUNDLE for this machine's GPU, ahead of the first run that needs them.

    Engines are kept in a cache, and reused until model, TensorRT or GPU change.
    """
    from tumortrace_runtime.backends.cuda import find_device
    from tumortrace_runtime.backends.tensorrt_build import engine_for, tensorrt_package
    from tumortrace_runtime.backends.tensorrt_recipe import bundle_recipe, source_file
    from tumortrace_runtime.bundle import open_bundle

    folder, recipe = bundle_recipe(open_bundle(bundle, public_key=public_key))
    wanted = list(recipe.engines) if precision is None else [name.strip() for name in precision.split(",")]
    for name in wanted:  # before any of them takes minutes
        source_file(folder, recipe, name)
    gpu = find_device(device)
    tensorrt = str(tensorrt_package().__version__)
    built = {}
    for name in dict.fromkeys(wanted):
        built[name] = engine_for(folder, name, gpu, _report, cache=cache, rebuild=rebuild)
    following = _commands(bundle, list(built), device, cache)
    if as_json:
        engines = [_values(name, engine) for name, engine in built.items()]
        told = {"bundle": str(bundle), "device": gpu.name, "tensorrt": tensorrt, "engines": engines, "next": following}
        click.echo(json.dumps(told))
    else:
        click.echo(f"TensorRT {tensorrt} on {gpu.name}, compute capability {gpu.compute_capability}\n")
        click.echo("\n".join([_table(built), "", "next:", *(f"  {line}" for line in following)]))


def _report(line: str) -> None:
    click.echo(line, err=True)


def _commands(bundle: Path, precisions: Sequence[str], device: str, cache: Path | None) -> list[str]:
    """What to run next, ready to paste."""
    from tumortrace_runtime.backends.tensorrt_cache import FOLDER_VARIABLE

    where = "" if cache is None else f"{FOLDER_VARIABLE}={shlex.quote(str(cache.absolute()))} "
    named, engine = shlex.quote(str(bundle)), f"--backend tensorrt --device {device} --precision {precisions[-1]}"
    return [f"{where}tumortrace doctor {named}", f"{where}tumortrace segment {named} SCAN -o OUT {engine}"]


def _values(precision: str, engine: Cached[Any]) -> dict[str, Any]:
    return {
        "precision": precision,
        "reused": engine.reused,
        "build_s": engine.build_s,
        "size_bytes": engine.size_bytes,
        "path": str(engine.path),
    }


def _table(built: dict[str, Cached[Any]]) -> str:
    from tumortrace_runtime.table import format_table

    cells = [
        (
            precision,
            "reused" if engine.reused else "built",
            f"{engine.build_s:.1f}",
            f"{engine.size_bytes / 1e6:.1f}",
            str(engine.path),
        )
        for precision, engine in built.items()
    ]
    return format_table(("precision", "engine", "build s", "MB", "where"), cells)
