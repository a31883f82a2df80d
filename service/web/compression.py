"""Compressed request bodies: decompressed step by step, and never past the limit.

What a small body expands to is the sender's word: 16 MiB of gzip can hold 16 GiB, and 16 MiB of
zstd far more. So a step takes little in and puts little out, and the first byte too many ends it.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator
from typing import Final, Protocol

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from service.web.problems import BODY_TOO_LARGE, MALFORMED_BODY, Problem

__all__ = ["SUPPORTED_ENCODINGS", "Decompressor", "is_supported"]

SUPPORTED_ENCODINGS: Final = ("identity", "gzip", "x-gzip", "zstd")
"""The content encodings that are accepted, one at a time."""

_STEP_OUT = 1 << 18
"""Bytes that a step puts out at most: under a millisecond of work."""
_STEP_IN = 1 << 14
"""Bytes that a step takes in at most: what expands to nothing takes time as well."""
_WINDOW_LOG = 23
"""A zstd frame may look back on 8 MiB, as RFC 9659 asks of this content encoding."""
_MAX_MEMBERS = 4096
"""Of a gzip body: block-wise gzip has one for each 64 KiB. An empty one costs as much."""
_MAX_FRAMES = 1 << 16
"""Of a zstd body: those that compress block by block make one for each 64 KiB or more."""
_STEP_MEMBERS = 128


def is_supported(encoding: str) -> bool:
    """Return whether a `Content-Encoding` is accepted; a list of several is not, none at all is."""
    return encoding.strip().lower() in {"", *SUPPORTED_ENCODINGS}


class Decompressor:
    """Decompresses one body.

    Args:
        encoding: a supported `Content-Encoding`.
        limit: of the decompressed body in bytes.
    """

    def __init__(self, encoding: str, limit: int) -> None:
        self._limit, self._size = limit, 0
        self._codec: _Codec
        match encoding.strip().lower():
            case "gzip" | "x-gzip":
                self._codec = _Gzip()
            case "zstd":
                self._codec = _Zstd()
            case _:
                self._codec = _Identity()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Decompress a part of the body, one step of at most a millisecond or so each `next`.

        A step yields at most 256 KiB and may yield nothing. Exhaust it before the next call.

        Raises:
            Problem: `BODY_TOO_LARGE`, or `MALFORMED_BODY` when it is not of the encoding.
        """
        for part in self._codec.decompress(data):
            self._size += len(part)
            if self._size > self._limit:
                limit = f"{self._limit} bytes, the most that is taken"
                raise Problem(
                    BODY_TOO_LARGE, f"The body is longer than {limit}, once it is inflated."
                )
            yield part

    def finish(self) -> None:
        """Check that the body is complete.

        Raises:
            Problem: `MALFORMED_BODY`, it breaks off.
        """
        self._codec.finish()


class _Codec(Protocol):
    """One encoding, step by step."""

    def decompress(self, data: bytes) -> Iterator[bytes]:
        """Decompress a part of the body."""

    def finish(self) -> None:
        """Refuse a body that breaks off."""


class _Identity:
    def decompress(self, data: bytes) -> Iterator[bytes]:
        yield data

    def finish(self) -> None:
        """Accept any end of the input."""


class _Gzip:
    """RFC 1952: one or more members; zlib checks length and checksum of each."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=31)
        self._members = 1

    def decompress(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _STEP_IN):
            rest = data[start : start + _STEP_IN]
            while rest:
                part, rest = self._step(rest)
                yield part

    def finish(self) -> None:
        if not self._member.eof:
            raise _malformed("The body is not gzip: it breaks off.")

    def _step(self, rest: bytes) -> tuple[bytes, bytes]:
        """Decompress something, or skip empty members; return the output and the rest."""
        part = b""
        for _ in range(_STEP_MEMBERS):
            if self._member.eof:
                self._begin_member()
            try:
                part = self._member.decompress(rest, _STEP_OUT)
            except zlib.error as error:
                raise _malformed("The body is not gzip, or it is corrupt.") from error
            rest = self._member.unconsumed_tail or self._member.unused_data
            if part or not rest:
                break
        return part, rest

    def _begin_member(self) -> None:
        self._member = zlib.decompressobj(wbits=31)
        self._members += 1
        if self._members > _MAX_MEMBERS:
            raise _malformed(f"The body has more than {_MAX_MEMBERS} members of gzip.")


class _Zstd:
    """RFC 8878: any number of frames; the library checks what has a checksum."""

    def __init__(self) -> None:
        self._frame = _frame()
        self._frames = 1

    def decompress(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _STEP_IN):
            rest: bytes | None = data[start : start + _STEP_IN]
            while rest is not None:
                part, rest = self._step(rest)
                yield part

    def finish(self) -> None:
        if not self._frame.eof:
            raise _malformed("The body is not zstd: it breaks off.")

    def _step(self, rest: bytes) -> tuple[bytes, bytes | None]:
        """Decompress something, or skip empty frames; return the output and the rest.

        The rest is None when more input is needed.
        """
        part = b""
        for _ in range(_STEP_MEMBERS):
            if self._frame.eof:
                self._begin_frame()
            try:
                part = self._frame.decompress(rest, _STEP_OUT)
            except zstd.ZstdError as error:
                raise _malformed(_reason(error)) from error
            if not self._frame.eof:
                return part, None if self._frame.needs_input else b""
            rest = self._frame.unused_data
            if part or not rest:
                break
        return part, rest or None

    def _begin_frame(self) -> None:
        self._frame = _frame()
        self._frames += 1
        if self._frames > _MAX_FRAMES:
            raise _malformed(f"The body has more than {_MAX_FRAMES} frames of zstd.")


def _frame() -> zstd.ZstdDecompressor:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG})


def _malformed(detail: str) -> Problem:
    return Problem(MALFORMED_BODY, detail)


def _reason(error: zstd.ZstdError) -> str:
    if "too much memory" in str(error):
        return f"The body is zstd with a window of more than {1 << _WINDOW_LOG >> 20} MiB."
    return "The body is not zstd, or it is corrupt."
