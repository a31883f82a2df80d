"""Request bodies that come compressed: inflated step by step, and never past the limit.

What a small body inflates to is the sender's word: 16 MiB of gzip can hold 16 GiB, and 16 MiB of
zstd far more. So a step takes little in and gives little out, and the first byte that is too many
ends it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import IO, Final, Protocol, cast

import zstandard

from service.web.problems import BODY_TOO_LARGE, MALFORMED_BODY, Problem

__all__ = ["SUPPORTED_ENCODINGS", "Decompressor", "is_supported"]

SUPPORTED_ENCODINGS: Final = ("identity", "gzip", "x-gzip", "zstd")
"""The content encodings that are spoken, one at a time."""

_STEP_OUT = 1 << 18
"""Bytes that a step gives, at most: under a millisecond of work."""
_STEP_IN = 1 << 14
"""Bytes that a step takes, at most: what inflates to nothing takes time as well."""
_MOST_WINDOW = 1 << 23
"""Bytes that a zstd frame may look back on: what RFC 9659 asks of this content encoding."""
_MOST_MEMBERS = 4096
"""Members of a gzip body: block-wise gzip has one for each 64 KiB. An empty one costs as much."""
_STEP_MEMBERS = 128
_PROBE = (b"\x28\xb5\x2f\xfd\x20", b"\x01\x09\x00\x00x")
"""A whole zstd frame that holds one x; as one chunk, the library would take it for the rest of a
frame whose header breaks off."""


def is_supported(encoding: str) -> bool:
    """Whether a `Content-Encoding` is spoken; a list of several is not, none at all is."""
    return encoding.strip().lower() in {"", *SUPPORTED_ENCODINGS}


class Decompressor:
    """Inflates one body.

    Args:
        encoding: a `Content-Encoding` that `is_supported` knows.
        most: bytes that the body may have once it is inflated.
    """

    def __init__(self, encoding: str, most: int) -> None:
        self._most, self._given = most, 0
        self._codec: _Codec
        match encoding.strip().lower():
            case "gzip" | "x-gzip":
                self._codec = _Gzip()
            case "zstd":
                self._codec = _Zstd()
            case _:
                self._codec = _Identity()

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Inflate a chunk of the body, one step of at most a millisecond or so each `next`.

        A step gives at most 256 KiB and may give nothing. All of them have to be taken before the
        next chunk is fed.

        Raises:
            TooLarge: the body has more bytes than it may.
            Unreadable: it is not of the encoding.
        """
        for part in self._codec.inflate(chunk):
            self._given += len(part)
            if self._given > self._most:
                limit = f"{self._most} bytes, the most that is taken"
                raise Problem(
                    BODY_TOO_LARGE, f"The body is longer than {limit}, once it is inflated."
                )
            yield part

    def finish(self) -> None:
        """Check that the body is whole. Everything in it was given already.

        Raises:
            Unreadable: it breaks off.
        """
        self._codec.finish()


class _Codec(Protocol):
    """One encoding, step by step."""

    def inflate(self, chunk: bytes) -> Iterator[bytes]:
        """Inflate a chunk."""

    def finish(self) -> None:
        """Refuse a body that breaks off."""


class _Identity:
    def inflate(self, chunk: bytes) -> Iterator[bytes]:
        yield chunk

    def finish(self) -> None:
        """Whatever came is whole."""


class _Gzip:
    """RFC 1952: one or more members; zlib checks length and checksum of each."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=31)
        self._members = 1

    def inflate(self, chunk: bytes) -> Iterator[bytes]:
        for start in range(0, len(chunk), _STEP_IN):
            rest = chunk[start : start + _STEP_IN]
            while rest:
                part, rest = self._step(rest)
                yield part

    def finish(self) -> None:
        if not self._member.eof:
            raise Problem(MALFORMED_BODY, "The body is not gzip: it breaks off.")

    def _step(self, rest: bytes) -> tuple[bytes, bytes]:
        """Inflate something, or read over members that hold nothing; also give what is left."""
        part = b""
        for _ in range(_STEP_MEMBERS):
            if self._member.eof:
                self._begin_member()
            try:
                part = self._member.decompress(rest, _STEP_OUT)
            except zlib.error as error:
                raise Problem(MALFORMED_BODY, "The body is not gzip, or it is corrupt.") from error
            rest = self._member.unconsumed_tail or self._member.unused_data
            if part or not rest:
                break
        return part, rest

    def _begin_member(self) -> None:
        self._member = zlib.decompressobj(wbits=31)
        self._members += 1
        if self._members > _MOST_MEMBERS:
            raise Problem(
                MALFORMED_BODY, f"The body has more than {_MOST_MEMBERS} members of gzip."
            )


class _Zstd:
    """RFC 8878: any number of frames; the library checks what has a checksum.

    Its reader asks for input where it runs out; that it is told of by an exception, and then goes
    on from where it was.
    """

    def __init__(self) -> None:
        self._source = _Source()
        self._reader = zstandard.ZstdDecompressor(max_window_size=_MOST_WINDOW).stream_reader(
            cast("IO[bytes]", self._source), read_across_frames=True
        )
        self._room = memoryview(bytearray(_STEP_OUT))
        self._begun = False

    def inflate(self, chunk: bytes) -> Iterator[bytes]:
        self._begun = self._begun or bool(chunk)
        for start in range(0, len(chunk), _STEP_IN):
            self._source.waiting = chunk[start : start + _STEP_IN]
            part = self._step()
            yield part
            while len(part) == _STEP_OUT:
                part = self._step()
                yield part

    def finish(self) -> None:
        """The reader does not tell a frame's end from its middle; only at an end can one begin."""
        found = b""
        for part in _PROBE:
            self._source.waiting = part
            found += self._step()
        if not self._begun or found != b"x":
            raise Problem(MALFORMED_BODY, "The body is not zstd: it breaks off.")

    def _step(self) -> bytes:
        """What the source's bytes inflate to, as far as there is room."""
        size = 0
        try:
            while size < _STEP_OUT:
                size += self._reader.readinto1(self._room[size:])
        except _StarvedError:
            pass
        except zstandard.ZstdError as error:
            raise Problem(MALFORMED_BODY, _reason(error)) from error
        return bytes(self._room[:size])


class _Source:
    """Gives what waits, once."""

    def __init__(self) -> None:
        self.waiting = b""

    def read(self, _size: int) -> bytes:
        given, self.waiting = self.waiting, b""
        if not given:
            raise _StarvedError
        return given


class _StarvedError(Exception):
    """Nothing waits."""


def _reason(error: zstandard.ZstdError) -> str:
    if "too much memory" in str(error):
        return f"The body is zstd with a window of more than {_MOST_WINDOW >> 20} MiB."
    return "The body is not zstd, or it is corrupt."
