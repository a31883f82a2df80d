"""Prometheus remote write 2.0: the message io.prometheus.write.v2.Request.

Its labels are numbers of symbols, whose table is another in every request; so they are put together
as remote write 1.0 has them, and a series has one token in both.

The format: https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.telemetry.points import SeriesTable
from service.formats.errors import MalformedInputError
from service.ingest.decoded import Decoded, UnusableError
from service.ingest.labels import identify, label
from service.ingest.remote_write import HISTOGRAMS
from service.ingest.samples import HEAD, SIZE, ZERO, ZERO_HEAD, ZERO_SIZE, Samples
from service.ingest.wire import broken_off, fields

__all__ = ["decode"]

_Integers = NDArray[np.int64]
_Series = tuple[bytes, bytes | list[bytes]]
"""Its references, and its sample in the first shape, or a list of any samples."""

_SYMBOL, _TIME_SERIES = 0x22, 0x2A
_REFERENCES, _SAMPLE, _HISTOGRAM, _METADATA = 0x0A, 0x12, 0x1A, 0x2A
_MAX_BYTES = 4


def decode(body: bytes, table: SeriesTable, now: int) -> Decoded:  # noqa: ARG001
    """Decode the samples of a request, which all have times.

    A series is called by its label __name__, with the others as tags. The stale marker is a NaN.

    Raises:
        MalformedInputError: it is no such message, or refers to symbols that it does not have.
    """
    samples, symbols, series = Samples(), list[bytes](), list[_Series]()
    stop, size = 0, len(body)
    while stop < size:
        # A series takes less than 128 bytes, its length one; or else, look properly.
        start = stop + 2
        if start < size and body[stop] == _TIME_SERIES and body[stop + 1] < 0x80:
            stop = start + body[stop + 1]
            if stop > size:
                raise broken_off()
        else:
            tag, start, stop = next(fields(body, stop, size))
            if tag == _SYMBOL:
                symbols.append(body[start:stop])
            if tag != _TIME_SERIES:
                continue
        series.append(_usual(body, start, stop) or _any(body, start, stop, samples))
    get, add_series, add_cut = table.ids.get, samples.series.append, samples.cuts.append
    blocks = _blocks([references for references, _ in series], symbols)
    for block, (_, cut) in zip(blocks, series, strict=True):
        found = get(block)
        if found is None or isinstance(cut, list):
            _add(block, [cut] if isinstance(cut, bytes) else cut, table, samples)
        else:
            add_series(found)
            add_cut(cut)
    return samples.decoded()


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
    references, cuts, before = b"", list[bytes](), start
    for tag, at, stop in fields(body, start, end):
        if tag == _SAMPLE:
            cuts.append(body[before:stop])
        elif tag == _REFERENCES:
            references += body[at:stop]
        elif tag == _HISTOGRAM:
            samples.reasons[HISTOGRAMS] += 1
        before = stop
    return references, cuts


def _add(block: bytes, cuts: list[bytes], table: SeriesTable, samples: Samples) -> None:
    """Add samples of any shape, which are messages with their tag."""
    if not cuts:
        return
    try:
        found = identify(block, table)
    except UnusableError as error:
        samples.reasons[str(error)] += len(cuts)
        return
    for cut in cuts:
        _, start, end = next(fields(cut, 0, len(cut)))
        samples.add(found, cut, start, end)


def _blocks(references: Sequence[bytes], symbols: Sequence[bytes]) -> list[bytes]:
    """Return the labels of each series, as remote write 1.0 has them."""
    numbers, counts = _numbers(references)
    if (counts % 2).any() or (numbers >= len(symbols)).any():
        raise MalformedInputError("The request refers to symbols that it does not have.")
    width = max(len(symbols), 1)
    labels = _Labels(symbols)
    pairs = (numbers[::2] * width + numbers[1::2]).tolist()
    ends = np.cumsum(counts // 2).tolist()
    starts = [0, *ends[:-1]]
    pieces = labels.__getitem__
    return [
        b"".join(map(pieces, pairs[start:end])) for start, end in zip(starts, ends, strict=True)
    ]


class _Labels(dict[int, bytes]):
    """The bytes of labels, by the number of the name times the symbols plus that of the value."""

    def __init__(self, symbols: Sequence[bytes]) -> None:
        super().__init__()
        self._symbols = symbols

    def __missing__(self, pair: int) -> bytes:
        name, value = divmod(pair, len(self._symbols))
        made = self[pair] = label(self._symbols[name], self._symbols[value])
        return made


def _numbers(parts: Sequence[bytes]) -> tuple[_Integers, _Integers]:
    """Return the varints of all parts, and how many each part has."""
    data = np.frombuffer(b"".join(parts), np.uint8)
    ends = np.flatnonzero(data < 0x80) + 1
    if not len(ends):
        return np.zeros(0, np.int64), np.zeros(len(parts), np.int64)
    starts = np.concatenate(([0], ends[:-1]))
    part_ends = np.cumsum([len(part) for part in parts])
    # Each part ends with a number, and no number of symbols takes more than four bytes.
    if (data[part_ends[part_ends > 0] - 1] >= 0x80).any() or (ends - starts).max() > _MAX_BYTES:
        raise broken_off()
    places = np.arange(ends[-1]) - np.repeat(starts, ends - starts)
    numbers = np.add.reduceat((data & 0x7F).astype(np.int64) << 7 * places, starts)
    return numbers, np.diff(np.searchsorted(ends, part_ends, "right"), prepend=0)
