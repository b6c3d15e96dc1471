"""What several commands share: the options that choose data, an engine or hardware, and the progress bar."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click
from click.core import ParameterSource

from tumortrace_runtime.files import read_json
from tumortrace_runtime.models import find_bundle

if TYPE_CHECKING:
    from tumortrace.config import TrainConfig

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., None])


class _BundlePath(click.Path):
    """A bundle's folder, or the name of a shipped model, which becomes its folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        return find_bundle(cast(Path, super().convert(value, param, ctx)))


_PATH = click.Path(path_type=Path)

BUNDLE = _BundlePath(path_type=Path)
"""The type of a command's argument that is a bundle, by path or by name."""


def data_options(command: F) -> F:
    """Add --data and --split, named `index_path` and `split_path`."""
    return _with(
        command,
        click.option("--data", "index_path", type=_PATH, required=True, help="Index of the cases."),
        click.option("--split", "split_path", type=_PATH, required=True, help="Split made of the index."),
    )


def own_data_options(command: F) -> F:
    """Add --data, --split and --fold, which must be what CHECKPOINT was trained on."""
    return _with(
        command,
        click.option("--data", "index_path", type=_PATH, required=True, help="Index of the cases."),
        click.option("--split", "split_path", type=_PATH, required=True, help="Split of the training."),
        click.option("--fold", type=int, help="The fold that the checkpoint was trained on, if it was one."),
    )


def training_fold_option(command: F) -> F:
    """Add --fold, which part of the split to train on."""
    return click.option("--fold", type=int, help="Train on this fold (from 0) instead of the fixed split.")(command)


def part_options(command: F) -> F:
    """Add --part and --fold, which say the cases to measure on."""
    parts = click.Choice(["train", "val", "test"])
    return _with(
        command,
        click.option("--part", type=parts, default="test", show_default=True, help="Of the split."),
        click.option("--fold", type=int, help="The part of this fold (from 0) instead of the fixed split's."),
    )


def config_options(command: F) -> F:
    """Add --config and --set, named `config_path` and `overrides` as `read_config` takes them."""
    return _with(
        command,
        click.option("--config", "config_path", type=_PATH, help="Configuration as JSON."),
        click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a setting, as epochs=20."),
    )


def read_config(config_path: Path | None, overrides: Iterable[str]) -> TrainConfig:
    """The configuration that --config and --set make together.

    Raises:
        InputError: the file is missing or no JSON.
        SpecError: a setting does not exist, or its value does not hold.
    """
    from tumortrace.config import build_config

    return build_config(read_json(config_path) if config_path else {}, overrides)


def accelerator_option(command: F) -> F:
    """Add --accelerator, as `tumortrace.hardware.open_fabric` takes it."""
    text = "cpu, cuda or mps; auto takes a GPU."
    return click.option("--accelerator", default="auto", show_default=True, help=text)(command)


def engine_options(command: F) -> F:
    """Add --backend, --device, --precision, --threads and --crop, named as `Segmenter` takes them."""
    return _with(
        command,
        click.option("--backend", default="openvino", show_default=True, help="openvino, onnxruntime or tensorrt."),
        click.option("--device", help="By the engine's own name, such as GPU or CUDAExecutionProvider; else its CPU."),
        click.option("--precision", help="fp32, fp16, bf16 or int8.  [default: what BUNDLE prefers]"),
        click.option("--threads", type=click.IntRange(min=1), help="CPU threads; else the engine's choice."),
        click.option("--crop", is_flag=True, help="Leave margins without head out (OpenVINO): faster, slightly other."),
    )


def refuse_given(options: Iterable[str], why: str) -> None:
    """Refuse options of the command that runs, by their parameters' names, where they stand on the command line.

    Raises:
        click.UsageError: one does; `why` says what is wrong with it.
    """
    context = click.get_current_context()
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in options and source is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{parameter.opts[0]}: {why}.")


def key_option(command: F) -> F:
    """Add --key, the public key that must have signed the bundle, named `public_key` as the runtime takes it."""
    text = "PEM file of the public Ed25519 key that must have signed BUNDLE; else no signature is asked for."
    return click.option("--key", "public_key", type=click.Path(path_type=Path), help=text)(command)


def hardware_options(command: F) -> F:
    """Add --accelerator and --devices, named as `tumortrace.hardware.open_fabric` takes them."""
    return _with(
        command,
        accelerator_option,
        click.option("--devices", type=click.IntRange(min=1), default=1, show_default=True, help="Share each batch."),
    )


def progress_bar(items: Sequence[T], label: str) -> AbstractContextManager[Iterable[T]]:
    """A bar on stderr that goes along with an iteration over `items`; none where stderr is no terminal."""
    is_shown = sys.stderr is not None and sys.stderr.isatty()
    return click.progressbar(items, label=label, file=sys.stderr, hidden=not is_shown)


def _with(command: F, *options: Callable[[F], F]) -> F:
    """The command with options that `--help` lists in this order."""
    for option in reversed(options):
        command = option(command)
    return command
