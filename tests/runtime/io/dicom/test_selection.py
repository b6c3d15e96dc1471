"""Which series is which channel: the rules, the caller's own conditions, and refusals that name the candidates."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tumortrace_runtime.errors import ScanError
from tumortrace_runtime.io.dicom.conditions import parse_channels, parse_condition
from tumortrace_runtime.io.dicom.selection import Choice, select_series
from tumortrace_runtime.io.dicom.summary import SeriesSummary
from tumortrace_runtime.io.dicom.weighting import weighting

FLAIR = {"ScanningSequence": "SE\\IR", "EchoTime": "120", "RepetitionTime": "9000", "InversionTime": "2500"}
SPIN_ECHO = {"ScanningSequence": "SE", "EchoTime": "12", "RepetitionTime": "520"}
MPRAGE = {"ScanningSequence": "GR\\IR", "EchoTime": "2.5", "RepetitionTime": "2000", "InversionTime": "900"}
SPGR = {"ScanningSequence": "GR", "SequenceVariant": "SS\\SP", "EchoTime": "3", "RepetitionTime": "8"}
BALANCED = {"ScanningSequence": "GR", "SequenceVariant": "SS\\SK", "EchoTime": "2.5", "RepetitionTime": "5"}
T2 = {"ScanningSequence": "SE", "EchoTime": "95", "RepetitionTime": "5000"}
PROTON = {"ScanningSequence": "SE", "EchoTime": "15", "RepetitionTime": "3000"}
GADOLINIUM = {"ContrastBolusAgent": "Gadovist"}


def series(description: str = "", number: int = 1, unsuitable: str = "", **values: str) -> SeriesSummary:
    texts = {"SeriesDescription": description, "SeriesNumber": str(number), **values}
    return SeriesSummary({keyword: tuple(text.split("\\")) for keyword, text in texts.items() if text}, 30, unsuitable)


@pytest.mark.parametrize(
    ("description", "values", "channel"),
    [
        ("", FLAIR, "flair"),
        ("AX FLAIR", {}, "flair"),
        ("t2_tirm_tra_dark-fluid", FLAIR, "flair"),
        ("T2 FLAIR 3D", {**FLAIR, "EchoTime": "340", "RepetitionTime": "4800", "InversionTime": "1650"}, "flair"),
        ("Ax T2 FLAIR +C", {**FLAIR, **GADOLINIUM}, "flair"),
        ("T1 FLAIR", {**FLAIR, "EchoTime": "9", "RepetitionTime": "2200", "InversionTime": "860"}, "t1"),
        ("", SPIN_ECHO, "t1"),
        ("AX T1", SPIN_ECHO, "t1"),
        ("t1_mprage_sag_p2_iso", MPRAGE, "t1"),
        ("SAG MPRAGE 220 FOV", MPRAGE, "t1"),
        ("sT1W_3D_TFE", {}, "t1"),
        ("3DT1 BRAVO", SPGR, "t1"),
        ("", SPGR, "t1"),
        ("AX T1 PRE", SPIN_ECHO, "t1"),
        ("T1 w/o contrast", SPIN_ECHO, "t1"),
        ("T1 pre-contrast", SPIN_ECHO, "t1"),
        ("T1 without gad", SPIN_ECHO, "t1"),
        ("t1_se_tra_nativ", SPIN_ECHO, "t1"),
        ("T1 with fat sat", SPIN_ECHO, "t1"),
        ("AX T1 -C", SPIN_ECHO, "t1"),
        ("AX T1", {**SPIN_ECHO, "ContrastBolusAgent": "NONE"}, "t1"),
        ("AX T1", {**SPIN_ECHO, **GADOLINIUM}, "t1ce"),
        ("AX T1 POST", SPIN_ECHO, "t1ce"),
        ("AX T1 POST", {**SPIN_ECHO, **GADOLINIUM}, "t1ce"),
        ("AX T1 postcontrast", SPIN_ECHO, "t1ce"),
        ("AX T1 +C", SPIN_ECHO, "t1ce"),
        ("AX T1 C+", SPIN_ECHO, "t1ce"),
        ("t1_mprage_km", MPRAGE, "t1ce"),
        ("T1 GD", SPIN_ECHO, "t1ce"),
        ("T1CE", SPIN_ECHO, "t1ce"),
        ("T1 contrast enhanced", SPIN_ECHO, "t1ce"),
        ("T1 pre", {**SPIN_ECHO, **GADOLINIUM}, ""),
        ("T1 pre and post contrast", SPIN_ECHO, ""),
        ("AX T2", T2, "t2"),
        ("", T2, "t2"),
        ("FLAIR", SPIN_ECHO, ""),
        ("AX T1", FLAIR, ""),
        ("T1 T2", {}, ""),
        ("PD", PROTON, ""),
        ("", BALANCED, ""),
        ("brain", {}, ""),
        ("", {}, ""),
        ("shift1", {}, ""),
        ("localizer", SPGR, ""),
        ("3-plane loc T1", SPGR, ""),
        ("T1 SE", {**SPIN_ECHO, "ImageType": "ORIGINAL\\PRIMARY\\LOCALIZER"}, ""),
        ("FLAIR", {**FLAIR, "ImageType": "DERIVED\\SECONDARY\\MPR"}, ""),
        ("T1", {**SPIN_ECHO, "ImageType": "ORIGINAL\\PRIMARY\\P\\PHASE"}, ""),
        ("T1 MPR cor", MPRAGE, ""),
        ("T1 subtraction", SPIN_ECHO, ""),
        ("ep2d_diff_b1000", {**T2, "ScanningSequence": "EP"}, ""),
        ("", {**T2, "ScanningSequence": "EP\\SE"}, ""),
        ("ADC map", T2, ""),
        ("AX T2* GRE", {}, ""),
        ("SWI", SPGR, ""),
        ("TOF MRA", SPGR, ""),
        ("", {**SPGR, "AngioFlag": "Y"}, ""),
        ("DCE T1 dynamic", SPGR, ""),
        ("CISS", BALANCED, ""),
    ],
)
def test_a_series_is_what_its_header_says(description: str, values: dict[str, str], channel: str) -> None:
    found = weighting(series(description, **values))
    assert found.channel == channel, found.reasons
    assert found.reasons


def test_words_of_the_protocol_count_where_there_is_no_description() -> None:
    assert weighting(series(ProtocolName="AX FLAIR")).channel == "flair"
    assert weighting(series("AX T2", ProtocolName="AX FLAIR")).channel == "t2"


def test_what_is_no_mr_image_is_no_channel() -> None:
    found = weighting(series("AX FLAIR", unsuitable="is a secondary capture", **FLAIR))
    assert (found.channel, found.reasons) == ("", ("is a secondary capture",))


STUDY = [
    series("localizer", 1, **SPGR),
    series("AX T1", 2, **SPIN_ECHO),
    series("AX FLAIR", 3, **FLAIR),
    series("AX DWI", 4, ScanningSequence="EP"),
    series("AX T1 POST", 5, **SPIN_ECHO, **GADOLINIUM),
    series("AX T2", 6, **T2),
]


def chosen(study: Sequence[SeriesSummary], *channels: str, **mapping: str) -> dict[str, int]:
    found = select_series(study, channels or None, mapping, "study")
    return {channel: choice.series for channel, choice in found.items()}


def refusal(study: Sequence[SeriesSummary], *channels: str, **mapping: str) -> str:
    with pytest.raises(ScanError) as caught:
        select_series(study, channels or None, mapping, "study")
    return str(caught.value)


def test_each_channel_gets_the_one_series_that_is_it() -> None:
    assert chosen(STUDY, "t1", "flair", "t1ce") == {"t1": 1, "flair": 2, "t1ce": 4}
    assert list(chosen(STUDY, "t1ce", "t1")) == ["t1", "t1ce"]
    assert chosen(STUDY) == {"t1": 1, "flair": 2, "t1ce": 4, "t2": 5}


def test_the_order_of_the_series_decides_nothing() -> None:
    turned = STUDY[::-1]
    assert {name: turned[place] for name, place in chosen(turned).items()} == {
        name: STUDY[place] for name, place in chosen(STUDY).items()
    }


def test_a_choice_has_its_reasons() -> None:
    choice = select_series(STUDY, ["t1ce"], {}, "study")["t1ce"]
    assert choice == Choice(
        4,
        (
            "its description names t1",
            "its parameters are those of t1",
            "it names a contrast agent",
            "its description says after contrast",
        ),
    )


def test_a_channel_without_a_series_is_refused_with_what_there_is() -> None:
    said = refusal(STUDY[:4], "t1", "flair", "t1ce")
    assert said.startswith("study: has no series that is t1ce. It has series 1 (GR, TR 8, TE 3, 30 slices): ")
    assert "series 3 (SE/IR, TR 9000, TE 120, TI 2500, 30 slices): flair" in said
    assert "--channel t1ce=TAG=VALUE" in said


def test_two_candidates_are_refused_by_name() -> None:
    said = refusal([*STUDY, series("COR FLAIR", 7, **FLAIR)], "t1", "flair")
    assert "series 3 (" in said
    assert "series 7 (" in said
    assert "could each be flair; name one, as with --channel flair=SeriesNumber=N" in said


def test_no_channel_at_all_is_refused() -> None:
    assert "has no series that is t1, flair, t1ce, t2" in refusal(STUDY[:1])


@pytest.mark.parametrize(
    ("condition", "place"),
    [
        ("SeriesNumber=3", 2),
        ("SeriesNumber=3.0", 2),
        ("EchoTime=95", 5),
        ("SeriesDescription=AX T2", 5),
        ("SeriesDescription~dwi", 3),
        ("SeriesDescription~^ax t1$", 1),
        ("ScanningSequence=EP", 3),
        ("ScanningSequence=SE\\IR", 2),
        ("ScanningSequence=IR", 2),
        ("ContrastBolusAgent~gado", 4),
    ],
)
def test_a_condition_takes_what_the_rules_would_not(condition: str, place: int) -> None:
    assert chosen(STUDY, "flair", flair=condition) == {"flair": place}
    assert select_series(STUDY, ["flair"], {"flair": condition}, "study")["flair"].reasons == (
        f"{condition} was asked for",
    )


def test_a_condition_against_what_the_header_says_is_followed_and_told() -> None:
    choices = select_series(STUDY, ["t1", "flair"], {"flair": "SeriesNumber=2", "t1": "SeriesNumber=3"}, "study")
    assert {channel: choice.header_says for channel, choice in choices.items()} == {"t1": "flair", "flair": "t1"}
    assert select_series(STUDY, ["flair"], {"flair": "SeriesNumber=3"}, "study")["flair"].header_says == ""
    derived = [series("ADC map", ImageType="DERIVED\\SECONDARY\\ADC", **FLAIR)]
    (choice,) = select_series(derived, ["flair"], {"flair": "SeriesNumber=1"}, "study").values()
    assert choice.header_says == "none of them: is derived from other images (ImageType)"


def test_one_series_may_serve_several_channels_when_asked_to() -> None:
    mapping = dict.fromkeys(("t1", "flair", "t1ce"), "SeriesNumber=2")
    assert chosen(STUDY, "t1", "flair", "t1ce", **mapping) == {"t1": 1, "flair": 1, "t1ce": 1}


def test_rules_do_not_take_what_was_asked_for_as_another_channel() -> None:
    said = refusal(STUDY[:3], "t1", "t1ce", t1ce="SeriesNumber=2")
    assert "has no series that is t1." in said
    assert "was asked for as t1ce" in said


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("SeriesNumber=9", "has no series with SeriesNumber=9 for the channel flair; it has series 1 ("),
        ("SeriesDescription~AX", "with SeriesDescription~AX for the channel flair; one is wanted"),
        ("SeriesNumbr=1", "SeriesNumbr is no keyword of DICOM's dictionary; SeriesNumber is one."),
        ("Zzzzz=1", "Zzzzz is no keyword of DICOM's dictionary."),
    ],
)
def test_a_condition_that_not_one_series_meets_is_refused(condition: str, reason: str) -> None:
    assert reason in refusal(STUDY, "flair", flair=condition)


def test_a_condition_does_not_make_a_capture_an_image() -> None:
    said = refusal([series("x", 1, "is a secondary capture")], "flair", flair="SeriesNumber=1")
    assert "chosen for flair, is a secondary capture" in said


def test_conditions_are_read_as_they_are_written() -> None:
    assert str(parse_condition("SeriesDescription~FLAIR|dark=fluid")) == "SeriesDescription~FLAIR|dark=fluid"
    assert parse_channels(["flair=SeriesDescription~a=b", "t1=EchoTime=5"]) == {
        "flair": "SeriesDescription~a=b",
        "t1": "EchoTime=5",
    }


@pytest.mark.parametrize("text", ["", "flair", "flair=", "flair=FLAIR", "flair=Series Number=1"])
def test_what_is_no_assignment_is_refused(text: str) -> None:
    with pytest.raises(ScanError, match="wanted"):
        parse_channels([text])


def test_a_wrong_expression_and_a_second_condition_are_refused() -> None:
    with pytest.raises(ScanError, match="no valid regular expression"):
        parse_channels(["flair=SeriesDescription~("])
    with pytest.raises(ScanError, match="flair: has two conditions"):
        parse_channels(["flair=SeriesNumber=1", "flair=SeriesNumber=2"])


def test_a_series_without_a_number_is_called_by_the_end_of_its_uid() -> None:
    values = {"SeriesInstanceUID": ("1.2.840.113619.2.55.3.604688119",)}
    assert SeriesSummary(values, 1).name == "series ….3.604688119 (1 slice)"
