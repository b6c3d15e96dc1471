"""What is said when memory is short."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tumortrace_runtime.errors import ResourceError


@contextmanager
def enough_memory() -> Iterator[None]:
    """Tell in a typed error that a `with` block's scan needs more memory than there is.

    Raises:
        ResourceError: it does.
    """
    try:
        yield
    except MemoryError as problem:
        raise ResourceError(
            "too little memory for this scan; end other programs, or segment a smaller one."
        ) from problem
