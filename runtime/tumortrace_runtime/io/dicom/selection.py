"""Which series of a study is which channel: chosen by rules or by the caller, with reasons, and never guessed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tumortrace_runtime.errors import ScanError
from tumortrace_runtime.io.dicom.conditions import parse_condition
from tumortrace_runtime.io.dicom.summary import SeriesSummary
from tumortrace_runtime.io.dicom.weighting import Weighting, weighting
from tumortrace_runtime.io.scan import CHANNELS

_LISTED = 8


@dataclass(frozen=True)
class Choice:
    """The series of one channel.

    Attributes:
        series: its place among those that were to choose from.
        reasons: why it was chosen.
        header_says: what else the rules find the series to be, where the caller named it; "" where they agree.
    """

    series: int
    reasons: tuple[str, ...]
    header_says: str = ""


def select_series(
    series: Sequence[SeriesSummary], channels: Sequence[str] | None, mapping: Mapping[str, str], name: str
) -> dict[str, Choice]:
    """Choose the series of each channel.

    A channel of the mapping takes the one series for which its condition holds, whatever the rules say of it; one
    series may serve several channels so. Any other takes the one series that the rules of `weighting` find to be it.

    Args:
        series: of one study.
        channels: those that are wanted; None for those that the rules find, and those of the mapping.
        mapping: channel to condition, as `parse_condition` takes it.
        name: what to call the study in an error.

    Returns:
        Channel to choice, in the order t1, flair, t1ce, t2, others by name.

    Raises:
        ScanError: a wanted channel has no series, or several could be it; they are named.
    """
    found = [weighting(each) for each in series]
    wanted = {*mapping, *(each.channel for each in found if each.channel)} if channels is None else set(channels)
    order = [channel for channel in CHANNELS if channel in wanted] + sorted(wanted - set(CHANNELS))
    if not order:
        raise ScanError(f"{name}: has no series that is {', '.join(CHANNELS)}. {_told(series, found)}")
    mapped = {
        channel: _mapped(channel, mapping[channel], series, found, name) for channel in order if channel in mapping
    }
    for choice in mapped.values():
        found[choice.series] = Weighting("", (f"was asked for as {_channels_of(choice.series, mapped)}",))
    return {channel: mapped.get(channel) or _ruled(channel, series, found, name) for channel in order}


def _mapped(channel: str, text: str, series: Sequence[SeriesSummary], found: Sequence[Weighting], name: str) -> Choice:
    condition = parse_condition(text)
    matching = [place for place, each in enumerate(series) if condition.holds(each)]
    if not matching:
        names = _listed([each.name for each in series])
        raise ScanError(f"{name}: has no series with {condition} for the channel {channel}; it has {names}.")
    if len(matching) > 1:
        names = _listed([series[place].name for place in matching])
        raise ScanError(f"{name}: has {names} with {condition} for the channel {channel}; one is wanted.")
    if problem := series[matching[0]].unsuitable:
        raise ScanError(f"{name}: {series[matching[0]].name}, chosen for {channel}, {problem}; an MR image is wanted.")
    return Choice(matching[0], (f"{condition} was asked for",), _contradicted(channel, found[matching[0]]))


def _contradicted(channel: str, ruled: Weighting) -> str:
    """What the rules find a series to be that is not this channel; "" where it is."""
    if ruled.channel == channel or channel not in CHANNELS:
        return ""
    return ruled.channel or f"none of them: {', '.join(ruled.reasons)}"


def _ruled(channel: str, series: Sequence[SeriesSummary], found: Sequence[Weighting], name: str) -> Choice:
    matching = [place for place, each in enumerate(found) if each.channel == channel]
    if not matching:
        raise ScanError(
            f"{name}: has no series that is {channel}. {_told(series, found)} "
            f"Name one, if it is there, with --channel {channel}=TAG=VALUE."
        )
    if len(matching) > 1:
        names = _listed([series[place].name for place in matching])
        raise ScanError(
            f"{name}: {names} could each be {channel}; name one, as with --channel {channel}=SeriesNumber=N."
        )
    return Choice(matching[0], found[matching[0]].reasons)


def _channels_of(series: int, choices: Mapping[str, Choice]) -> str:
    return ", ".join(channel for channel, choice in choices.items() if choice.series == series)


def _told(series: Sequence[SeriesSummary], found: Sequence[Weighting]) -> str:
    """What each series was found to be."""
    told = [f"{each.name}: {what.channel or ', '.join(what.reasons)}" for each, what in zip(series, found, strict=True)]
    return f"It has {_listed(told, '; ')}."


def _listed(names: Sequence[str], separator: str = ", ") -> str:
    return separator.join(names[:_LISTED]) + (f"{separator}…" if len(names) > _LISTED else "")
