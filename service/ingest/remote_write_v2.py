"""Prometheus remote write 2.0: the message io.prometheus.write.v2.Request.

Its labels are numbers of symbols, whose table is another in every request. To put labels together
for each sample would take half of the time. So the token of a series is a sum over its labels, for
all series at once, of the hash of a name times the hash of its value: 128 bits, with a secret key,
so that nobody can make two series with the same sum. The key is another in every process, so no
snapshot keeps these tokens.

The format: https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/
"""

from __future__ import annotations

import secrets
from array import array
from collections.abc import Callable
from functools import lru_cache, partial
from hashlib import blake2b
from typing import cast

import numpy as np
from numpy.typing import NDArray

from models.telemetry.points import SeriesTable
from models.telemetry.snapshot import TransientToken
from service.formats.errors import MalformedInputError
from service.ingest.decoded import Decoded, UnusableError
from service.ingest.labels import Label, series_with
from service.ingest.naming import MAX_BYTES, MAX_TAGS, TOO_LONG, TOO_MANY_TAGS
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
_KEY = secrets.token_bytes(32)
_MAX_KEPT = 256
"""Bytes of a symbol whose numbers are kept for later requests, ..."""
_MAX_SYMBOLS = 1 << 16
"""... and how many of them."""
_MAX_REFERENCES = 4 * 2 * (MAX_TAGS + 1)
_MAX_BYTES = 4


def decode(body: bytes, table: SeriesTable, now: int) -> Decoded:  # noqa: ARG001
    """Decode the samples of a request, which all have times.

    A series is called by its label __name__, with the others as tags. The stale marker is a NaN.

    Raises:
        MalformedInputError: it is no such message, or refers to symbols that it does not have.
    """
    samples, (texts, starts, ends) = Samples(), _parts(body)
    padded = np.frombuffer(body + bytes(_PADDING), np.uint8)
    symbols = _Symbols(texts)
    for first in range(0, len(starts), _CHUNK):
        chunk = slice(first, first + _CHUNK)
        _add(body, padded, starts[chunk], ends[chunk], symbols, table, samples)
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
    symbols: _Symbols,
    table: SeriesTable,
    samples: Samples,
) -> None:
    """Add the samples of some series."""
    cuts, sizes = _usual(padded, starts, ends)
    references, others = list[bytes](), dict[int, list[bytes]]()
    bounds = zip(starts.tolist(), ends.tolist(), cuts.tolist(), sizes.tolist(), strict=True)
    for start, end, cut, size in bounds:
        if size:
            references.append(body[start + 2 : cut])
        else:
            found, others[len(references)] = _any(body, start, end, samples)
            references.append(found)
    named = _Named(references, symbols)
    tokens = named.tokens()
    known = [*map(table.ids.get, tokens)]
    whole = _whole(padded, cuts, sizes)
    if not others and None not in known:
        samples.series += cast("list[int]", known)
        samples.cuts.append(whole.tobytes())
        return
    for number, (token, id_) in enumerate(zip(tokens, known, strict=True)):
        if id_ is None or number in others:
            parts = others.get(number, [whole[number].tobytes()])
            _add_any(token, partial(named.labels, number), parts, table, samples)
            continue
        samples.series.append(id_)
        samples.cuts.append(whole[number].tobytes())


def _whole(data: NDArray[np.uint8], cuts: _Integers, sizes: _Integers) -> NDArray[np.uint8]:
    """Return the bytes of samples of the two usual shapes, all in the first: [n, SIZE]."""
    whole: NDArray[np.uint8] = data[cuts[:, None] + np.arange(SIZE)]
    zeros = np.flatnonzero(sizes == ZERO_SIZE)
    times = len(ZERO_HEAD) + np.arange(SIZE - len(ZERO))
    whole[zeros[:, None], np.arange(len(ZERO), SIZE)] = data[cuts[zeros][:, None] + times]
    whole[zeros, : len(ZERO)] = np.frombuffer(ZERO, np.uint8)
    return whole


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


