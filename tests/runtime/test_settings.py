from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tumortrace_runtime.errors import SpecError
from tumortrace_runtime.postprocess import Postprocessing
from tumortrace_runtime.preprocess import Preprocessing
from tumortrace_runtime.settings import from_dict, require, to_dict


@dataclass(frozen=True)
class Inner:
    size_px: tuple[int, int] = (1, 2)


@dataclass(frozen=True)
class Outer:
    rate: float
    count: int = 3
    name: str = "a"
    on: bool = False
    kind: Literal["a", 6] = "a"
    names: tuple[str, ...] = ()
    weights: dict[str, float] = field(default_factory=dict)
    inner: Inner = Inner()
    other: Inner | None = None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)
OUTER = st.builds(
    Outer,
    rate=st.floats(allow_nan=False, allow_infinity=False),
    count=st.integers(),
    name=st.text(),
    on=st.booleans(),
    kind=st.sampled_from(["a", 6]),
    names=st.lists(st.text()).map(tuple),
    weights=st.dictionaries(st.text(), st.floats(-9, 9)),
    inner=st.builds(Inner, st.tuples(st.integers(), st.integers())),
    other=st.none() | st.builds(Inner, st.tuples(st.integers(), st.integers())),
)


@settings(max_examples=40)
@given(given_settings=OUTER)
def test_settings_survive_json(given_settings: Outer) -> None:
    assert from_dict(Outer, json.loads(json.dumps(to_dict(given_settings)))) == given_settings


@given(cls=st.sampled_from([Outer, Preprocessing, Postprocessing]), data=st.data())
def test_any_json_makes_settings_or_a_typed_error(cls: type[Any], data: st.DataObject) -> None:
    keys = st.sampled_from(sorted(cls.__annotations__))
    values = data.draw(JSON | st.dictionaries(keys, JSON).map(lambda some: {"rate": 1, "channels": ["t1"], **some}))
    if isinstance(values, dict):
        values = {key: value for key, value in values.items() if key in cls.__annotations__}
    try:
        made = from_dict(cls, values)
    except SpecError:
        return
    assert from_dict(cls, json.loads(json.dumps(to_dict(made), allow_nan=False))) == made


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("rate", "1", "float"),
        ("rate", True, "float"),
        ("rate", None, "float"),
        ("rate", math.nan, "a finite number"),
        ("rate", -math.inf, "a finite number"),
        ("rate", 10**400, "a finite number"),
        ("count", 3.0, "int"),
        ("count", True, "int"),
        ("name", 3, "str"),
        ("on", 1, "bool"),
        ("kind", "b", "one of a, 6"),
        ("kind", 6.0, "one of a, 6"),
        ("kind", ["a"], "one of a, 6"),
        ("names", "flair", "a list"),
        ("names", [1], "str"),
        ("weights", [1], "an object"),
        ("weights", {"bce": "1"}, "float"),
        ("inner", 3, "an object"),
        ("inner", {"size_px": [1, 2, 3]}, "a list of 2"),
        ("inner", {"size_px": [1, None]}, "int"),
    ],
)
def test_a_value_of_another_type_is_told_with_the_wanted_one(key: str, value: object, wanted: str) -> None:
    with pytest.raises(SpecError, match=rf"(?i){key}.* is .*; {wanted} wanted\."):
        from_dict(Outer, {"rate": 1.0, key: value})


def test_whole_numbers_serve_as_floats() -> None:
    rate = from_dict(Outer, {"rate": 2}).rate

    assert (rate, type(rate)) == (2.0, float)


def test_unknown_settings_are_told_with_the_known() -> None:
    with pytest.raises(SpecError, match="Outer: unknown setting colour, rates; known are rate, count"):
        from_dict(Outer, {"rate": 1.0, "rates": 2.0, "colour": 3})
    with pytest.raises(SpecError, match="Inner: unknown setting depth; known are size_px"):
        from_dict(Outer, {"rate": 1.0, "inner": {"depth": 3}})


def test_a_missing_setting_is_told() -> None:
    with pytest.raises(SpecError, match="Outer: setting rate is missing"):
        from_dict(Outer, {})


@pytest.mark.parametrize("values", [None, 3, "rate", ["rate"]])
def test_what_is_no_object_is_refused(values: Any) -> None:
    with pytest.raises(SpecError, match="an object wanted"):
        from_dict(Outer, values)


def test_a_requirement_tells_what_was_given_and_wanted() -> None:
    require(True, "rate", 3, "less")
    with pytest.raises(SpecError, match=r"^rate is 3; less wanted\.$"):
        require(False, "rate", 3, "less")
