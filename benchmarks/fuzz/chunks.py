"""Small bodies worked on as large ones are: in chunks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_SIZES = {
    "CHUNK_BYTES": 256,
    "CHUNK_RECORDS": 4,
    "_SHORT": 256,
    "_LONGER": 512,
    "_FIRST_LOOK": 4096,
    "_AT_ONCE": 64,
    "_TILE": 8,
    "CHUNK": 64,
    "_CHUNK": 64,
    "_STRINGS": 4,
}
"""How much the service's modules do at a time, by the names that they use."""


@contextmanager
def small_chunks() -> Iterator[int]:
    """Make every chunk small until the context ends; yield how many sizes that changed."""
    changed = [
        (vars(module), name, vars(module)[name])
        for path, module in list(sys.modules.items())
        if path.startswith("service.")
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
