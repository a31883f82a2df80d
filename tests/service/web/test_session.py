from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.web import session

ONE, OTHER = (hashlib.sha256(name).digest() for name in (b"one", b"other"))
NOW = 1_800_000_000


def cookie(value: str) -> dict[bytes, bytes]:
    return {b"cookie": f"theme=dark; {session.COOKIE}={value}; x=1".encode()}


def test_a_cookie_is_of_the_key_that_it_was_made_of_until_it_ends() -> None:
    headers = cookie(session.token_of(ONE, NOW + 10))
    assert session.digest_of(headers, [OTHER, ONE], NOW) == ONE
    assert session.digest_of(headers, [OTHER], NOW) is None
    assert session.digest_of(headers, [ONE], NOW + 9.9) == ONE
    assert session.digest_of(headers, [ONE], NOW + 10) is None
    assert session.digest_of({}, [ONE], NOW) is None


def test_a_cookie_holds_neither_the_key_nor_its_digest() -> None:
    token = session.token_of(ONE, NOW)
    assert ONE.hex() not in token
    assert "one" not in token


@pytest.mark.parametrize(
    "value",
    [
        "",
        ".",
        "x.y",
        f"{NOW + 10}",
        f"{NOW + 10}.",
        "9" * 5000 + ".00",
        "-1.00",
        f"{NOW + 11}." + session.token_of(ONE, NOW + 10).partition(".")[2],
        session.token_of(ONE, NOW + 10).upper(),
    ],
)
def test_a_cookie_that_was_not_made_here_is_of_no_key(value: str) -> None:
    assert session.digest_of(cookie(value), [ONE], NOW) is None


@given(value=st.binary(max_size=200))
def test_any_cookie_is_read_without_an_error(value: bytes) -> None:
    assert session.digest_of({b"cookie": b"faultcube=" + value}, [ONE], NOW) is None


def test_of_several_cookies_of_the_name_one_that_holds_is_enough() -> None:
    good = session.token_of(ONE, NOW + 10)
    headers = {b"cookie": f"faultcube=stale.00; faultcube={good}".encode()}
    assert session.digest_of(headers, [ONE], NOW) == ONE


def test_a_flood_of_cookies_is_not_read_to_its_end() -> None:
    flood = b"; ".join([b"faultcube=%d.00" % (NOW + 10)] * 100_000)
    last = session.token_of(ONE, NOW + 10).encode()
    headers = {b"cookie": flood + b"; faultcube=" + last}
    assert session.digest_of(headers, [ONE], NOW) is None
