"""Requests as the bytes of HTTP, and what to look for in answers."""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import cycle

import numpy as np

from benchmarks.harness.records import TABLE, Batch
from benchmarks.harness.wires import ARROW, ROWS
from benchmarks.serving.environments import ROOT

LARGE = 10_000
"""Records of a large batch."""
_SINGLES = 64
"""Different records that are sent by themselves, in turn."""
_BUNDLE = re.compile(rb'\{"bundle":\{"name":"([^"]*)","version":"([^"]*)"\}')
_HEADER = re.compile(rb"\r\nfaultcube-bundle: *([^\r]*)\r\n", re.IGNORECASE)


def http(
    method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> bytes:
    """A request; one with a body is JSON unless a header says otherwise."""
    named = {"Host": "localhost", **(headers or {})}
    if body:
        named = {"Content-Type": "application/json", "Content-Length": str(len(body)), **named}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {text}" for name, text in named.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


@cache
def _table() -> Batch:
    """Real records, spread over the whole table that ships."""
    manifest = json.loads((ROOT / "models/iosxr/manifest.json").read_text(encoding="utf-8"))
    names = tuple(each["name"] for each in manifest["fields"])
    with gzip.open(TABLE, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    chosen = [rows[i * len(rows) // LARGE] for i in range(LARGE)]
    return Batch(names, np.array([[float(row[n] or "nan") for n in names] for row in chosen]), ())


@cache
def real_body(records: int, *, arrow: bool = False) -> bytes:
    """So many real records as the body of a request."""
    table = _table()
    chosen = Batch(table.names, table.values[:records], ())
    return (ARROW if arrow else ROWS).encode(chosen)[0]


def batch(records: int, *, arrow: bool = False, query: str = "") -> bytes:
    """A request to classify so many real records."""
    headers = ARROW.headers if arrow else ROWS.headers
    return http("POST", "/classify" + query, real_body(records, arrow=arrow), headers)


def singles(*, close: bool = False) -> Iterator[bytes]:
    """Requests to classify one real record, for ever; each may close its connection."""
    records = json.loads(real_body(1_000))["records"]
    step = len(records) // _SINGLES
    bodies = [json.dumps({"records": [each]}, separators=(",", ":")) for each in records[::step]]
    headers = {"Connection": "close"} if close else {}
    return cycle([http("POST", "/classify", body.encode(), headers) for body in bodies])


LIVEZ = http("GET", "/livez")
"""Whether the process lives."""
LIVEZ_ANEW = http("GET", "/livez", headers={"Connection": "close"})
"""The same on a connection of its own, as orchestrators ask."""


def same_bundle(opening: bytes, known: frozenset[str]) -> str | None:
    """See that head and body of an answer name the same bundle, and one that is known.

    Returns:
        What is wrong.
    """
    head, body = _HEADER.search(opening), _BUNDLE.search(opening)
    if head is None or body is None:
        return "an answer without its bundle"
    if head.group(1) != b"/".join(body.groups()):
        return "head and body that name different bundles"
    return None if body.group(2).decode() in known else "a bundle that is not known"
