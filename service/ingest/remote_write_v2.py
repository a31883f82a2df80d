"""Prometheus remote write 2.0: the message io.prometheus.write.v2.Request.

Its labels are numbers of symbols, whose table is another in every request; so they are put together
as remote write 1.0 has them, and a series has one token in both.

The format: https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from models.telemetry.points import SeriesTable
from service.formats.errors import MalformedInputError
from service.ingest.decoded import Decoded, UnusableError
from service.ingest.labels import identify, label
from service.ingest.naming import MAX_BYTES, MAX_TAGS, TOO_MANY_TAGS
from service.ingest.remote_write import HISTOGRAMS
from service.ingest.samples import HEAD, SIZE, ZERO, ZERO_HEAD, ZERO_SIZE, Samples
from service.ingest.wire import MAX_PARTS, broken_off, fields, too_many

__all__ = ["decode"]

_Integers = NDArray[np.int64]
_Series = tuple[bytes, bytes | list[bytes]]
"""Its references, and its sample in the first shape, or a list of any samples."""

_SYMBOL, _TIME_SERIES = 0x22, 0x2A
_REFERENCES, _SAMPLE, _HISTOGRAM, _METADATA = 0x0A, 0x12, 0x1A, 0x2A
_CHUNK = 1024
"""Series whose labels are put together at a time."""
_MAX_KEPT = 256
"""Bytes of a label that is kept for the rest of a chunk."""
_MAX_REFERENCES = 4 * 2 * (MAX_TAGS + 1)
_MAX_BYTES = 4


def decode(body: bytes, table: SeriesTable, now: int) -> Decoded:  # noqa: ARG001
    """Decode the samples of a request, which all have times.

    A series is called by its label __name__, with the others as tags. The stale marker is a NaN.

    Raises:
        MalformedInputError: it is no such message, or refers to symbols that it does not have.
    """
    samples, symbols = Samples(), _symbols(body)
    chunk: list[_Series] = []
    for start, stop in _spans(body):
        chunk.append(_usual(body, start, stop) or _any(body, start, stop, samples))
        if len(chunk) == _CHUNK:
            _add(chunk, symbols, table, samples)
            chunk.clear()
    _add(chunk, symbols, table, samples)
    return samples.decoded()


def _symbols(body: bytes) -> list[bytes]:
    """Return the symbols, which may stand anywhere in the request."""
    return [body[at:stop] for tag, at, stop in fields(body, 0, len(body)) if tag == _SYMBOL]


def _spans(body: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each series begins and ends."""
    stop, size = 0, len(body)
    while stop < size:
        # A series takes less than 128 bytes, its length one; or else, look properly.
        start = stop + 2
        if start < size and body[stop] == _TIME_SERIES and body[stop + 1] < 0x80:
            stop = start + body[stop + 1]
            if stop > size:
                raise broken_off()
            yield start, stop
        else:
            tag, start, stop = next(fields(body, stop, size))
            if tag == _TIME_SERIES:
                yield start, stop


def _usual(body: bytes, start: int, end: int) -> _Series | None:
    """Return a series that has references, one sample and perhaps metadata; None for any other."""
    if end - start < ZERO_SIZE or body[start] != _REFERENCES or body[start + 1] > 0x7F:
        return None
    cut = start + 2 + body[start + 1]
    head = body[cut : cut + 3]
    if head == HEAD:
        stop = cut + SIZE
        sample = body[cut:stop]
    elif head == ZERO_HEAD:
        stop = cut + ZERO_SIZE
        sample = ZERO + body[cut + 3 : stop]
    else:
        return None
    if stop == end or (
        stop + 2 <= end and body[stop] == _METADATA and stop + 2 + body[stop + 1] == end
    ):
        return body[start + 2 : cut], sample
    return None


def _any(body: bytes, start: int, end: int, samples: Samples) -> _Series:
    references, cuts, before = list[bytes](), list[bytes](), start
    for tag, at, stop in fields(body, start, end):
        if tag == _SAMPLE:
            cuts.append(body[before:stop])
        elif tag == _REFERENCES:
            references.append(body[at:stop])
        elif tag == _HISTOGRAM:
            samples.reject(HISTOGRAMS)
        if len(cuts) > MAX_PARTS:
            raise too_many()
        before = stop
    joined = b"".join(references)
    if len(joined) > _MAX_REFERENCES:
        samples.reject(TOO_MANY_TAGS, len(cuts))
        return b"", []
    return joined, cuts


def _add(chunk: list[_Series], symbols: list[bytes], table: SeriesTable, samples: Samples) -> None:
    """Add some series with their samples."""
    get, add_series, add_cut = table.ids.get, samples.series.append, samples.cuts.append
    for block, (_, cut) in zip(_blocks(chunk, symbols), chunk, strict=True):
        found = get(block)
        if found is None or isinstance(cut, list):
            _add_any(block, [cut] if isinstance(cut, bytes) else cut, table, samples)
        else:
            add_series(found)
            add_cut(cut)


def _add_any(block: bytes, cuts: list[bytes], table: SeriesTable, samples: Samples) -> None:
    """Add samples of any shape, which are messages with their tag."""
    if not cuts:
        return
    try:
        found = identify(block, table)
    except UnusableError as error:
        samples.reject(str(error), len(cuts))
        return
    for cut in cuts:
        _, start, end = next(fields(cut, 0, len(cut)))
        samples.add(found, cut, start, end)


def _blocks(chunk: list[_Series], symbols: list[bytes]) -> Iterator[bytes]:
    """Yield the labels of each series, as remote write 1.0 has them."""
    numbers, counts = _numbers([references for references, _ in chunk])
    if (counts % 2).any() or (numbers >= len(symbols)).any():
        raise MalformedInputError("The request refers to symbols that it does not have.")
    labels = _Labels(symbols)
    pairs = (numbers[::2] * max(len(symbols), 1) + numbers[1::2]).tolist()
    for start, end in pairwise([0, *np.cumsum(counts // 2).tolist()]):
        yield b"".join(map(labels.__getitem__, pairs[start:end]))


class _Labels(dict[int, bytes]):
    """The bytes of labels, by the number of the name times the symbols plus that of the value."""

    def __init__(self, symbols: list[bytes]) -> None:
        super().__init__()
        self._symbols = symbols

    def __missing__(self, pair: int) -> bytes:
        # A reference takes one byte, and its symbol may be as long as the body: a long one is cut
        # off where it is still beyond the limit, and not kept.
        number, other = divmod(pair, len(self._symbols))
        name, value = self._symbols[number][: MAX_BYTES + 1], self._symbols[other][: MAX_BYTES + 1]
        made = label(name, value)
        if len(made) <= _MAX_KEPT:
            self[pair] = made
        return made


def _numbers(parts: list[bytes]) -> tuple[_Integers, _Integers]:
    """Return the varints of all parts, and how many each part has."""
    data = np.frombuffer(b"".join(parts), np.uint8)
    part_ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
    if (data[part_ends[part_ends > 0] - 1] >= 0x80).any():
        raise broken_off()
    ends = np.flatnonzero(data < 0x80) + 1
    starts = np.concatenate(([0], ends))[:-1]
    if len(data) and (ends - starts).max() > _MAX_BYTES:
        raise broken_off()
    places = np.arange(len(data)) - np.repeat(starts, ends - starts)
    digits = (data & 0x7F).astype(np.int64) << 7 * places
    numbers = np.add.reduceat(digits, starts) if len(data) else digits
    return numbers, np.diff(np.searchsorted(ends, part_ends, "right"), prepend=0)
