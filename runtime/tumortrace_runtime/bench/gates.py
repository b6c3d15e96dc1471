"""How much worse a result may be than its baseline."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from tumortrace_runtime.errors import InputError, SpecError
from tumortrace_runtime.settings import from_dict, require

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class Gates:
    """Limits; what is beyond one is a regression.

    Attributes:
        dice_drop: of the mean over cases.
        case_dice_drop: of one case.
        total_ratio: from files to files, new against baseline, in units of the reference workload.
        stage_ratio: of one stage, likewise.
        stage_least_ms: stages that take less than this in both are not looked at.
        first_mask_ratio: from a process's start to its first mask.
        own_memory_ratio: of the memory that a process takes at most, without the files that it maps.
        growth_mb: what a process may hold more after the slices over which it is watched.
        size_ratio: of the model's files.

    Raises:
        SpecError: a limit is out of range.
    """

    dice_drop: float
    case_dice_drop: float
    total_ratio: float
    stage_ratio: float
    stage_least_ms: float
    first_mask_ratio: float
    own_memory_ratio: float
    growth_mb: float
    size_ratio: float

    def __post_init__(self) -> None:
        for name in ("dice_drop", "case_dice_drop", "stage_least_ms", "growth_mb"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        for name in ("total_ratio", "stage_ratio", "first_mask_ratio", "own_memory_ratio", "size_ratio"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")


def read_gates(path: Path) -> Gates:
    """Limits from a TOML file.

    Raises:
        InputError: it cannot be read, or a limit is missing, unknown or out of range.
    """
    try:
        return from_dict(Gates, tomllib.loads(path.read_text()))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise InputError(f"{path}: cannot be read as TOML ({problem}).") from None
    except SpecError as problem:
        raise InputError(f"{path}: {problem}") from None
