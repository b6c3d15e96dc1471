"""How long work shows how far it is, without knowing to whom."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """Wraps an iteration over items; `label` says what is done with them."""

    def __call__(self, items: Sequence[T], label: str, /) -> AbstractContextManager[Iterable[T]]:
        """A context that gives the items, one after the other."""
        ...


def silent(items: Sequence[T], label: str, /) -> AbstractContextManager[Iterable[T]]:
    """An iteration that nobody is shown."""
    return nullcontext(items)
