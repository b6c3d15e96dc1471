"""Charts' parts as SVG text: axes, marks and words, whose colours the page's style sheet gives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

SHAPES = ("circle", "square", "triangle", "diamond", "cross")
"""Marks that are told apart without colour."""

_TICK_STEPS = (1, 2, 5, 10)


@dataclass(frozen=True)
class Scale:
    """Values to pixels: linear, or by logarithm.

    Attributes:
        low, high: the values at both ends.
        start_px, stop_px: where these are.
        logarithmic: of both; then `low` is above 0.
    """

    low: float
    high: float
    start_px: float
    stop_px: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """The pixel of a value."""
        low, high, value = (math.log(each) if self.logarithmic else each for each in (self.low, self.high, value))
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start_px + share * (self.stop_px - self.start_px)


def fitted(
    values: Sequence[float], start_px: float, stop_px: float, *, least: float = 0.0, logarithmic: bool = False
) -> Scale:
    """A scale with all of the values on it, and some room around them; one that is linear shows `least` or more."""
    low, high = min(values), max(values)
    if logarithmic:
        return Scale(low / 1.3, high * 1.3, start_px, stop_px, logarithmic=True)
    missing = max(0.0, least - (high - low))
    room = 0.08 * (high - low) + missing / 2 or 0.05 * abs(high) or 1.0
    return Scale(low - room, high + room, start_px, stop_px)


def ticks(scale: Scale, count: int = 5) -> list[float]:
    """Round values on a scale, about `count` of them."""
    if scale.logarithmic:
        powers = range(math.floor(math.log10(scale.low)), math.ceil(math.log10(scale.high)) + 1)
        found = [step * 10.0**power for power in powers for step in (1, 1.5, 2, 3, 5, 7)]
        return [value for value in found if scale.low <= value <= scale.high]
    raw = (scale.high - scale.low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(each * power for each in _TICK_STEPS if each * power >= raw)
    first = math.ceil(scale.low / step)
    return [number * step for number in range(first, math.floor(scale.high / step) + 1)]


def element(name: str, content: str = "", **attributes: object) -> str:
    """An element; `class_` is its class, and other names have dashes for underscores."""
    told = "".join(f' {key.rstrip("_").replace("_", "-")}="{_plain(value)}"' for key, value in attributes.items())
    return f"<{name}{told}>{content}</{name}>" if content else f"<{name}{told}/>"


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> str:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def text(x: float, y: float, words: str, anchor: str = "start", class_: str = "word") -> str:
    """Words, whose baseline begins, is centred or ends at a point."""
    return element("text", escape(words), x=x, y=y, text_anchor=anchor, class_=class_)


def bar(x: float, y: float, width: float, height: float, class_: str, told: str = "") -> str:
    """A rectangle, and what is told where the pointer rests on it."""
    return element("rect", _title(told), x=x, y=y, width=max(0.0, width), height=height, class_=class_)


def mark(x: float, y: float, shape: str, class_: str, told: str = "", size_px: float = 6.0) -> str:
    """A mark of one of `SHAPES` around a point."""
    r = size_px
    if shape == "circle":
        return element("circle", _title(told), cx=x, cy=y, r=r, class_=class_)
    corners = {
        "square": ((-r, -r), (r, -r), (r, r), (-r, r)),
        "triangle": ((0, -1.2 * r), (1.15 * r, 0.9 * r), (-1.15 * r, 0.9 * r)),
        "diamond": ((0, -1.4 * r), (1.4 * r, 0), (0, 1.4 * r), (-1.4 * r, 0)),
        "cross": (
            *((-r, -r / 3), (-r / 3, -r / 3), (-r / 3, -r), (r / 3, -r), (r / 3, -r / 3), (r, -r / 3)),
            *((r, r / 3), (r / 3, r / 3), (r / 3, r), (-r / 3, r), (-r / 3, r / 3), (-r, r / 3)),
        ),
    }[shape]
    points = " ".join(f"{_plain(x + dx)},{_plain(y + dy)}" for dx, dy in corners)
    return element("polygon", _title(told), points=points, class_=class_)


def path(points: Sequence[tuple[float, float]], class_: str) -> str:
    """A line through points."""
    joined = " ".join(f"{_plain(x)},{_plain(y)}" for x, y in points)
    return element("polyline", points=joined, class_=class_)


def chart(width_px: float, height_px: float, parts: Sequence[str], label: str) -> str:
    """A whole drawing; `label` says what it shows to those who do not see it."""
    return element(
        "svg", "".join(parts), viewBox=f"0 0 {_plain(width_px)} {_plain(height_px)}", role="img", aria_label=label
    )


def _title(told: str) -> str:
    return element("title", escape(told)) if told else ""


def _plain(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else escape(str(value), quote=True)
