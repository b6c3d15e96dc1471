"""Which sequence a series is, by what its header says: the rules that the README beside this package tells as a table.

Words are those of SeriesDescription, or of ProtocolName where it has none, in any case; parameters are times in ms and
the letters of ScanningSequence and SequenceVariant. Where words and parameters contradict, the series is none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tumortrace_runtime.io.dicom.summary import SeriesSummary

_BEGINS = r"(?:^|[^a-z]|\b(?:s|[23]d|ax|cor|sag|tra))"
_AGENT = r"(?:contrast|con|c|ce|cm|km|gd|gad\w*)"

FLAIR = re.compile(r"flair|dark[ -]?fluid|\btirm\b")
T1 = re.compile(rf"{_BEGINS}t1(?!\d)|mp ?rage|\bspgr\b|\bbravo\b|\bvibe\b")
T2 = re.compile(rf"{_BEGINS}t2(?!\d)")
BEFORE_CONTRAST = re.compile(
    rf"\bpre[ -]*{_AGENT}?\b|\b(?:without|w/?o|non?|before)[ -]*{_AGENT}\b|\b(?:unenhanced|native?)\b|-c\b"
)
AFTER_CONTRAST = re.compile(
    rf"\bpost|\bafter\b|\+ ?{_AGENT}\b|\b{_AGENT} ?\+|\bt1w?{_AGENT}\b|\b(?:contrast|ce|km|gd|gad\w*|enhanced)\b"
)

OTHER_IMAGES: Mapping[str, re.Pattern[str]] = {
    "a localiser": re.compile(r"localis|localiz|locator|\bloc\b|scout|survey|\b3 ?plane"),
    "diffusion": re.compile(r"\bdwi\b|\bdti\b|diff|\badc\b|trace|tensor|\bb ?\d{3,4}\b"),
    "susceptibility": re.compile(r"\bsw[ia]p?\b|swan|venobold|suscept|hemo|t2 ?(?:\*|star|fl2d|gre)|\bmag images"),
    "perfusion": re.compile(r"perf|\bdsc\b|\bdce\b|\basl\b|\br?cb[fv]\b|\bmtt\b|\bttp\b|\btmax\b|dynamic"),
    "angiography": re.compile(r"\bmra\b|\bmrv\b|\btof\b|angio|venogr"),
    "a calculated map": re.compile(r"\bsub(?:tr\w*)?\b|\bmaps?\b|\bmip\b|\bratio\b|\bphase\b|\bpha\b|mean_|\bmoco\b"),
    "a reformat": re.compile(r"\bmpr\b|\bmprs?\b|reformat|\brfmt\b"),
    "another sequence": re.compile(
        r"fiesta|\bciss\b|trufi|ssfp|spectr|\bmrs\b|bold|fmri|field ?map|\bb[01] ?map|\bstir\b"
    ),
}
"""What is no weighting that a model takes, by words of the description."""

_NOT_PRIMARY = re.compile(
    "ADC|CBF|CBV|DIFFUSION|FA|IMAGINARY|LOCALIZER|MIP|MOSAIC|MPR|MTT|PERFUSION|PHASE|PHASE MAP|PROJECTION IMAGE|REAL|"
    "REFORMATTED|SUBTRACTION|T1 MAP|T2 MAP|TRACE|TRACEW|TTP"
)
"""Values of ImageType that name what is no image of a sequence itself."""

_NO_AGENT = frozenset(("", "0", "N", "N/A", "NA", "NIL", "NO", "NO CONTRAST", "NONE", "PRE", "WITHOUT"))
"""What is typed for a contrast agent where there was none."""


@dataclass(frozen=True)
class Weighting:
    """What a series was found to be.

    Attributes:
        channel: "t1", "flair", "t1ce" or "t2"; "" where it is none of them, or not to be told.
        reasons: why, for people; without words of the header that somebody typed.
    """

    channel: str
    reasons: tuple[str, ...]


def weighting(series: SeriesSummary) -> Weighting:
    """Which sequence a series is."""
    if left_out := _left_out(series):
        return Weighting("", (left_out,))
    by_words, by_times = _by_words(_words(series)), _by_parameters(series)
    if by_words and by_times and by_words != by_times:
        return Weighting("", (f"its description says {by_words}, its parameters {by_times}",))
    found = by_words or by_times
    if not found:
        return Weighting("", ("neither its description nor its parameters name a sequence",))
    reasons = [f"its description names {found}"] if by_words else []
    reasons += [f"its parameters are those of {found}"] if by_times else []
    return _by_contrast(series, reasons) if found == "t1" else Weighting(found, tuple(reasons))


def _words(series: SeriesSummary) -> str:
    return re.sub(r"[_.]+", " ", series.text("SeriesDescription") or series.text("ProtocolName")).lower()


def _left_out(series: SeriesSummary) -> str:
    """Why a series is not looked at any further; "" where it is."""
    if series.unsuitable:
        return series.unsuitable
    kinds = {kind.upper() for keyword in ("ImageType", "FrameType") for kind in series.values.get(keyword, ())}
    if "DERIVED" in kinds:
        return "is derived from other images (ImageType)"
    if others := sorted(filter(_NOT_PRIMARY.fullmatch, kinds)):
        return f"is {others[0]} (ImageType)"
    if "EP" in series.values.get("ScanningSequence", ()):
        return "is echo-planar, as diffusion and perfusion are (ScanningSequence)"
    if series.text("AngioFlag").upper() == "Y":
        return "is angiography (AngioFlag)"
    words = _words(series)
    return next((f"is {kind} by its description" for kind, said in OTHER_IMAGES.items() if said.search(words)), "")


def _by_words(words: str) -> str:
    """A FLAIR is T2-weighted unless its name has T1; T1 and T2 together name no sequence."""
    flair, t1, t2 = (bool(said.search(words)) for said in (FLAIR, T1, T2))
    if t1:
        return "" if t2 else "t1"
    if flair:
        return "flair"
    return "t2" if t2 else ""


def _by_parameters(series: SeriesSummary) -> str:
    echo_ms, repetition_ms = series.number("EchoTime"), series.number("RepetitionTime")
    if echo_ms is None or repetition_ms is None:
        return ""
    inversion_ms = series.number("InversionTime") or 0.0
    holds = (name for name, test in _PARAMETERS.items() if test(series, echo_ms, repetition_ms, inversion_ms))
    return next(holds, "")


def _is_flair(series: SeriesSummary, echo_ms: float, repetition_ms: float, inversion_ms: float) -> bool:
    return echo_ms >= 60 and repetition_ms >= 4000 and 1500 <= inversion_ms <= 3500


def _is_t2(series: SeriesSummary, echo_ms: float, repetition_ms: float, inversion_ms: float) -> bool:
    inverted = inversion_ms > 0 or "IR" in series.values.get("ScanningSequence", ())
    return echo_ms >= 60 and repetition_ms >= 2000 and not inverted


def _is_t1(series: SeriesSummary, echo_ms: float, repetition_ms: float, inversion_ms: float) -> bool:
    sequence, variant = series.values.get("ScanningSequence", ()), series.values.get("SequenceVariant", ())
    if 300 <= inversion_ms <= 1400:
        return echo_ms <= 40
    if "GR" in sequence:
        balanced = "SS" in variant and "SP" not in variant
        return echo_ms <= 12 and repetition_ms <= 50 and not balanced
    return "SE" in sequence and echo_ms <= 30 and repetition_ms <= 1200 and not inversion_ms


_PARAMETERS: Mapping[str, Callable[[SeriesSummary, float, float, float], bool]] = {
    "flair": _is_flair,
    "t2": _is_t2,
    "t1": _is_t1,
}


def _by_contrast(series: SeriesSummary, reasons: list[str]) -> Weighting:
    """Tell t1ce from t1: by the agent that the header names and by words; not at all where they contradict."""
    words = _words(series)
    agent = series.text("ContrastBolusAgent").strip().upper() not in _NO_AGENT
    before = bool(BEFORE_CONTRAST.search(words))
    after = bool(AFTER_CONTRAST.search(BEFORE_CONTRAST.sub(" ", words)))
    if before and (agent or after):
        return Weighting("", ("is t1, but it is said to be of before contrast and of after it",))
    reasons += ["it names a contrast agent"] if agent else []
    reasons += ["its description says after contrast"] if after else []
    reasons += ["its description says before contrast"] if before else []
    if agent or after:
        return Weighting("t1ce", tuple(reasons))
    return Weighting("t1", tuple(reasons if before else [*reasons, "nothing in it speaks of contrast"]))
