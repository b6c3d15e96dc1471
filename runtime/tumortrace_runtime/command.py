"""How `tumortrace`, `tumortrace-export` and `tumortrace-qat` end: messages on stderr and exit codes.

0 done, 1 internal error (a traceback), 2 wrong input or usage, 3 accuracy not reached, 5 done in part; 130 after
Ctrl-C, as shells have it. Where the reader of the output went away, click ends the program with 1 and no message.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from typing import NoReturn

import click

from tumortrace_runtime.errors import OutputError, TumorTraceError
from tumortrace_runtime.files import spelled_out
from tumortrace_runtime.libraries import is_optional, missing_library

INTERRUPTED = 130


class DonePartly(TumorTraceError):  # noqa: N818 - an outcome more than an error
    """The work is done, except for some inputs that were refused; the message names each and says why."""

    exit_code = 5


def run(command: click.Command, program: str, *, extra: str | None = None) -> NoReturn:
    """Run `command` on the process's arguments and end the process with the exit code that its outcome stands for.

    Args:
        command: the program's outermost click command.
        program: the name that usage lines show.
        extra: the extra to name when any optional library is missing, for a program that needs one extra as a whole.
    """
    signal.signal(signal.SIGTERM, _end)  # as an exception, so that what is half-written is taken away
    sys.exit(_exit_code(command, program, extra))


def _end(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


def _exit_code(command: click.Command, program: str, extra: str | None) -> int:
    try:
        outcome = command.main(prog_name=program, standalone_mode=False)
    except TumorTraceError as problem:
        click.echo(f"Error: {spelled_out(str(problem))}", err=True)
        return problem.exit_code
    except click.ClickException as problem:
        problem.show()
        return click.UsageError.exit_code
    except click.Abort:
        return INTERRUPTED
    except ModuleNotFoundError as problem:
        library = (problem.name or "").partition(".")[0]
        if not is_optional(library):
            raise
        click.echo(f"Error: {missing_library(problem, library, extra)}", err=True)
        return click.UsageError.exit_code
    except OSError as problem:
        if not _was_printing(problem):
            raise
        _drop_output()
        click.echo(f"Error: what was to be printed cannot be written ({problem.strerror}); make room for it.", err=True)
        return OutputError.exit_code
    return outcome if isinstance(outcome, int) else 0


def _was_printing(problem: OSError) -> bool:
    """Whether it was click's writing that failed, such as to a file on a full disk, and not a file of ours."""
    frames = [frame for frame, _ in traceback.walk_tb(problem.__traceback__)]
    return frames[-1].f_globals.get("__name__") == click.echo.__module__


def _drop_output() -> None:
    """Have what standard output still holds go nowhere, where Python would try to write it at its end once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