def _add_any(
    token: bytes,
    labels: Callable[[], list[Label]],
    cuts: list[bytes],
    table: SeriesTable,
    samples: Samples,
) -> None:
    """Add samples of any shape, which are messages with their tag, of a series that may be new."""
    if not cuts:
        return
    found = table.ids.get(token)
    if found is None:
        try:
            found = table.add(TransientToken(token), series_with(labels()))
        except UnusableError as error:
            samples.reject(str(error), len(cuts))
            return
    for cut in cuts:
        _, start, end = next(fields(cut, 0, len(cut)))
        samples.add(found, cut, start, end)


class _Symbols:
    """The texts that labels are made of.

    Attributes:
        texts: by number.
        sizes: of the texts, in bytes.
        factors: two of each text as a name, and two as a value: uint64 [4, n].
    """

    def __init__(self, texts: list[bytes]) -> None:
        self.texts = texts
        self.sizes = np.array([len(text) for text in texts], np.int64)
        factors = np.frombuffer(b"".join(map(_factors, texts)), np.uint64)
        self.factors = np.ascontiguousarray(factors.reshape(-1, 4).T)


def _factors(text: bytes) -> bytes:
    return _kept_factors(text) if len(text) <= _MAX_KEPT else _kept_factors.__wrapped__(text)


@lru_cache(_MAX_SYMBOLS)
def _kept_factors(text: bytes) -> bytes:
    return blake2b(text, key=_KEY, digest_size=32).digest()


class _Named:
    """The labels of some series.

    Args:
        references: numbers of the symbols, of each series.
        symbols: of the request.

    Raises:
        MalformedInputError: the numbers are no pairs, or of no symbols.
    """

    def __init__(self, references: list[bytes], symbols: _Symbols) -> None:
        self._symbols = symbols
        self._numbers, counts = _numbers(references)
        if (counts % 2).any() or (self._numbers >= len(symbols.texts)).any():
            raise MalformedInputError("The request refers to symbols that it does not have.")
        self._bounds = np.concatenate(([0], np.cumsum(counts)))

    def tokens(self) -> list[bytes]:
        """Return what tells each series from all others, in any order of its labels."""
        names, values = self._numbers[::2], self._numbers[1::2]
        first, last = self._bounds[:-1] // 2, self._bounds[1:] // 2
        sums, both = np.zeros(len(names) + 1, np.uint64), np.empty((len(first), 2), np.uint64)
        for half, (of_name, of_value) in enumerate(self._symbols.factors.reshape(2, 2, -1)):
            np.cumsum(of_name[names] * of_value[values], out=sums[1:])
            both[:, half] = sums[last] - sums[first]
        tokens: list[bytes] = both.view("V16")[:, 0].tolist()
        return tokens

    def labels(self, series: int) -> list[Label]:
        """Return the labels of a series.

        Raises:
            UnusableError: they are too long.
        """
        numbers = self._numbers[self._bounds[series] : self._bounds[series + 1]]
        # A reference takes one byte, and its symbol may be as long as the body.
        if self._symbols.sizes[numbers].sum() > MAX_BYTES:
            raise UnusableError(TOO_LONG)
        texts = [self._symbols.texts[number] for number in numbers.tolist()]
        return [*zip(texts[::2], texts[1::2], strict=True)]


def _numbers(parts: list[bytes]) -> tuple[_Integers, _Integers]:
    """Return the varints of all parts, and how many each part has."""
    data = np.frombuffer(b"".join(parts), np.uint8)
    part_ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
    if (data[part_ends[part_ends > 0] - 1] >= 0x80).any():
        raise broken_off()
    last = np.flatnonzero(data < 0x80)
    starts = np.concatenate(([0], last + 1))[:-1]
    further = last - starts
    numbers = (data[starts] & 0x7F).astype(np.int64)
    longest = further.max(initial=0)
    if longest >= _MAX_BYTES:
        raise broken_off()
    for place in range(1, longest + 1):
        longer = np.flatnonzero(further >= place)
        numbers[longer] |= (data[starts[longer] + place] & 0x7F).astype(np.int64) << 7 * place
    return numbers, np.diff(np.searchsorted(last, part_ends), prepend=0)
