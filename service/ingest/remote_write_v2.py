"""Prometheus remote write 2.0: the message io.prometheus.write.v2.Request.

Its labels are numbers of symbols, whose table is another in every request; so they are put together
as remote write 1.0 has them, and a series has one token in both.

The format: https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/
"""

from __future__ import annotations

from array import array
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

_SYMBOL, _TIME_SERIES = 0x22, 0x2A
_REFERENCES, _SAMPLE, _HISTOGRAM, _METADATA = 0x0A, 0x12, 0x1A, 0x2A
_PADDING = 300
_CHUNK = 1024
"""Series whose labels are put together at a time."""
_MAX_KEPT = 256
"""Bytes of a label that is kept for the rest of the request, ..."""
_MAX_LABELS = 1 << 16
"""... and how many of them."""
_MAX_REFERENCES = 4 * 2 * (MAX_TAGS + 1)
_MAX_BYTES = 4
_TOO_LONG = bytes(2 * MAX_BYTES + 1)
"""Stands for labels that are beyond the limit of `identify`."""


def decode(body: bytes, table: SeriesTable, now: int) -> Decoded:  # noqa: ARG001
    """Decode the samples of a request, which all have times.

    A series is called by its label __name__, with the others as tags. The stale marker is a NaN.

    Raises:
        MalformedInputError: it is no such message, or refers to symbols that it does not have.
    """
    samples, (symbols, starts, ends) = Samples(), _parts(body)
    padded = np.frombuffer(body + bytes(_PADDING), np.uint8)
    labels = _Labels(symbols)
    for first in range(0, len(starts), _CHUNK):
        chunk = slice(first, first + _CHUNK)
        _add(body, padded, starts[chunk], ends[chunk], labels, table, samples)
    return samples.decoded()


def _parts(body: bytes) -> tuple[list[bytes], _Integers, _Integers]:
    """Return the symbols, and where each series begins and ends."""
    symbols, starts, ends = list[bytes](), array("q"), array("q")
    add_start, add_end = starts.append, ends.append
    end, size = 0, len(body)
    while end < size:
        # A series takes less than 128 bytes, its length one; or else, look properly.
        start = end + 2
        if start < size and body[end] == _TIME_SERIES and body[end + 1] < 0x80:
            end = start + body[end + 1]
            if end > size:
                raise broken_off()
            add_start(start)
            add_end(end)
            continue
        tag, start, end = next(fields(body, end, size))
        if tag == _TIME_SERIES:
            add_start(start)
            add_end(end)
        elif tag == _SYMBOL:
            symbols.append(body[start:end])
        if len(symbols) > MAX_PARTS:
            raise too_many()
    if len(starts) > MAX_PARTS:
        raise too_many()
    return symbols, np.array(starts, np.int64), np.array(ends, np.int64)


def _add(
    body: bytes,
    padded: NDArray[np.uint8],
    starts: _Integers,
    ends: _Integers,
    labels: _Labels,
    table: SeriesTable,
    samples: Samples,
) -> None:
    """Add the samples of some series."""
    cuts, sizes = (column.tolist() for column in _usual(padded, starts, ends))
    references, others = list[bytes](), dict[int, list[bytes]]()
    for start, end, cut, size in zip(starts.tolist(), ends.tolist(), cuts, sizes, strict=True):
        if size:
            references.append(body[start + 2 : cut])
        else:
            found, others[len(references)] = _any(body, start, end, samples)
            references.append(found)
    get, add_series, add_cut = table.ids.get, samples.series.append, samples.cuts.append
    blocks = _blocks(references, labels)
    for number, (block, cut, size) in enumerate(zip(blocks, cuts, sizes, strict=True)):
        known = get(block)
        if known is None or not size:
            _add_any(block, others.get(number, [body[cut : cut + size]]), table, samples)
            continue
        add_series(known)
        add_cut(body[cut : cut + SIZE] if size == SIZE else ZERO + body[cut + 3 : cut + size])


def _usual(
    data: NDArray[np.uint8], starts: _Integers, ends: _Integers
) -> tuple[_Integers, _Integers]:
    """Find series that have references, one sample of two shapes, and perhaps metadata.

    Args:
        data: the body, and some bytes after it, because series are looked at beyond their ends.
        starts: where series begin.
        ends: where they end.

    Returns:
        Where the sample of each series begins, and how many bytes it takes; 0 for other series.
    """
    cuts = starts + 2 + data[starts + 1]
    sizes = np.zeros(len(starts), np.int64)
    usual = (data[starts] == _REFERENCES) & (data[starts + 1] < 0x80)
    for size, head in ((SIZE, HEAD), (ZERO_SIZE, ZERO_HEAD)):
        stops = cuts + size
        rest, length = ends - stops, data[stops + 1].astype(np.int64)
        metadata = (data[stops] == _METADATA) & (length < 0x80) & (rest == length + 2)
        heads = np.all([data[cuts + place] == byte for place, byte in enumerate(head)], axis=0)
        sizes[usual & heads & ((rest == 0) | metadata)] = size
    return cuts, sizes


def _any(body: bytes, start: int, end: int, samples: Samples) -> tuple[bytes, list[bytes]]:
    """Return the references and the samples of a series, which are messages with their tag."""
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


def _blocks(references: list[bytes], labels: _Labels) -> Iterator[bytes]:
    """Yield the labels of each series, as remote write 1.0 has them."""
    numbers, counts = _numbers(references)
    if (counts % 2).any() or (numbers >= len(labels.symbols)).any():
        raise MalformedInputError("The request refers to symbols that it does not have.")
    pairs = (numbers[::2] * len(labels.symbols) + numbers[1::2]).tolist()
    # A reference takes one byte, and its symbol may be as long as the body.
    sizes = np.concatenate(([0], np.cumsum(labels.sizes[numbers])))
    ends = np.cumsum(counts)
    long = (sizes[ends] - sizes[ends - counts] > MAX_BYTES).tolist()
    bounds = pairwise([0, *(ends // 2).tolist()])
    for (start, end), too_long in zip(bounds, long, strict=True):
        yield _TOO_LONG if too_long else b"".join(map(labels.__getitem__, pairs[start:end]))


class _Labels(dict[int, bytes]):
    """The bytes of labels, by the number of the name times the symbols plus that of the value."""

    def __init__(self, symbols: list[bytes]) -> None:
        super().__init__()
        self.symbols = symbols
        self.sizes = np.array([len(symbol) for symbol in symbols], np.int64)

    def __missing__(self, pair: int) -> bytes:
        name, value = divmod(pair, len(self.symbols))
        made = label(self.symbols[name], self.symbols[value])
        if len(made) <= _MAX_KEPT and len(self) < _MAX_LABELS:
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
