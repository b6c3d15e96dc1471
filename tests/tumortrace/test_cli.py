from __future__ import annotations

import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tumortrace.cli import COMMANDS
from tumortrace_runtime.version import __version__

_PROLOGUE = """
import sys, os, signal, click
from tumortrace_runtime.command import DonePartly, run
from tumortrace_runtime.errors import AccuracyError, ScanError
@click.command()
def command():
    {body}
run(command, "program", **{options})
"""


def execute(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)


def tumortrace(*arguments: str) -> subprocess.CompletedProcess[str]:
    return execute("-c", "from tumortrace.cli import main; main()", *arguments)


def program(body: str, **options: str) -> subprocess.CompletedProcess[str]:
    return execute("-c", _PROLOGUE.format(body=body, options=options))


def test_help_names_every_command_and_the_intended_use() -> None:
    done = tumortrace("--help")
    assert done.returncode == 0
    assert "Research software, not a medical device." in done.stdout
    assert all(f"  {name} " in done.stdout for name in COMMANDS)


def test_help_loads_nothing_heavy() -> None:
    watch = """
import atexit, sys
heavy = {"torch", "openvino", "onnxruntime", "cv2", "numpy"}
atexit.register(lambda: print(heavy & set(sys.modules), file=sys.stderr))
from tumortrace.cli import main
main()
"""
    assert execute("-c", watch, "--help").stderr.strip() == "set()"


def test_version_is_the_distributions() -> None:
    assert tumortrace("--version").stdout == f"tumortrace {__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_table_is_there(name: str) -> None:
    done = tumortrace(name, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Usage: tumortrace {name} ")


def test_an_unknown_command_is_wrong_usage() -> None:
    done = tumortrace("operate")
    assert done.returncode == 2
    assert "No such command 'operate'" in done.stderr


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ("raise ScanError('scan.nii: is empty.')", 2, "Error: scan.nii: is empty.\n"),
        ("raise AccuracyError('Dice 0.7; 0.8 wanted.')", 3, "Error: Dice 0.7; 0.8 wanted.\n"),
        ("raise DonePartly('1 of 3 refused.')", 5, "Error: 1 of 3 refused.\n"),
        ("raise click.FileError('scan.nii', 'is gone')", 2, "Error: Could not open file 'scan.nii': is gone\n"),
        ("pass", 0, ""),
    ],
)
def test_an_outcome_is_a_message_and_an_exit_code(body: str, code: int, message: str) -> None:
    done = program(body)
    assert (done.returncode, done.stderr) == (code, message)


def test_an_internal_error_keeps_its_traceback() -> None:
    done = program("1 / 0")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ZeroDivisionError" in done.stderr


def test_ctrl_c_ends_with_130() -> None:
    done = program("os.kill(os.getpid(), signal.SIGINT); signal.pause()")
    assert done.returncode == 130
    assert "Traceback" not in done.stderr


def test_a_reader_that_goes_away_is_no_error_message() -> None:
    code = _PROLOGUE.format(body="[click.echo('x' * 1000) for _ in range(10_000)]", options={})
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="not run: no /dev/full")
def test_output_that_cannot_be_written_is_an_error_and_no_traceback() -> None:
    code = _PROLOGUE.format(body="click.echo('mask.nii.gz')", options={})
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        "Error: what was to be printed cannot be written (No space left on device); make room for it.\n"
    )


BAR = "from tumortrace.commands.options import progress_bar\nwith progress_bar([1, 2], 'cases') as bar: list(bar)"


def test_a_bar_is_drawn_on_a_terminal() -> None:
    terminal, end = pty.openpty()
    subprocess.run([sys.executable, "-c", BAR], stderr=end, check=True)
    os.close(end)
    assert b"cases" in os.read(terminal, 1 << 16)
    os.close(terminal)


@pytest.mark.parametrize("stderr", ["2>&1 | cat", "2>&-"])
def test_a_bar_is_not_drawn_elsewhere(stderr: str) -> None:
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(BAR)} {stderr}"
    done = subprocess.run(["/bin/bash", "-o", "pipefail", "-c", command], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"")


def test_an_error_of_the_system_elsewhere_keeps_its_traceback() -> None:
    done = program("open('/nowhere/at/all')")
    assert done.returncode == 1
    assert "FileNotFoundError" in done.stderr


@pytest.mark.parametrize(
    ("library", "distribution", "options", "extra"),
    [
        ("nibabel", "nibabel", {}, "nifti"),
        ("cv2", "opencv-python-headless", {}, "train"),
        ("torch", "torch", {}, "train"),
        ("torch", "torch", {"extra": "export"}, "export"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(
    library: str, distribution: str, options: dict[str, str], extra: str
) -> None:
    done = program(f"sys.modules[{library!r}] = None; import {library}.any", **options)
    assert (done.returncode, done.stderr) == (
        2,
        f"Error: {distribution} is not installed: pip install 'tumortrace[{extra}]'\n",
    )


def test_a_missing_module_of_ours_is_an_internal_error() -> None:
    done = program("import tumortrace.nothing")
    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr
