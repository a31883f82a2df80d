"""Prometheus remote write 1.0: the message prometheus.WriteRequest.

The format: https://prometheus.io/docs/specs/prw/remote_write_spec/
"""

from __future__ import annotations

from models.telemetry.points import SeriesTable
from service.ingest.decoded import Decoded, UnusableError
from service.ingest.labels import identify
from service.ingest.samples import HEAD, SIZE, ZERO, ZERO_HEAD, ZERO_SIZE, Samples
from service.ingest.wire import MAX_PARTS, broken_off, fields, too_many

__all__ = ["HISTOGRAMS", "decode"]

HISTOGRAMS = "native histograms"
_TIME_SERIES, _LABEL, _SAMPLE, _HISTOGRAM = 0x0A, 0x0A, 0x12, 0x22


def decode(body: bytes, table: SeriesTable, now: int) -> Decoded:  # noqa: ARG001
    """Decode the samples of a request, which all have times.

    A series is called by its label __name__, with the others as tags. The stale marker is a NaN.

    Raises:
        MalformedInputError: it is no such message.
    """
    samples, get = Samples(), table.ids.get
    add_series, add_cut = samples.series.append, samples.cuts.append
    stop, size, unusual = 0, len(body), 0
    while stop < size:
        # A series has 128 to 16383 bytes, so that two tell its length; or else, look properly.
        start = stop + 3
        if start < size and body[stop] == _TIME_SERIES and body[stop + 1] > 0x7F > body[stop + 2]:
            stop = start + (body[stop + 1] & 0x7F | body[stop + 2] << 7)
            if stop > size:
                raise broken_off()
        else:
            tag, start, stop = next(fields(body, stop, size))
            unusual += 1
            if unusual > MAX_PARTS:
                raise too_many()
            if tag != _TIME_SERIES:
                continue
        # Labels, then one sample: if what stands before something like a sample is all the labels
        # of a known series, then it is one, for labels that are cut off are nobody's.
        cut = stop - SIZE
        if cut > start and body[cut : cut + 3] == HEAD:
            found = get(body[start:cut])
            if found is not None:
                add_series(found)
                add_cut(body[cut:stop])
                continue
        cut = stop - ZERO_SIZE
        if cut > start and body[cut : cut + 3] == ZERO_HEAD:
            found = get(body[start:cut])
            if found is not None:
                add_series(found)
                add_cut(ZERO + body[cut + 3 : stop])
                continue
        _add(body, start, stop, table, samples)
    return samples.decoded()


def _add(body: bytes, start: int, end: int, table: SeriesTable, samples: Samples) -> None:
    """Add the samples of a series of any shape."""
    labels, spans, histograms = [], [], 0
    before = start
    for tag, at, stop in fields(body, start, end):
        if tag == _LABEL:
            labels.append(body[before:stop])
        elif tag == _SAMPLE:
            spans.append((at, stop))
        elif tag == _HISTOGRAM:
            histograms += 1
        if len(spans) > MAX_PARTS:
            raise too_many()
        before = stop
    if histograms:
        samples.reject(HISTOGRAMS, histograms)
    if not spans:
        return
    try:
        found = identify(b"".join(labels), table)
    except UnusableError as error:
        samples.reject(str(error), len(spans))
        return
    for at, stop in spans:
        samples.add(found, body, at, stop)
