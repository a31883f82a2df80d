"""Snapshots: the state of an assembler as bytes, and tokens of series among them."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Arrays",
    "SnapshotError",
    "TransientToken",
    "cut",
    "pack",
    "pack_tokens",
    "ragged",
    "unpack",
    "unpack_tokens",
]

_FORMAT = 1
_META = "meta"
_BYTES = "bytes"

Arrays = Mapping[str, NDArray[Any]]


class SnapshotError(Exception):
    """A snapshot cannot be used; one line that says why."""


class TransientToken(bytes):
    """A token that only this process makes, so that a snapshot does not keep it.

    It is equal to its plain bytes, so that the series is found by these.
    """

    __slots__ = ()


def pack(meta: Mapping[str, object], arrays: Arrays) -> bytes:
    """Return what fits into JSON, and arrays, as bytes."""
    text = json.dumps({**meta, "format": _FORMAT}).encode()
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **{**arrays, _META: np.frombuffer(text, np.uint8)})
    return file.getvalue()


def unpack(data: bytes, fingerprint: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return what was packed, or raise SnapshotError.

    Args:
        data: of `pack`.
        fingerprint: of the mapping that the state must have been made with.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        meta = json.loads(arrays.pop(_META).tobytes())
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise SnapshotError(f"the snapshot of telemetry is damaged: {error}") from error
    if meta.get("format") != _FORMAT:
        raise SnapshotError("the snapshot of telemetry was written by another version")
    if meta.get("mapping") != fingerprint:
        raise SnapshotError("the snapshot of telemetry was made with another mapping")
    return meta, arrays


def ragged(name: str, parts: Iterable[NDArray[Any]], kind: Any) -> dict[str, NDArray[Any]]:
    """Return arrays of different lengths as one, with their lengths."""
    arrays = [*parts]
    return {
        name: np.concatenate([*arrays, np.empty(0, kind)]).astype(kind, copy=False),
        f"{name} sizes": np.array([len(array) for array in arrays], np.int64),
    }


def cut(name: str, arrays: Arrays) -> list[NDArray[Any]]:
    """Return the arrays that `ragged` joined."""
    ends = np.cumsum(arrays[f"{name} sizes"])
    return [part.copy() for part in np.split(arrays[name], ends[:-1])] if len(ends) else []


def pack_tokens(ids: Mapping[Hashable, int]) -> dict[str, NDArray[Any]]:
    """Return tokens of series that have an id, without those that end with the process.

    Args:
        ids: by token: bytes, or of what JSON has, or tuples.
    """
    plain: list[bytes] = []
    nested: list[Hashable] = []
    of_plain, of_nested = [], []
    for token, series in ids.items():
        if series < 0 or isinstance(token, TransientToken):
            continue
        if isinstance(token, bytes):
            plain.append(token)
            of_plain.append(series)
        else:
            nested.append(token)
            of_nested.append(series)
    text = json.dumps(nested, default=_as_json).encode()
    return {
        "tokens": np.frombuffer(b"".join(plain), np.uint8),
        "token sizes": np.fromiter(map(len, plain), np.int64, len(plain)),
        "token ids": np.array([*of_plain, *of_nested], np.int32),
        "nested tokens": np.frombuffer(text, np.uint8),
    }


def unpack_tokens(arrays: Arrays) -> dict[Hashable, int]:
    """Return the ids of series by their tokens."""
    joined, ends = arrays["tokens"].tobytes(), np.cumsum(arrays["token sizes"]).tolist()
    tokens: list[Hashable] = [
        joined[start:end] for start, end in zip([0, *ends], ends, strict=False)
    ]
    tokens += [_as_token(item) for item in json.loads(arrays["nested tokens"].tobytes())]
    return dict(zip(tokens, arrays["token ids"].tolist(), strict=True))


def _as_json(token: object) -> dict[str, str]:
    if isinstance(token, bytes):
        return {_BYTES: token.decode("latin-1")}
    raise TypeError(f"a token of a series holds {type(token).__name__}, which has no JSON")


def _as_token(item: object) -> Hashable:
    if isinstance(item, list):
        return tuple([_as_token(part) for part in item])
    if isinstance(item, dict):
        return str(item[_BYTES]).encode("latin-1")
    return item
