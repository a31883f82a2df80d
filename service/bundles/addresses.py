"""Addresses of folders in object stores, and errors about them without the keys in them."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs

__all__ = ["AddressError", "files_of", "shown", "why"]

_PARTS = re.compile(r"(?P<scheme>\w+://)?(?:(?P<keys>[^:/?@]*(?::.*)?)@)?(?P<rest>.*)", re.DOTALL)
"""Greedy, as a key that was not escaped may hold any of `/`, `?` and `@`."""
_MOST_SHOWN = 300
"""Characters of an error."""
_LEAST_SECRET = 4
"""Characters of a key; shorter words are no keys, and may be anywhere."""


class AddressError(ValueError):
    """It is an address of nothing that is known; the message is one line without keys."""


def shown(address: str) -> str:
    """Return an address without the keys that may be in it."""
    scheme, _, rest = _parts(address)
    return scheme + rest.partition("?")[0]


@lru_cache(8)
def files_of(address: str) -> tuple[pa.fs.FileSystem, str]:
    """Return the file system of an address, and the path in it.

    Raises:
        AddressError: it is an address of nothing that is known.
    """
    if "://" not in address:
        return pa.fs.LocalFileSystem(), str(Path(address).absolute())
    try:
        files, path = pa.fs.FileSystem.from_uri(address)
    except (pa.ArrowException, OSError) as error:
        raise AddressError(f"{shown(address)} is no address: {why(error, address)}") from error
    return files, path


def why(error: Exception, address: str) -> str:
    """Return what went wrong with an address, in a line without the keys that may be in it."""
    text = (str(error).splitlines() or [type(error).__name__])[0].replace(address, shown(address))
    _, keys, _ = _parts(address)
    name, _, key = keys.partition(":")
    for secret in (keys, key, name):
        for written in (secret, unquote(secret)):
            if len(written) >= _LEAST_SECRET:
                text = text.replace(written, "***")
    return text[:_MOST_SHOWN]


def _parts(address: str) -> tuple[str, str, str]:
    """Return the scheme with its `://`, the keys, and the rest of an address."""
    parts = _PARTS.fullmatch(address)
    assert parts is not None  # noqa: S101 - it matches every text
    return parts["scheme"] or "", parts["keys"] or "", parts["rest"]
