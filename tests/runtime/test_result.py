"""What a result tells of the scan that it is of."""

from __future__ import annotations

import pytest

from tumortrace_runtime.io import ChannelOrigin
from tumortrace_runtime.result import notices

SPACING_MM = (3.0, 1.0, 1.0)


def codes(*origins: ChannelOrigin) -> list[str]:
    return [notice.code for notice in notices((), SPACING_MM, origins)]


@pytest.mark.parametrize(("covered", "wanted"), [(1.0, []), (0.95, []), (0.9499, ["partial-coverage"])])
def test_a_channel_that_covers_less_than_nearly_all_is_told(covered: float, wanted: list[str]) -> None:
    assert codes(ChannelOrigin("t1", "series 1", (), "trilinear", covered)) == wanted


def test_a_share_is_never_told_larger_than_it_is() -> None:
    (notice,) = notices((), SPACING_MM, [ChannelOrigin("t1", "series 1", (), "trilinear", 0.9499)])
    assert notice.message == "t1: series 1 covers 94 % of the scan, and was taken for 0 in the rest."


def test_one_series_is_told_once_and_two_of_one_name_are_two() -> None:
    lacking = ChannelOrigin("t1", "series 1", (), doubt="its image is number 3")
    assert codes(lacking, ChannelOrigin("t1ce", "series 1", (), doubt=lacking.doubt)) == ["incomplete-series"]
    assert codes(lacking, ChannelOrigin("t1ce", "series 1", ())) == ["incomplete-series"]
    assert codes(ChannelOrigin("t1", "series 1", ()), lacking) == ["incomplete-series"]
