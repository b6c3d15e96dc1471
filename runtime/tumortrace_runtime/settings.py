"""Settings as frozen dataclasses that travel through JSON: unknown keys, missing keys and wrong types are refused."""

from __future__ import annotations

import dataclasses
import math
import reprlib
import sys
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from tumortrace_runtime.errors import SpecError

T = TypeVar("T")

_SHORT = reprlib.Repr()
"""Shows a value of any length and depth in a few words, as a hostile file may hold them."""
_SHORT.maxstring = _SHORT.maxother = 100
_SHORT.maxtuple = _SHORT.maxlist = 16


def to_dict(settings: Any) -> dict[str, Any]:
    """A settings dataclass as JSON values; tuples become lists."""
    return {field.name: _plain(getattr(settings, field.name)) for field in dataclasses.fields(settings)}


def from_dict(cls: type[T], values: Mapping[str, Any]) -> T:
    """The settings of class `cls` from JSON values.

    Raises:
        SpecError: a key is unknown or missing, or a value has the wrong type or is out of range.
    """
    require(isinstance(values, Mapping), cls.__name__, values, "an object")
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise SpecError(f"{cls.__name__}: unknown setting {', '.join(unknown)}; known are {', '.join(fields)}.")
    missing = sorted(name for name, field in fields.items() if name not in values and _required(field))
    if missing:
        raise SpecError(f"{cls.__name__}: setting {', '.join(missing)} is missing.")
    return cls(**{name: _parse(f"{cls.__name__}.{name}", hints[name], value) for name, value in values.items()})


def require(condition: bool, setting: str, value: object, wanted: str) -> None:
    """Refuse a setting's value.

    Raises:
        SpecError: `condition` is false.
    """
    if not condition:
        raise SpecError(f"{setting} is {_SHORT.repr(value)}; {wanted} wanted.")


def require_between(settings: object, low: float, high: float, *names: str) -> None:
    """Refuse settings of these names that are not numbers from `low` to `high`, both allowed; infinity is no limit.

    Raises:
        SpecError: one is outside.
    """
    wanted = f"{low:g} or more" if high == math.inf else f"{low:g} to {high:g}"
    for name in names:
        value = getattr(settings, name)
        require(low <= value <= high, name, value, wanted)


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _parse(name: str, hint: Any, value: Any) -> Any:
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast("type[Any]", hint), value)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:  # "X | None"
        return None if value is None else _parse(name, arguments[0], value)
    if origin is typing.Literal:
        known = any(value == one and type(value) is type(one) for one in arguments)
        require(known, name, value, f"one of {', '.join(map(str, arguments))}")
        return value
    if origin is tuple:
        return _parse_tuple(name, arguments, value)
    if origin is dict:
        require(isinstance(value, Mapping), name, value, "an object")
        return {key: _parse(f"{name}.{key}", arguments[1], item) for key, item in value.items()}
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        require(abs(value) <= sys.float_info.max, name, value, "a finite number")
        return float(value)
    require(isinstance(value, hint) and (hint is bool) == isinstance(value, bool), name, value, hint.__name__)
    return value


def _parse_tuple(name: str, arguments: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    require(isinstance(value, (list, tuple)), name, value, "a list")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_parse(name, arguments[0], item) for item in value)
    require(len(value) == len(arguments), name, value, f"a list of {len(arguments)}")
    return tuple(_parse(name, hint, item) for hint, item in zip(arguments, value, strict=True))
