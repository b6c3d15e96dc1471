"""Words that several messages share."""

from __future__ import annotations

from collections.abc import Collection

_NAMED = 3


def name_some(names: Collection[str]) -> str:
    """The first three names in alphabetical order, and how many more there are.

    >>> name_some(["d", "c", "b", "a", "e"])
    'a, b, c and 2 more'
    """
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(sorted(names)[:_NAMED]) + more
