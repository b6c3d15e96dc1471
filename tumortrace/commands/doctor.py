"""`tumortrace doctor`: what this machine can run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from tumortrace.commands.options import BUNDLE, key_option
from tumortrace_runtime.backends.backend import Layer, mac_share
from tumortrace_runtime.doctor import Diagnosis, Engine, Trial, diagnose
from tumortrace_runtime.machine import Machine
from tumortrace_runtime.table import format_table


@click.command("doctor")
@click.argument("bundle", type=BUNDLE, required=False)
@key_option
@click.option("--layers", is_flag=True, help="Show what each layer of BUNDLE's models runs in.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(bundle: Path | None, public_key: Path | None, layers: bool, as_json: bool) -> None:
    """Say what this machine can run and how to install what is missing; with BUNDLE, try each of its models."""
    if public_key is not None and bundle is None:
        raise click.UsageError("--key says who must have signed BUNDLE; name the bundle.")
    if layers and bundle is None:
        raise click.UsageError("--layers shows those of BUNDLE; name the bundle.")
    diagnosis = diagnose(bundle, public_key)
    if as_json:
        click.echo(json.dumps(diagnosis.to_dict(), indent=1))
    else:
        click.echo("\n".join((*_lines(diagnosis), *(_layer_lines(diagnosis.trials) if layers else ()))))


def _lines(diagnosis: Diagnosis) -> Iterator[str]:
    yield from _machine_lines(diagnosis.machine)
    yield ""
    for engine in diagnosis.engines:
        yield f"{engine.name:<17}{_engine_text(engine)}"
    for name, version in diagnosis.libraries.items():
        yield f"{name:<17}{version or 'missing'}"
    if diagnosis.bundle is not None:
        yield f"\nbundle {diagnosis.bundle}, each model on the engine's default device:"
        yield from (f"  {trial.backend:<13}{trial.precision:<11}{_trial_text(trial)}" for trial in diagnosis.trials)
    if diagnosis.warnings:
        yield ""
        yield from (f"Warning: {warning}" for warning in diagnosis.warnings)
    if diagnosis.advice:
        yield "\nmissing:"
        yield from (f"  {item.missing} ({item.serves})\n    {item.install}" for item in diagnosis.advice)


def _machine_lines(machine: Machine) -> Iterator[str]:
    cpu = machine.cpu
    yield f"CPU              {cpu.model or 'unknown'} ({cpu.architecture}, {cpu.threads} threads)"
    yield f"instructions     {' '.join(cpu.features) or 'none that matter'}"
    yield f"INT8 dot product {'yes' if cpu.int8_dot_product else 'no'}"
    if machine.memory_bytes is not None:
        yield f"memory           {machine.memory_bytes / 2**30:.1f} GiB"
    yield f"Intel GPU        {'yes' if machine.intel_gpu else 'none'}"
    yield f"Intel NPU        {'yes' if machine.intel_npu else 'none'}"
    yield f"NVIDIA GPU       {_nvidia_text(machine)}"


def _nvidia_text(machine: Machine) -> str:
    parts = [
        machine.jetson,
        machine.nvidia_driver and f"driver {machine.nvidia_driver}",
        machine.cuda and f"CUDA {machine.cuda}",
    ]
    return ", ".join(part for part in parts if part) or "none"


def _engine_text(engine: Engine) -> str:
    return f"{engine.version}  {' '.join(engine.devices)}".rstrip() if engine.version else engine.problem


def _trial_text(trial: Trial) -> str:
    if trial.problem:
        return f"cannot be used: {trial.problem}"
    golden = "no self-test" if trial.golden_dice is None else f"self-test Dice {trial.golden_dice:.4f}"
    share = 100 * mac_share(trial.layers, trial.executed_precision)
    extent = f" ({share:.1f} % of multiply-accumulates)" if trial.layers else ""
    return f"runs in {trial.executed_precision}{extent}, {golden}"


def _layer_lines(trials: Sequence[Trial]) -> Iterator[str]:
    """A table for each precision that was asked for, the engines side by side."""
    for precision in dict.fromkeys(trial.precision for trial in trials):
        if tried := [trial for trial in trials if trial.precision == precision and trial.layers]:
            yield f"\nasked for {precision}, each layer runs in:"
            yield _layer_table(tried)


def _layer_table(trials: Sequence[Trial]) -> str:
    columns = [{_layer_text(layer): layer.precision for layer in trial.layers} for trial in trials]
    rows = dict.fromkeys(text for column in columns for text in column)
    headings = ("layer", "kind", "MMACs", *(trial.backend for trial in trials))
    return format_table(headings, [(*text, *(column.get(text, "") for column in columns)) for text in rows])


def _layer_text(layer: Layer) -> tuple[str, str, str]:
    return layer.name, layer.kind, f"{layer.macs / 1e6:.2f}"
