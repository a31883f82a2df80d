"""The wire format of Protocol Buffers, as far as messages need to be found in a body.

The format: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from service.formats.errors import MalformedInputError

__all__ = ["MAX_PARTS", "broken_off", "fields", "parts", "signed", "too_many", "varint"]

MAX_PARTS = 1 << 18
"""Fields of a message that are taken apart at once: an empty one takes two bytes to send, and
fifty times as many here."""
_MAX_VARINT = 10
_WIDTHS = {1: 8, 5: 4}


def broken_off() -> MalformedInputError:
    """Return the error of a body whose messages do not end where they say."""
    return MalformedInputError("The body is no protobuf message of this kind, or it breaks off.")


def too_many() -> MalformedInputError:
    """Return the error of a body that would take too much memory."""
    return MalformedInputError(f"A message has more than {MAX_PARTS} parts; send smaller ones.")


def varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Return the number that begins here, and where it ends.

    Raises:
        MalformedInputError: it does not end.
    """
    number = shift = 0
    for place in range(at, min(end, at + _MAX_VARINT)):
        byte = data[place]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & 0xFFFF_FFFF_FFFF_FFFF, place + 1
        shift += 7
    raise broken_off()


def signed(number: int) -> int:
    """Return what a number is as int64."""
    return number - (1 << 64) if number >> 63 else number


def fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield the fields of a message that lies between two places.

    Yields:
        Its tag, which is its number times 8 and its wire type, and where its content begins and
        ends.

    Raises:
        MalformedInputError: it is no message.
    """
    try:
        while at < end:
            tag = data[at]
            if tag < 0x80:
                at += 1
            else:
                tag, at = varint(data, at, end)
            kind = tag & 7
            if kind == 2:
                stop = data[at]
                at += 1
                if stop >= 0x80:
                    if data[at] < 0x80:
                        stop += (data[at] - 1) << 7
                        at += 1
                    else:
                        stop, at = varint(data, at - 1, end)
                stop += at
            elif kind == 0:
                _, stop = varint(data, at, end)
            else:
                stop = at + _WIDTHS[kind]
            if stop > end or tag < 8:
                raise broken_off()
            yield tag, at, stop
            at = stop
    except (IndexError, KeyError):
        raise broken_off() from None


def parts(data: bytes, at: int, end: int) -> list[tuple[int, int, int]]:
    """Return the fields of a message, as `fields` yields them.

    Raises:
        MalformedInputError: it is no message, or one of too many fields.
    """
    found = [*islice(fields(data, at, end), MAX_PARTS + 1)]
    if len(found) > MAX_PARTS:
        raise too_many()
    return found
