from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import FieldError
from service.formats.errors import count_error, entry_of, printable


@given(st.text(), st.integers(1, 20))
def test_what_others_wrote_is_short_and_printable(text: str, most: int) -> None:
    shown = printable(text, most)
    assert len(shown) == min(len(text), most)
    assert shown.isprintable()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("12345", "12345"),
        ("123456", "1234…"),
        ("a\x1b[1m", "a�[1m"),
        ("a\nb", "a�b"),
        ("a\u202eb", "a�b"),
        ("\ud800", "�"),
        ("é 😀", "é 😀"),
    ],
)
def test_only_what_is_too_long_or_confuses_a_terminal_is_replaced(text: str, shown: str) -> None:
    assert printable(text, 5) == shown


def test_an_entry_has_only_the_places_that_its_fault_has() -> None:
    rest = {"expected": "a number", "got": "null"}
    assert entry_of(FieldError(0, "a", "a number", "null")) == {"record": 0, "field": "a"} | rest
    assert entry_of(FieldError(0, None, "a number", "null")) == {"record": 0} | rest
    assert entry_of(FieldError(None, "a", "a number", "null")) == {"field": "a"} | rest
    assert entry_of(FieldError(None, None, "a number", "null")) == rest
    assert entry_of(FieldError(None, "", "a number", "null")) == {"field": ""} | rest


def test_the_parts_of_an_entry_that_others_wrote_are_bounded() -> None:
    entry = entry_of(FieldError(1, "f\n" * 500, "one of " + "x" * 500, "null"))
    assert entry["field"] == "f�" * 49 + "f…"
    assert (len(entry["expected"]), entry["expected"][-2:]) == (200, "x…")


def test_a_wrong_number_of_records_is_a_fault_of_the_request() -> None:
    (fault,) = count_error(7, "an empty list").faults
    assert fault == FieldError(None, "records", "a list of 1 to 7 records", "an empty list")
