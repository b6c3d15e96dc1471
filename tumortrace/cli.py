"""The program `tumortrace`: a table of commands, each loaded only when it is used."""

from __future__ import annotations

import importlib
from typing import NoReturn

import click

from tumortrace_runtime.command import run
from tumortrace_runtime.version import __version__

# Name: the line that help shows; the command is `command` in tumortrace.commands.<name>, with _ for -.
COMMANDS = {
    "prepare": "Scan and validate a data set and record every case.",
    "split": "Divide an index by patient into train, val and test, and into folds.",
    "phantom": "Make brain-like scans with known lesions.",
    "train": "Train a U-Net.",
    "tune": "Search settings that train better.",
    "crossval": "Train and test a model on every fold of a split.",
    "calibrate": "Choose post-processing, calibrate probabilities and learn which scans are unfamiliar.",
    "evaluate": "Score a checkpoint on the cases of a split.",
    "compare": "Say whether one of two evaluations is better by more than chance.",
    "segment": "Segment scans with a bundle.",
    "models": "List the models that can be named in place of a bundle.",
    "verify": "Check that a bundle or an archive is whole and, with a key, who signed it.",
    "sign": "Sign a bundle with an Ed25519 key.",
    "pack": "Write a bundle as one reproducible file.",
    "unpack": "Make the folder of a packed bundle.",
    "bench": "Measure how fast a bundle runs on this machine.",
    "build-engine": "Build the TensorRT engines of a bundle for this machine's GPU.",
    "doctor": "Say what this machine can run, and how to install what is missing.",
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"tumortrace.commands.{cmd_name.replace('-', '_')}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=_LazyGroup, epilog="Research software, not a medical device.")
@click.version_option(__version__, message="%(prog)s %(version)s")
def command() -> None:
    """Brain-tumour segmentation on MRI: train, export once, run at INT8 beside the scanner."""


def main() -> NoReturn:
    """Entry point of the console script."""
    run(command, "tumortrace")
