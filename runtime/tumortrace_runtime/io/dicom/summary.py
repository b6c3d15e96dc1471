"""What a series says of itself in its header, as text, for rules and for those who name a series themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tumortrace_runtime.io.dicom.files import damage_told

_CLASSIC_NAMES = {"EffectiveEchoTime": "EchoTime", "InversionTimes": "InversionTime"}
"""What enhanced images call differently."""

_ENHANCED_SEQUENCES = {"SPIN": "SE", "GRADIENT": "GR", "BOTH": "SE\\GR"}
"""EchoPulseSequence of enhanced images as ScanningSequence."""

_SEQUENCES = ("SE", "IR", "GR", "EP", "RM")
"""The defined terms of ScanningSequence (PS3.3, section C.8.3.1)."""

_NOT_TEXT = ("SQ", "OB", "OW", "OF", "OD", "OL", "OV", "UN", "AT")


@dataclass(frozen=True)
class SeriesSummary:
    """A series as selection sees it.

    Attributes:
        values: keyword to values as text, of its first image: of its header, and where it is enhanced of the functional
            groups of its first frame, under the names that classic images have for them.
        slices: how many images or frames it has.
        unsuitable: why it cannot be a sequence of a scan at all, such as "is a secondary capture"; "" where it can.
    """

    values: Mapping[str, tuple[str, ...]]
    slices: int
    unsuitable: str = ""

    def text(self, keyword: str) -> str:
        """The values of an element, as DICOM writes them; "" where it is not there."""
        return "\\".join(self.values.get(keyword, ()))

    def number(self, keyword: str) -> float | None:
        """The first value of an element as a number; None where it is not there, or is none."""
        try:
            return float(self.values[keyword][0])
        except (KeyError, IndexError, ValueError):
            return None

    @property
    def name(self) -> str:
        """Its number, and what tells it from others without a word that somebody typed: that may name a patient."""
        times = [(short, self.number(keyword)) for short, keyword in _TIMES]
        told = ["/".join(value for value in self.values.get("ScanningSequence", ()) if value in _SEQUENCES)]
        told += [f"{short} {value:g}" for short, value in times if value is not None]
        told.append(f"{self.slices} slice{'' if self.slices == 1 else 's'}")
        number = self.number("SeriesNumber")
        uid_end = self.text("SeriesInstanceUID")[-12:]
        called = f"series …{uid_end}" if number is None else f"series {number:g}"
        return f"{called} ({', '.join(filter(None, told))})"


_TIMES = (("TR", "RepetitionTime"), ("TE", "EchoTime"), ("TI", "InversionTime"))


def summarise(header: Any, path: Path, *, instances: int, unsuitable: str) -> SeriesSummary:
    """The summary of a series.

    Args:
        header: of its first image.
        path: that image's file.
        instances: how many images it has.
        unsuitable: see `SeriesSummary`.

    Raises:
        ScanError: the header is damaged.
    """
    values: dict[str, tuple[str, ...]] = {}
    with damage_told(path):
        for dataset in _datasets(header):
            values |= dict(_values(dataset))
        if pulse := values.get("EchoPulseSequence"):
            sequence = _ENHANCED_SEQUENCES.get(pulse[0], pulse[0])
            inverted = values.get("InversionRecovery") == ("YES",)
            values.setdefault("ScanningSequence", (*sequence.split("\\"), *(["IR"] if inverted else [])))
        if header.get("ContrastBolusAgentSequence"):
            values.setdefault("ContrastBolusAgent", ("contrast agent",))
        slices = instances * int(header.get("NumberOfFrames") or 1)
    return SeriesSummary(values, slices, unsuitable)


def _datasets(header: Any) -> Iterator[Any]:
    """The functional groups of an enhanced image's first frame, and over them the header."""
    for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in (header.get(keyword) or [])[:1]:
            for element in group:
                if element.VR == "SQ" and len(element.value):
                    yield element.value[0]
    yield header


def _values(dataset: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
    for element in dataset:
        if element.keyword and element.VR not in _NOT_TEXT and element.value not in (None, ""):
            several = element.value if element.VM > 1 else [element.value]
            yield _CLASSIC_NAMES.get(element.keyword, element.keyword), tuple(str(value) for value in several)
