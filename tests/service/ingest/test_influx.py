from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.ingest import telegraf
from service.ingest.decoded import NO_NUMBER
from tests.support.points import NOW, Receiving

T = 1_458_229_140_000_000_000


@pytest.fixture
def receiving() -> Receiving:
    return Receiving(telegraf.decode)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"1", 1.0),
        (b"-1.5e-3", -0.0015),
        (b"12i", 12.0),
        (b"18446744073709551615u", 2.0**64),
        (b"t", 1.0),
        (b"FALSE", 0.0),
    ],
)
def test_every_kind_of_number_is_read(receiving: Receiving, text: bytes, value: float) -> None:
    assert receiving.rows(b"m,a=b x=%s %d\n" % (text, T)) == [("m_x", {"a": "b"}, T, value)]


def test_a_line_without_a_time_is_of_now(receiving: Receiving) -> None:
    assert receiving.rows(b"m x=1") == [("m_x", {}, NOW, 1.0)]


def test_comments_and_empty_lines_are_skipped(receiving: Receiving) -> None:
    decoded = receiving.decode(b"# m x=1\n\n  \nm x=1\r\n")
    assert (len(decoded.points), decoded.rejected) == (1, 0)


def test_names_are_freed_of_their_escapes(receiving: Receiving) -> None:
    line = rb"my\ m,a\,b=c\=d,e=\f x\ y=1,z=2 5"
    tags = {"a,b": "c=d", "e": r"\f"}
    assert [row[:2] for row in receiving.rows(line)] == [("my m_x y", tags), ("my m_z", tags)]


def test_strings_are_counted_whatever_they_hold(receiving: Receiving) -> None:
    decoded = receiving.decode(b'm s="a, b=c \\" d\nm y=7",x=1 5\nm x=2 6')
    assert decoded.points.values.tolist() == [1.0, 2.0]
    assert decoded.reasons == {NO_NUMBER: 1}


def test_quotes_are_nothing_special_in_tags(receiving: Receiving) -> None:
    assert receiving.rows(b'm,a=b"c x=1 5') == [("m_x", {"a": 'b"c'}, 5 * 10**9, 1.0)]


@pytest.mark.parametrize(
    "line",
    [b"m", b"m x", b"m x=1 y", b",a=b x=1", b"m,a x=1", b"m,,a=b x=1", b"\xff x=1", b'm x="'],
)
def test_a_bad_line_costs_only_itself(receiving: Receiving, line: bytes) -> None:
    decoded = receiving.decode(b"m x=1\n" + line + b"\nm x=2")
    assert (decoded.points.values.tolist(), decoded.rejected) == ([1.0, 2.0], 1)


def test_a_string_that_never_ends_costs_one_line_at_a_time(receiving: Receiving) -> None:
    body = b'm s="' + b"x\n" * 50_000
    assert receiving.decode(body).rejected == 50_000


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\n\r\\"), min_size=1, max_size=9)
KEYS = TEXT.filter(lambda text: text == text.strip() and text[0] not in "#{")


def escaped(text: str) -> str:
    for special in (",", "=", " "):
        text = text.replace(special, "\\" + special)
    return text


@given(KEYS, st.dictionaries(KEYS, KEYS, max_size=4), KEYS, st.floats(allow_nan=False, width=64))
def test_what_is_written_is_read_again(
    name: str, tags: dict[str, str], field: str, value: float
) -> None:
    head = ",".join([escaped(name), *(f"{escaped(k)}={escaped(v)}" for k, v in tags.items())])
    line = f"{head} {escaped(field)}={value!r} {T}"
    expected = (f"{name}_{field}", tags, T, value)
    assert Receiving(telegraf.decode).rows(line.encode()) == [expected]


@pytest.mark.parametrize("line", [b"\\\n", b"a\\\n", b"m,a=\\\n", b"m x\\\n", b"m \\\n"])
def test_lines_that_end_in_a_backslash_are_looked_at_one_by_one(
    receiving: Receiving, line: bytes
) -> None:
    decoded = receiving.decode(line * 200_000 + b"m x=1\n")  # minutes, were they taken together
    assert len(decoded.points) == 1
    assert decoded.rejected == 200_000
