"""Damage as fuzzers do it, without one: the same for the same seed."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

_EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, (1 << 63) - 1)
_VALUES = (
    None,
    True,
    -1,
    0,
    1,
    17,
    1 << 31,
    1 << 63,
    10**30,
    0.5,
    1e308,
    "",
    "a",
    "../a",
    "\ud800",
    "é" * 200,
    [],
    {},
    [[]],
)
_WIDTHS = (1, 2, 4, 8)
_MOST_CHANGES = 6


def mutated(content: bytes, seed: int) -> bytes:
    """`content` after a few random changes: bits flipped, numbers put to the edge, runs cut out, doubled or moved."""
    chance = random.Random(seed)
    data = bytearray(content)
    for _ in range(chance.randint(1, _MOST_CHANGES)):
        chance.choice(_CHANGES)(data, chance)
    return bytes(data)


def mutated_json(content: bytes, seed: int) -> bytes:
    """The same for JSON, as often as not: values put to the edge, taken out, or put in each other's place."""
    chance = random.Random(seed)
    if chance.random() < 0.3:
        return mutated(content, seed)
    try:
        value = [json.loads(content)]
    except (ValueError, RecursionError):
        return mutated(content, seed)
    for _ in range(chance.randint(1, _MOST_CHANGES)):
        holder, place = _node(value, chance)
        match chance.randrange(4):
            case 0 if isinstance(holder, dict):
                del holder[place]
            case 1 if isinstance(holder, dict):
                holder[str(chance.choice(_VALUES))] = holder.pop(place)
            case 2:
                other, there = _node(value, chance)
                holder[place] = copy.deepcopy(other[there])
            case _:
                holder[place] = copy.deepcopy(chance.choice(_VALUES))
    return json.dumps(value[0]).encode()


def _node(value: Any, chance: random.Random) -> tuple[Any, Any]:
    """A random place in nested lists and objects: what holds it, and its number or key there."""
    holder, place = value, 0
    while isinstance(inner := holder[place], (dict, list)) and inner and chance.random() < 0.8:
        holder, place = inner, chance.choice(list(inner) if isinstance(inner, dict) else range(len(inner)))
    return holder, place


def _flip(data: bytearray, chance: random.Random) -> None:
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _edge(data: bytearray, chance: random.Random) -> None:
    width = chance.choice(_WIDTHS)
    place = chance.randint(0, len(data))
    number = chance.choice(_EDGES) & ((1 << 8 * width) - 1)
    data[place : place + width] = number.to_bytes(width, chance.choice(("little", "big")))


def _cut(data: bytearray, chance: random.Random) -> None:
    start, stop = _run(data, chance)
    del data[start:stop]


def _double(data: bytearray, chance: random.Random) -> None:
    start, stop = _run(data, chance)
    data[start:start] = data[start:stop]


def _move(data: bytearray, chance: random.Random) -> None:
    start, stop = _run(data, chance)
    place = chance.randint(0, len(data))
    data[place : place + stop - start] = data[start:stop]


def _end(data: bytearray, chance: random.Random) -> None:
    del data[chance.randint(0, len(data)) :]


def _run(data: bytearray, chance: random.Random) -> tuple[int, int]:
    start = chance.randint(0, len(data))
    return start, min(len(data), start + chance.choice((1, 2, 4, 16, 128)))


_CHANGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip,
    _flip,
    _edge,
    _edge,
    _cut,
    _double,
    _move,
    _end,
)
