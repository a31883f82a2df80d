"""Small and large damage to requests, all of it by a random generator."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import cramjam
import zstandard

from benchmarks.fuzz.request import Request
from benchmarks.fuzz.values import HEADERS, NUMBERS, PATHS, QUERIES, TOKENS, VALUES
from service.ingest.snappy import inflate

_MAX_BYTES = 1 << 19
"""Of a mutate body."""
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_INTEGERS = [0, 1, 2, 7, 8, 127, 255, 1 << 15, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1]

_NOT_IN_TARGETS = bytes({*range(256)} - {*range(0x21, 0x7F)})
"""Bytes that the server refuses before the application sees them."""

Damage = Callable[[bytes, Random], bytes]


def mutate(seeds: Sequence[Request], random: Random) -> Request:
    """Return one of the seeds, damaged a little or a lot."""
    request = random.choice(seeds)
    body = _mutated_body(request, seeds, random)
    request = replace(request, body=body[:_MAX_BYTES])
    if random.random() < 0.2:
        request = replace(request, query=_mutated_query(request.query, random))
    if random.random() < 0.2:
        request = replace(request, headers=_mutated_headers(request.headers, random))
    if random.random() < 0.03:
        request = replace(request, path=random.choice(PATHS), method=random.choice(_METHODS))
    if random.random() < 0.2:
        cuts = tuple(random.randrange(len(body) + 1) for _ in range(random.randrange(1, 5)))
        request = replace(request, cuts=cuts, breaks_off=random.random() < 0.1)
    return request


_METHODS = ("GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE")


def _mutated_body(request: Request, seeds: Sequence[Request], random: Random) -> bytes:
    """Damage the content of a compressed body, or the body itself."""
    encoding = dict(request.headers).get(b"content-encoding")
    body = request.body
    if encoding is None or random.random() < 0.3:
        return _damaged(body, seeds, random)
    plain = _PLAIN[encoding](body)
    return _PACKED[encoding](_damaged(plain, seeds, random))


_PLAIN: dict[bytes, Callable[[bytes], bytes]] = {
    b"gzip": gzip.decompress,
    b"zstd": zstandard.ZstdDecompressor().decompress,
    b"snappy": lambda data: inflate(data, _MAX_BYTES),
}
_PACKED: dict[bytes, Callable[[bytes], bytes]] = {
    b"gzip": lambda data: zlib.compress(data, 1, wbits=31),
    b"zstd": zstandard.ZstdCompressor(level=1).compress,
    b"snappy": lambda data: bytes(cramjam.snappy.compress_raw(data)),
}


def _damaged(body: bytes, seeds: Sequence[Request], random: Random) -> bytes:
    for _ in range(random.choice((0, 1, 1, 1, 2, 2, 3, 5, 8))):
        if body[:1] in {b"{", b"["} and random.random() < 0.4:
            body = _other_document(body, random)
        elif random.random() < 0.03:
            body = _spliced(body, random.choice(seeds).body, random)
        else:
            body = random.choice(_DAMAGES)(body, random)
        body = body[:_MAX_BYTES]
    return body


def _flip(body: bytes, random: Random) -> bytes:
    if not body:
        return body
    changed = bytearray(body)
    for _ in range(random.choice((1, 1, 2, 8))):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _overwrite(body: bytes, random: Random) -> bytes:
    """Overwrite an integer of some width: a length, an offset, a count."""
    width = random.choice((1, 2, 4, 4, 8))
    if len(body) < width:
        return body
    start = random.randrange(0, len(body) - width + 1)
    start -= start % width if random.random() < 0.8 else 0
    number = random.choice(_INTEGERS) * random.choice((1, -1))
    if random.random() < 0.3:  # near the old value
        number = int.from_bytes(body[start : start + width], "little") + random.randint(-8, 8)
    data = (number % (1 << 8 * width)).to_bytes(width, "little")
    return body[:start] + data + body[start + width :]


def _span(body: bytes, random: Random) -> tuple[int, int]:
    start = random.randrange(len(body) + 1)
    size = random.choice((1, 4, 16, 64, 256, 1 << 12, 1 << 16))
    return start, min(len(body), start + random.randint(0, size))


def _truncate(body: bytes, random: Random) -> bytes:
    return body[: _span(body, random)[0]]


def _remove(body: bytes, random: Random) -> bytes:
    start, end = _span(body, random)
    return body[:start] + body[end:]


def _double(body: bytes, random: Random) -> bytes:
    start, end = _span(body, random)
    times = random.choice((1, 1, 2, 10, 100, 1000))
    return (
        body[:end] + body[start:end] * min(times, 1 + _MAX_BYTES // (end - start + 1)) + body[end:]
    )


def _insert(body: bytes, random: Random) -> bytes:
    start = random.randrange(len(body) + 1)
    return body[:start] + random.choice(TOKENS) + body[start:]


def _noise(body: bytes, random: Random) -> bytes:
    start, end = _span(body, random)
    return body[:start] + random.randbytes(min(end - start, 64)) + body[end:]


def _renumber(body: bytes, random: Random) -> bytes:
    matches = list(_NUMBER.finditer(body, 0, 1 << 16))
    if not matches:
        return _insert(body, random)
    chosen = random.choice(matches)
    return body[: chosen.start()] + random.choice(NUMBERS) + body[chosen.end() :]


_DAMAGES: tuple[Damage, ...] = (
    _flip, _flip, _overwrite, _overwrite, _truncate, _remove, _double, _insert, _noise, _renumber,
)  # fmt: skip


def _spliced(body: bytes, other: bytes, random: Random) -> bytes:
    return body[: random.randrange(len(body) + 1)] + other[random.randrange(len(other) + 1) :]


def _other_document(body: bytes, random: Random) -> bytes:
    """Return the document with something in it replaced, added, removed, doubled or renamed."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return _renumber(body, random)
    places = list(_places(document))
    if not places:
        return json.dumps(random.choice(VALUES)).encode()
    container, key = random.choice(places)
    match random.randrange(5):
        case 0 | 1:
            container[key] = random.choice(VALUES)
        case 2:
            del container[key]
        case 3 if isinstance(container, list):
            container[key:key] = [container[key]] * random.choice((1, 2, 50))
        case 3:
            container[str(random.choice(VALUES))[:50]] = container[key]
        case _:
            other, name = random.choice(places)
            container[key] = other[name]
    try:
        return json.dumps(document, ensure_ascii=random.random() < 0.5).encode("utf-8", "replace")
    except (ValueError, RecursionError):  # it holds itself now
        return body


