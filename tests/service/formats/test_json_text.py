from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import RecordError
from service.formats.json_text import check_unique, without_bom

KEYS = st.sampled_from(["records", "record", "x", "records ", "ä", '"records"'])
PAIRS: st.SearchStrategy[list[tuple[str, object]]] = st.lists(
    st.tuples(KEYS, st.sampled_from(["records", 1, None, [], {"records": []}]))
)


def test_one_mark_is_dropped_and_nothing_else() -> None:
    assert without_bom(b"\xef\xbb\xbf{}") == b"{}"
    assert without_bom(bytearray(b"\xef\xbb\xbf\xef\xbb\xbf{}")) == b"\xef\xbb\xbf{}"
    assert without_bom(b"\xef\xbb{}") == b"\xef\xbb{}"
    text = b'{"a": "\xef\xbb\xbf"}'
    assert without_bom(text) is text


@given(PAIRS, st.booleans())
def test_a_key_that_comes_twice_is_refused_and_no_other(
    pairs: list[tuple[str, object]], escaped: bool
) -> None:
    members = [f"{json.dumps(name)} : {json.dumps(value)}" for name, value in pairs]
    text = "{" + ",".join(members) + "}"
    if escaped:
        text = text.replace("records", "r\\u0065cord\\u0073", 1)
    twice = sum(name == "records" for name, _ in pairs) > 1
    if not twice:
        check_unique(text.encode(), "records")
        return
    with pytest.raises(RecordError, match="records"):
        check_unique(text.encode(), "records")


@pytest.mark.parametrize(
    "spelt", ["records", "\\u0072ecords", "record\\u0073", "\\u0072ecord\\u0073"]
)
def test_escapes_hide_no_key(spelt: str) -> None:
    with pytest.raises(RecordError):
        check_unique(f'{{"records": [], "{spelt}": []}}'.encode(), "records")
    with pytest.raises(RecordError):
        check_unique(f'{{"{spelt}": [], "{spelt}": []}}'.encode(), "records")


def test_an_integer_of_thousands_of_digits_is_as_good_as_any() -> None:
    text = b'{"records": [], "more": {"records": %b}}' % (b"9" * 5000)
    check_unique(text, "records")
    with pytest.raises(RecordError, match="this key once"):
        check_unique(text.replace(b"more", b"records"), "records")
