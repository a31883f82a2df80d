"""Bodies that were made to do harm."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pyarrow as pa
import zstandard

from benchmarks.harness.requests import http, real_body

_MAX_BYTES = 16 << 20
"""What the service takes by default."""
_REPORT = "?on_invalid=report"
_ARROW = {"Content-Type": "application/vnd.apache.arrow.stream"}


@dataclass(frozen=True, slots=True)
class Case:
    """A body with a name, and whether the service must refuse all of it."""

    name: str
    body: bytes
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    refused: bool = True

    @property
    def request(self) -> bytes:
        """The bytes of HTTP."""
        return http("POST", "/classify" + self.query, self.body, self.headers)


def cases() -> Iterator[Case]:
    """Yield all bodies; they are large, so each is made when its turn comes."""
    yield from _json()
    yield from _compressed()
    yield from _arrow()


def _json() -> Iterator[Case]:
    yield Case("10,000 empty objects", _records(b"{}", 10_000))
    yield Case("10,000 empty objects, reported", _records(b"{}", 10_000), _REPORT, refused=False)
    for text in ("{}", "[]", '{"":0}', "0", '""'):
        yield Case(f"16 MiB of `{text}`", _full(text.encode()))
        yield Case(f"16 MiB of `{text}`, reported", _full(text.encode()), _REPORT)
    yield Case("16 MiB of `[`", b"[" * _MAX_BYTES)
    yield Case("16 MiB of nested arrays as a record", _nested(b"[", b"]"))
    yield Case("16 MiB of nested objects as a record", _nested(b'{"a":', b"}", b"0"))
    yield Case("a record with a million fields", _wide(1_000_000))
    yield Case("a record with a million fields, reported", _wide(1_000_000), _REPORT)
    yield Case("a string of 16 MiB as a record", _around(b'"' + b"a" * (_MAX_BYTES - 20) + b'"'))
    yield Case("a string of 16 MiB as the body", b'"' + b"a" * (_MAX_BYTES - 2) + b'"')
    yield Case("16 MiB of digits as a record", _around(b"9" * (_MAX_BYTES - 20)))
    yield Case("9,000 records, the last one wrong", _last_wrong())
    yield Case("9,000 records, the last one wrong, reported", _last_wrong(), _REPORT, refused=False)


def _compressed() -> Iterator[Case]:
    packers: dict[str, Callable[[bytes], bytes]] = {
        "gzip": lambda data: gzip.compress(data, 6, mtime=0),
        "zstd": zstandard.ZstdCompressor().compress,
    }
    for name, pack in packers.items():
        headers = {"Content-Encoding": name}
        bomb = pack(bytes(64 << 20))
        bombs = bomb * (_MAX_BYTES // len(bomb))
        inflated = f"{len(bombs) // len(bomb) >> 4} GiB"
        yield Case(f"{name} of {inflated} of zeros", bombs, headers=headers)
        yield Case(f"{name} of 16 MiB of `{{}}`", pack(_full(b"{}")), headers=headers)
        yield Case(f"{name} of 16 MiB of `[`", pack(b"[" * _MAX_BYTES), headers=headers)
        what = f"{name} of 16 MiB of `0`, reported"
        yield Case(what, pack(_full(b"0")), _REPORT, headers)
        empty = pack(b"")
        yield Case(f"16 MiB of empty {name}", empty * (_MAX_BYTES // len(empty)), headers=headers)


def _arrow() -> Iterator[Case]:
    names = list(json.loads(real_body(1))["records"][0])
    yield Case("Arrow, 16 MiB of zeros", bytes(_MAX_BYTES), headers=_ARROW)
    no_columns = pa.RecordBatch.from_arrays([], [])
    yield Case("Arrow, 100,000 batches without columns", _stream(no_columns, 100_000), "", _ARROW)
    nulls = pa.RecordBatch.from_arrays([pa.nulls(1_000_000_000)] * len(names), names)
    yield Case("Arrow, a thousand million nulls", _stream(nulls, 1), "", _ARROW)
    empty = pa.RecordBatch.from_arrays([pa.nulls(0)] * len(names), names)
    yield Case("Arrow, 4,000 empty batches", _stream(empty, 4_000), "", _ARROW)


def _around(content: bytes) -> bytes:
    return b'{"records":[' + content + b"]}"


def _records(record: bytes, number: int) -> bytes:
    return _around(((record + b",") * number)[:-1])


def _full(record: bytes) -> bytes:
    return _records(record, (_MAX_BYTES - 14) // (len(record) + 1))


def _nested(opening: bytes, closing: bytes, middle: bytes = b"") -> bytes:
    depth = (_MAX_BYTES - 20) // (len(opening) + len(closing))
    return _around(opening * depth + middle + closing * depth)


def _wide(fields: int) -> bytes:
    return _around(b"{" + b",".join(b'"f%d":0' % i for i in range(fields)) + b"}")


def _last_wrong() -> bytes:
    """Return a good body, except for the last record's last number."""
    start, _, number = real_body(9_000).rpartition(b":")
    return start + b':"x"' + number[number.index(b"}") :]


def _stream(batch: pa.RecordBatch, times: int) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        for _ in range(times):
            writer.write_batch(batch)
    return sink.getvalue()