def _places(document: Any) -> list[tuple[Any, Any]]:
    """Return every container and key; only some of large documents."""
    places: list[tuple[Any, Any]] = []
    todo = [document]
    while todo and len(places) < 2000:
        node = todo.pop()
        if isinstance(node, dict | list):
            keys = list(node) if isinstance(node, dict) else range(min(len(node), 200))
            places += [(node, key) for key in keys]
            todo += [node[key] for key in keys]
    return places


def _mutated_query(query: bytes, random: Random) -> bytes:
    parts = [query, *random.choices(QUERIES, k=random.randrange(3))]
    query = b"&".join(part for part in parts if part)
    if random.random() < 0.3:
        query = random.choice((_flip, _truncate, _insert))(query, random)
    return query.translate(None, _NOT_IN_TARGETS)


def _mutated_headers(
    headers: tuple[tuple[bytes, bytes], ...], random: Random
) -> tuple[tuple[bytes, bytes], ...]:
    kept = [header for header in headers if random.random() < 0.8]
    kept += random.choices(HEADERS, k=random.randrange(3))
    if kept and random.random() < 0.3:
        name, value = kept.pop()
        value = random.choice((_flip, _truncate, _insert, _noise))(value, random)
        kept.append((name, value.translate(None, b"\r\n\0")))
    return tuple(kept)
