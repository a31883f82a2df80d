from __future__ import annotations

import gc
import gzip
import time
import tracemalloc
import weakref
import zlib
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import pairwise

import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.web.compression import SUPPORTED_ENCODINGS, Decompressor, is_supported
from service.web.problems import BODY_TOO_LARGE, MALFORMED_BODY, Problem
from tests.support.problems import raises

MIB = 1 << 20
EMPTY_GZIP = gzip.compress(b"", mtime=0)
EMPTY_FRAME = zstandard.compress(b"")
SKIPPABLE = b"\x50\x2a\x4d\x18\x00\x00\x00\x00"
WIDE_FRAME = b"\x28\xb5\x2f\xfd\x00" + bytes([14 << 3]) + b"\x01\x00\x00"


def inflated(encoding: str, chunks: Iterable[bytes], most: int = MIB) -> bytes:
    inflater = Decompressor(encoding, most)
    parts = [part for chunk in chunks for part in inflater.feed(chunk)]
    inflater.finish()
    assert all(len(part) <= 1 << 18 or encoding == "identity" for part in parts)
    return b"".join(parts)


def cut(body: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(body) + 1) for place in places), len(body)]
    return [body[a:b] for a, b in pairwise(edges)]


def frames_without_size(parts: list[bytes]) -> bytes:
    compressor = zstandard.ZstdCompressor(write_content_size=False, write_checksum=True)
    return SKIPPABLE.join(compressor.compress(part) for part in parts)


COMPRESS: dict[str, Callable[[list[bytes]], bytes]] = {
    "identity": b"".join,
    "gzip": lambda parts: b"".join(map(gzip.compress, parts)),
    "X-GZip": lambda parts: gzip.compress(b"".join(parts)),
    "zstd": lambda parts: b"".join(map(zstandard.compress, parts)),
    " ZSTD": frames_without_size,
}

SOME = st.lists(
    st.binary() | st.binary(max_size=20).map(lambda text: text * 5000), min_size=1, max_size=4
)


@pytest.mark.parametrize("encoding", COMPRESS)
@settings(deadline=None, max_examples=60)
@given(parts=SOME, places=st.lists(st.integers(0, 1 << 20), max_size=6))
@example(parts=[b""], places=[])
@example(parts=[b"", b"x", b""], places=[])
def test_a_body_comes_back_however_it_was_cut_and_put_together(
    encoding: str, parts: list[bytes], places: list[int]
) -> None:
    body = COMPRESS[encoding](parts)
    assert inflated(encoding, cut(body, places)) == b"".join(parts)


@pytest.mark.parametrize("encoding", COMPRESS)
def test_a_body_comes_back_byte_by_byte(encoding: str) -> None:
    body = COMPRESS[encoding]([b"faultcube " * 200, b"", bytes(range(256))])
    whole = b"faultcube " * 200 + bytes(range(256))
    assert inflated(encoding, [body[i : i + 1] for i in range(len(body))]) == whole


@pytest.mark.parametrize("encoding", ["gzip", "X-GZip", "zstd", " ZSTD"])
@pytest.mark.parametrize("text", [b"", b"x", b"faultcube " * 20 + bytes(range(256)) * 3])
def test_a_body_that_breaks_off_anywhere_is_refused(encoding: str, text: bytes) -> None:
    body = COMPRESS[encoding]([text])
    for end in range(len(body)):
        with raises(MALFORMED_BODY, match=r"breaks off|corrupt"):
            inflated(encoding, [body[:end]])


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
@given(garbage=st.binary(min_size=1, max_size=40))
@settings(deadline=None)
def test_what_follows_the_last_member_is_refused(encoding: str, garbage: bytes) -> None:
    body = COMPRESS[encoding]([b"faultcube"])
    with raises(MALFORMED_BODY, match=encoding):
        inflated(encoding, [body + b"\x00" + garbage])


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_checksum_that_does_not_fit_is_refused(encoding: str) -> None:
    compress = COMPRESS["X-GZip" if encoding == "gzip" else " ZSTD"]
    body = compress([b"faultcube" * 3])
    with raises(MALFORMED_BODY, match="corrupt"):
        inflated(encoding, [body[:-1] + bytes([body[-1] ^ 1])])


