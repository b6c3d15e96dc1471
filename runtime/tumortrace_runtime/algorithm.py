"""What made a mask and what its classes mean, for formats that say so."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tumortrace_runtime.settings import require
from tumortrace_runtime.version import __version__

if TYPE_CHECKING:
    from tumortrace_runtime.bundle import Bundle
    from tumortrace_runtime.result import Result

SHORT, LONG = 16, 64
"""Characters that DICOM's value representations SH and LO hold (PS3.5, 6.2)."""


def plain_text(value: str) -> str:
    """A text that every format can hold: "_" for what is not printable ASCII, and for the backslash."""
    return "".join(letter if letter.isascii() and letter.isprintable() and letter != "\\" else "_" for letter in value)


def _require_text(setting: str, value: str, limit: int) -> None:
    fits = value.strip() != "" and len(value) <= limit and value == plain_text(value)
    require(fits, setting, value, f"1 to {limit} printable ASCII characters without a backslash")


@dataclass(frozen=True)
class Code:
    """A concept by its code (DICOM PS3.3, 8.8).

    Attributes:
        value: of the code, at most 16 characters.
        scheme: which scheme it is from, such as "SCT" for SNOMED CT, at most 16 characters.
        meaning: for people, at most 64 characters.
    """

    value: str
    scheme: str
    meaning: str

    def __post_init__(self) -> None:
        _require_text("Code.value", self.value, SHORT)
        _require_text("Code.scheme", self.scheme, SHORT)
        _require_text("Code.meaning", self.meaning, LONG)


@dataclass(frozen=True)
class Segment:
    """What a class of a mask is (DICOM PS3.3, C.8.20.4).

    Attributes:
        label: its name, at most 64 characters.
        category: what kind of property it is, of DICOM's context group 7150.
        type: the property itself, of context group 7151 or another that it names.
    """

    label: str
    category: Code
    type: Code

    def __post_init__(self) -> None:
        _require_text("Segment.label", self.label, LONG)


LESION = Segment(
    label="Lesion",
    category=Code("49755003", "SCT", "Morphologically Abnormal Structure"),
    type=Code("52988006", "SCT", "Lesion"),
)
"""What a mask shows where a bundle says nothing else: that tissue looks changed, which is no diagnosis."""


@dataclass(frozen=True)
class Algorithm:
    """What made a mask.

    Attributes:
        name, version: of the model: its bundle's name, and the hash of the bundle's manifest.
        parameters: whatever else the mask follows from, by name.
        segments: what the classes 1, 2, … of its masks are.
    """

    name: str
    version: str
    parameters: Mapping[str, str]
    segments: tuple[Segment, ...] = (LESION,)


def algorithm_of(bundle: Bundle, result: Result) -> Algorithm:
    """What made the mask of a result that came of a bundle."""
    rows, columns = result.network_px
    parameters = {
        "tumortrace": __version__,
        "model_sha256": result.model_sha256,
        "backend": result.backend,
        "device": result.device,
        "precision": result.precision,
        "executed_precision": result.executed_precision,
        "network_px": f"{rows}x{columns}",
    }
    return Algorithm(bundle.name, bundle.sha256, parameters, bundle.segments)


def fingerprint(algorithm: Algorithm) -> str:
    """Text that is the same for the same algorithm alone."""
    return json.dumps([algorithm.name, algorithm.version, dict(algorithm.parameters)], sort_keys=True)
