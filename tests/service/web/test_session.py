from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.web import session


def cookie(*values: str) -> dict[bytes, bytes]:
    pairs = [f"{session.COOKIE}={value}" for value in values]
    return {b"cookie": "; ".join(["theme=dark", *pairs, "x=1"]).encode()}


@given(key=st.text(min_size=1, max_size=100))
def test_a_cookie_holds_its_key_whatever_that_is(key: str) -> None:
    value = session.value_of(key)
    assert value.isascii()
    assert not set(value) & set('";, \\=')
    assert [*session.keys_of(cookie(value))] == [key.encode()]


def test_a_hash_makes_no_cookie_of_its_key() -> None:
    digest = hashlib.sha256(b"one").hexdigest()
    assert b"one" not in [*session.keys_of(cookie(digest, session.value_of(digest)))]


@pytest.mark.parametrize("value", [".", "x.y", "a", "a" * 4097, "ä"])
def test_a_cookie_that_was_not_made_here_has_no_key(value: str) -> None:
    assert [*session.keys_of(cookie(value))] == []


@given(value=st.binary(max_size=200))
def test_any_cookie_is_read_without_an_error(value: bytes) -> None:
    assert len([*session.keys_of({b"cookie": b"faultcube=" + value})]) <= 50


def test_all_cookies_of_the_name_are_read_and_a_flood_is_not() -> None:
    one, other = session.value_of("one"), session.value_of("other")
    assert [*session.keys_of(cookie("..", one, other))] == [b"one", b"other"]
    assert b"other" not in [*session.keys_of(cookie(*[one] * 100_000, other))]
