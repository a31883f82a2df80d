from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.telemetry.points import Series
from service.ingest.decoded import UnusableError
from service.ingest.naming import (
    MAX_BYTES,
    MAX_TAGS,
    canonical,
    canonical_json,
    series_of,
    tags_of,
)

TAGS = st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=6)


@given(TAGS)
def test_one_form_of_tags_is_read_again(tags: dict[str, str]) -> None:
    form = canonical(tags)
    assert tags_of(form) == tags
    assert canonical_json(form) == canonical(dict(reversed(tags.items()))) == form


@given(TAGS, TAGS)
def test_other_tags_have_another_form(one: dict[str, str], other: dict[str, str]) -> None:
    assert (canonical(one) == canonical(other)) == (one == other)


def test_a_series_within_the_limits_is_made() -> None:
    tags = {f"tag{number}": "x" for number in range(MAX_TAGS)}
    assert series_of("m", tags, delta=True) == Series("m", tags, delta=True)
    assert series_of("m", {"a": "x" * (MAX_BYTES - 2)}).name == "m"


@pytest.mark.parametrize(
    ("name", "tags", "reason"),
    [
        ("", {}, "without a name"),
        ("m", {f"tag{number}": "x" for number in range(MAX_TAGS + 1)}, "more than 64 tags"),
        ("m", {"a": "x" * (MAX_BYTES - 1)}, "more than 4096 bytes"),
        ("\N{SNOWMAN}" * MAX_BYTES, {}, "more than 4096 bytes"),
        ("\ud800", {}, "not UTF-8"),
    ],
)
def test_names_beyond_the_limits_cannot_be_used(
    name: str, tags: dict[str, str], reason: str
) -> None:
    with pytest.raises(UnusableError, match=reason):
        series_of(name, tags)


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b'{"a":1}', b'{"a":"' + b"x" * 10_000 + b'"}'])
def test_what_are_no_tags_cannot_be_used(text: bytes) -> None:
    with pytest.raises(UnusableError):
        canonical_json(text)
