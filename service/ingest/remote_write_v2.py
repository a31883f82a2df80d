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

_SYMBOL, _TIME_SERIES = 0x22, 0x2A
_MAX_BYTES = 4
_REFERENCES, _SAMPLE, _HISTOGRAM = 0x0A, 0x12, 0x1A


def decode(body: bytes, table: SeriesTable, now: int) -> Decoded:  # noqa: ARG001
    """Decode the samples of a request, which all have times.

    A series is called by its label __name__, with the others as tags. The stale marker is a NaN.

    Raises:
        MalformedInputError: it is no such message, or refers to symbols that it does not have.
    """
    symbols, spans = [], []
    for tag, start, end in fields(body, 0, len(body)):
        if tag == _TIME_SERIES:
            spans.append((start, end))
        elif tag == _SYMBOL:
            symbols.append(body[start:end])
    samples = Samples()
    references, cuts = [], []
    for start, end in spans:
        found = _parts(body, start, end, samples)
        references.append(found[0])
        cuts.append(found[1])
    for block, own in zip(_blocks(references, symbols), cuts, strict=True):
        _add(block, own, table, samples)
    return samples.decoded()


def _parts(body: bytes, start: int, end: int, samples: Samples) -> tuple[bytes, list[bytes]]:
    """Return the references and the samples of a series, which are messages with their tag."""
    references, cuts, before = b"", [], start
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
    found = table.ids.get(block)
    if found is None:
        if not cuts:
            return
        try:
            found = identify(block, table)
        except UnusableError as error:
            samples.reasons[str(error)] += len(cuts)
            return
    for cut in cuts:
        if len(cut) == SIZE and cut.startswith(HEAD):
            samples.series.append(found)
            samples.cuts.append(cut)
        elif len(cut) == ZERO_SIZE and cut.startswith(ZERO_HEAD):
            samples.series.append(found)
            samples.cuts.append(ZERO + cut[3:])
        else:
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
    if not np.isin(part_ends, (0, *ends)).all() or (ends - starts).max() > _MAX_BYTES:
        raise broken_off()
    places = np.arange(ends[-1]) - np.repeat(starts, ends - starts)
    numbers = np.add.reduceat((data & 0x7F).astype(np.int64) << 7 * places, starts)
    return numbers, np.diff(np.searchsorted(ends, part_ends, "right"), prepend=0)
