"""Small bodies worked on as large ones are: piece by piece."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_SIZES = {
    "PIECE_BYTES": 256,
    "PIECE_RECORDS": 4,
    "_SHORT": 256,
    "_LONGER": 512,
    "_FIRST_LOOK": 4096,
    "_AT_ONCE": 64,
    "_TILE": 8,
    "CHUNK": 64,
    "_CHUNK": 64,
    "_STRINGS": 4,
}
"""Of the service's modules: how much they do at a time, by what they call it."""


@contextmanager
def small_pieces() -> Iterator[int]:
    """Make every piece small for a while; gives how many sizes that changed."""
    changed = [
        (vars(module), name, vars(module)[name])
        for module in [sys.modules[name] for name in list(sys.modules) if _is_ours(name)]
        for name in _SIZES.keys() & vars(module).keys()
        if isinstance(vars(module)[name], int)
    ]
    for names, name, _ in changed:
        names[name] = _SIZES[name]
    try:
        yield len(changed)
    finally:
        for names, name, size in changed:
            names[name] = size


def _is_ours(name: str) -> bool:
    return name.startswith("service.")
