"""The folder of long work, which is gone on with only by the work that it was begun for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tumortrace_runtime.errors import InputError, OutputError, SpecError
from tumortrace_runtime.files import read_json, write_json

DESCRIPTION = "config.json"
_MISSING = object()


def open_folder(out: Path, description: Mapping[str, Any], *, resume: bool) -> None:
    """Begin a run's folder with its `config.json`, or make sure that it is this run's.

    Args:
        out: the folder.
        description: all that decides what the run does, as JSON values.
        resume: whether the folder is there, and to be gone on with.

    Raises:
        OutputError: `out` exists and `resume` is false, or it cannot be written.
        SpecError: it was begun with another description.
        InputError: there is nothing to go on with, or its `config.json` is damaged.
    """
    if resume:
        refuse_another(out / DESCRIPTION, description)
    else:
        refuse_existing(out)
        write_json(out / DESCRIPTION, description)


def refuse_existing(out: Path) -> None:
    """Refuse to begin a run where something is already.

    Raises:
        OutputError: `out` exists.
    """
    if out.exists():
        raise OutputError(f"{out}: already exists; go on with --resume, or choose another name.")


def refuse_another(path: Path, description: Mapping[str, Any]) -> None:
    """Refuse to go on with what was begun with another description than the one in `path`.

    Raises:
        SpecError: they differ; the message names the settings.
        InputError: `path` is missing, or holds no JSON object.
    """
    if not path.exists():
        raise InputError(f"{path.parent}: holds no {path.name}, so there is nothing to resume; begin without --resume.")
    before = read_json(path)
    if not isinstance(before, Mapping):
        raise InputError(f"{path}: holds no JSON object; begin in another folder.")
    if changed := sorted(_differences(before, description)):
        raise SpecError(
            f"{path.parent}: was begun with another {', '.join(changed)}; resume with the same, or start anew."
        )


def _differences(before: Any, now: Any, place: str = "") -> Iterator[str]:
    """The keys, with dots between levels, whose values are not the same."""
    if not (isinstance(before, Mapping) and isinstance(now, Mapping)):
        if before != now:
            yield place
        return
    for key in sorted({*before, *now}):
        yield from _differences(before.get(key, _MISSING), now.get(key, _MISSING), f"{place}.{key}" if place else key)
