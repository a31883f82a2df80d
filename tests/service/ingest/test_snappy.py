from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.ingest.bodies import snappy
from service.formats.errors import MalformedInputError
from service.ingest.snappy import inflate
from tests.support.points import recorded


@given(st.binary(max_size=1000))
def test_what_was_compressed_comes_back(content: bytes) -> None:
    assert inflate(snappy(content), len(content)) == content


def test_a_body_of_a_real_client_inflates() -> None:
    assert b"ifHCInOctets" in inflate(recorded("prometheus.snappy"), 1 << 20)


def test_a_block_that_says_too_much_is_refused_before_it_is_inflated() -> None:
    bomb = snappy(bytes(1 << 20))
    assert len(bomb) < 1 << 16
    with pytest.raises(MalformedInputError, match="more than 1048575 bytes"):
        inflate(bomb, (1 << 20) - 1)
    with pytest.raises(MalformedInputError, match="more than 1048576 bytes"):
        inflate(b"\xff\xff\xff\xff\x0f", 1 << 20)


@pytest.mark.parametrize("bad", [b"", b"\x05", b"\x05\x01", b"\xff" * 20, b"{}", b"\x80"])
def test_what_is_no_block_is_malformed(bad: bytes) -> None:
    with pytest.raises(MalformedInputError):
        inflate(bad, 1 << 20)


@given(st.binary(max_size=100))
def test_any_bytes_inflate_to_what_they_say_or_are_malformed(data: bytes) -> None:
    try:
        content = inflate(data, 1000)
    except MalformedInputError:
        return
    assert len(content) <= 1000
