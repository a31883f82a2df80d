"""Requests with real records, as the bytes of HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import cycle

from benchmarks.harness.records import real_records
from benchmarks.harness.wires import ARROW, ROWS

LARGE = 10_000
"""Records of a large batch."""
_SINGLES = 64
"""Different records that are sent by themselves, in turn."""


def http(
    method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> bytes:
    """Return a request; one with a body is JSON unless a header says otherwise."""
    named = {"Host": "localhost", **(headers or {})}
    if body:
        named = {"Content-Type": "application/json", "Content-Length": str(len(body)), **named}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {text}" for name, text in named.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


@cache
def real_body(records: int, *, arrow: bool = False) -> bytes:
    """Return a request's body with this many real records."""
    return (ARROW if arrow else ROWS).encode(real_records(LARGE).first(records))[0]


def batch(records: int, *, arrow: bool = False, query: str = "") -> bytes:
    """Return a request to classify this many real records."""
    headers = ARROW.headers if arrow else ROWS.headers
    return http("POST", "/classify" + query, real_body(records, arrow=arrow), headers)


def singles(*, close: bool = False) -> Iterator[bytes]:
    """Yield requests to classify one real record, for ever; each may close its connection."""
    records = json.loads(real_body(1_000))["records"]
    step = len(records) // _SINGLES
    bodies = [json.dumps({"records": [row]}, separators=(",", ":")) for row in records[::step]]
    headers = {"Connection": "close"} if close else {}
    return cycle([http("POST", "/classify", body.encode(), headers) for body in bodies])


LIVEZ = http("GET", "/livez")
"""Asks whether the process is alive."""
LIVEZ_ANEW = http("GET", "/livez", headers={"Connection": "close"})
"""The same on a connection of its own, as orchestrators ask."""