@settings(max_examples=300, deadline=None)
@given(
    encoding=st.sampled_from(SUPPORTED_ENCODINGS),
    start=st.sampled_from([b"", EMPTY_GZIP[:10], EMPTY_FRAME[:4], gzip.compress(b"x"), SKIPPABLE]),
    rest=st.binary(max_size=200),
    places=st.lists(st.integers(0, 1 << 20), max_size=3),
)
def test_no_bytes_whatever_give_anything_but_bytes_or_a_problem(
    encoding: str, start: bytes, rest: bytes, places: list[int]
) -> None:
    with suppress(Problem):
        assert len(inflated(encoding, cut(start + rest, places), most=1000)) <= 1000


@pytest.mark.parametrize("encoding", COMPRESS)
def test_the_limit_is_kept_to_the_byte(encoding: str) -> None:
    body = COMPRESS[encoding]([b"x" * 1000])
    assert len(inflated(encoding, [body], most=1000)) == 1000
    with raises(BODY_TOO_LARGE, match="longer than 999 bytes"):
        inflated(encoding, [body], most=999)


def gzip_bomb(times: int) -> bytes:
    compressor = zlib.compressobj(9, wbits=31)
    return b"".join([compressor.compress(bytes(MIB)) for _ in range(times)]) + compressor.flush()


def zstd_bomb(times: int) -> bytes:
    compressor = zstandard.ZstdCompressor().compressobj()
    return b"".join([compressor.compress(bytes(MIB)) for _ in range(times)]) + compressor.flush()


@pytest.mark.alone
@pytest.mark.alone
@pytest.mark.parametrize(
    ("encoding", "bomb"), [("gzip", gzip_bomb(256)), ("zstd", zstd_bomb(256))]
)  # fmt: skip
def test_a_bomb_costs_neither_memory_nor_time(encoding: str, bomb: bytes) -> None:
    parts = Decompressor(encoding, 16 * MIB).feed(bomb)
    start = time.perf_counter()
    tracemalloc.start()
    try:
        with raises(BODY_TOO_LARGE):
            deque(parts, maxlen=0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * MIB
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize(
    ("encoding", "nothing", "times"),
    [
        ("gzip", EMPTY_GZIP, 4000),
        ("zstd", EMPTY_FRAME, 60_000),
        ("zstd", SKIPPABLE, 60_000),
        ("zstd", zstandard.ZstdCompressor(write_content_size=False).compress(b""), 60_000),
    ],
)
def test_much_that_inflates_to_nothing_is_read_over_in_steps(
    encoding: str, nothing: bytes, times: int
) -> None:
    inflater = Decompressor(encoding, MIB)
    steps = list(inflater.feed(nothing * times))
    inflater.finish()
    assert not any(steps)
    assert len(steps) > 20


@pytest.mark.alone
def test_a_million_empty_members_of_gzip_are_refused_at_once() -> None:
    start = time.perf_counter()
    with raises(MALFORMED_BODY, match="more than 4096 members"):
        inflated("gzip", [EMPTY_GZIP * 800_000])
    assert time.perf_counter() - start < 1


def test_many_empty_frames_of_zstd_are_refused() -> None:
    with raises(MALFORMED_BODY, match="more than 65536 frames"):
        inflated("zstd", [EMPTY_FRAME * 70_000])


def test_a_zstd_window_that_takes_much_memory_is_refused_by_its_size() -> None:
    with raises(MALFORMED_BODY, match="window of more than 8 MiB"):
        inflated("zstd", [WIDE_FRAME])
    widest = zstandard.ZstdCompressor(level=19).compress(b"x" * 1000)
    assert inflated("zstd", [widest]) == b"x" * 1000


def test_what_an_inflater_holds_goes_with_it() -> None:
    for encoding in SUPPORTED_ENCODINGS:
        inflater = Decompressor(encoding, MIB)
        list(inflater.feed(COMPRESS["zstd"]([b"x"]) if encoding == "zstd" else b""))
        codec = weakref.ref(inflater._codec)
        gc.disable()
        try:
            del inflater
            assert codec() is None
        finally:
            gc.enable()


@pytest.mark.parametrize("encoding", ["", "identity", "gzip", "x-gzip", "zstd", "GZIP", " Zstd "])
def test_these_encodings_are_spoken(encoding: str) -> None:
    assert is_supported(encoding)


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, zstd", "identity, gzip", "gzip;"])
def test_no_other_encoding_is_spoken(encoding: str) -> None:
    assert not is_supported(encoding)
