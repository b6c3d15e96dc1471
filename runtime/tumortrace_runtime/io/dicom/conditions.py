"""Naming a series oneself: `TAG=VALUE` or `TAG~PATTERN`, where TAG is a keyword of the DICOM dictionary."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from tumortrace_runtime.errors import ScanError
from tumortrace_runtime.io.dicom.summary import SeriesSummary
from tumortrace_runtime.libraries import import_library

_CONDITION = re.compile(r"(?P<keyword>[A-Za-z][A-Za-z0-9]*)(?P<sign>[=~])(?P<wanted>.+)", re.DOTALL)
_ASSIGNMENT = re.compile(r"(?P<channel>[A-Za-z][A-Za-z0-9_]*)=(?P<condition>.+)", re.DOTALL)


@dataclass(frozen=True)
class Condition:
    """What a series' header must say.

    Attributes:
        keyword: such as "SeriesDescription".
        sign: "=" where the element, or one of its values, must be `wanted`, numbers being equal as numbers; "~" where
            `wanted` is a regular expression that must be found in it, in any case.
        wanted: see `sign`.
    """

    keyword: str
    sign: str
    wanted: str

    def holds(self, series: SeriesSummary) -> bool:
        """Whether a series' header says so."""
        whole = series.text(self.keyword)
        if self.sign == "~":
            return re.search(self.wanted, whole, re.IGNORECASE) is not None
        return any(_same(value, self.wanted) for value in (whole, *series.values.get(self.keyword, ())))

    def __str__(self) -> str:
        return f"{self.keyword}{self.sign}{self.wanted}"


def parse_condition(text: str) -> Condition:
    """A condition as it is written: "SeriesDescription~FLAIR", "SeriesNumber=5".

    Raises:
        ScanError: it is none, has no keyword of DICOM's dictionary, or its regular expression does not hold.
        InputError: pydicom, which has the dictionary, is not installed.
    """
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise ScanError(f"{text!r} names no series; TAG=VALUE or TAG~PATTERN is wanted, as SeriesDescription~FLAIR.")
    _check_keyword(found["keyword"], text)
    if found["sign"] == "~":
        try:
            re.compile(found["wanted"])
        except re.error as problem:
            raise ScanError(f"{text!r} has no valid regular expression: {problem}.") from problem
    return Condition(found["keyword"], found["sign"], found["wanted"])


def parse_channels(texts: Iterable[str]) -> dict[str, str]:
    """Channel to condition, of several CHANNEL=TAG=VALUE or CHANNEL=TAG~PATTERN.

    >>> parse_channels(["flair=SeriesDescription~FLAIR", "t1=SeriesNumber=5"])
    {'flair': 'SeriesDescription~FLAIR', 't1': 'SeriesNumber=5'}

    Raises:
        ScanError: one is written otherwise, or a channel is there twice.
        InputError: pydicom is not installed.
    """
    conditions: dict[str, str] = {}
    for text in texts:
        found = _ASSIGNMENT.fullmatch(text)
        if found is None:
            raise ScanError(
                f"{text!r} gives no channel its series; CHANNEL=TAG=VALUE or CHANNEL=TAG~PATTERN is wanted."
            )
        if found["channel"] in conditions:
            raise ScanError(f"{found['channel']}: has two conditions; one a channel is wanted.")
        parse_condition(found["condition"])
        conditions[found["channel"]] = found["condition"]
    return conditions


def _check_keyword(keyword: str, text: str) -> None:
    dictionary = import_library("pydicom.datadict").keyword_dict
    if keyword not in dictionary:
        alike = get_close_matches(keyword, dictionary, n=1)
        meant = f"; {alike[0]} is one" if alike else ""
        raise ScanError(f"{text!r}: {keyword} is no keyword of DICOM's dictionary{meant}.")


def _same(value: str, wanted: str) -> bool:
    if value == wanted:
        return True
    try:
        return float(value) == float(wanted)
    except ValueError:
        return False
