from __future__ import annotations

import unicodedata

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.names import GivenName, Name, check, clash, composed, folded

GOOD = [
    "odd",
    "Cable break",
    "Überlast",
    "故障",
    "می‌خواهم",
    "100 % (?#&)",
    "...",
    "a.b-c_d",
    "x" * 200,
]
BAD = ["", ".", "..", "a/b", " a", "a ", "\u3000a", "a\n", "a\tb", "\x00", "\x7f", "x" * 201]
INVISIBLE = ["a\u202eb", "a\u2066b", "a\u200fb", "a\u200bb", "a\ufeffb", "a\u2028b", "a\u00adb"]


@pytest.mark.parametrize("name", GOOD)
def test_names_of_all_languages_are_taken(name: str) -> None:
    assert check(name) == name


@pytest.mark.parametrize("name", [*BAD, *INVISIBLE, "\ud800", "U\u0308berlast"])
def test_names_that_cannot_be_reached_or_told_apart_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="a name"):
        check(name)


@given(st.text(max_size=12))
def test_a_name_that_is_taken_is_found_at_its_address_and_in_one_line(text: str) -> None:
    try:
        name = check(text)
    except ValueError:
        return
    assert name == unicodedata.normalize("NFC", name) == name.strip() != ""
    assert "/" not in name
    assert len(name.splitlines()) == 1
    assert not any(unicodedata.category(char) in {"Cc", "Cs"} for char in name)


@given(st.text(max_size=12))
def test_all_ways_to_write_a_name_are_folded_alike(text: str) -> None:
    assert folded(unicodedata.normalize("NFD", text)) == folded(unicodedata.normalize("NFC", text))
    assert folded(f"  {text} ") == folded(text)


@pytest.mark.parametrize(
    ("name", "others", "like"),
    [
        ("odd", ["even"], None),
        ("Odd", ["even", "odd"], "odd"),
        ("STRASSE", ["straße"], "straße"),
        ("a  b", ["A b"], "A b"),
        ("U\u0308ber", ["über"], "über"),
        ("Unknown", [], "unknown"),
        ("(UNFIT)", [], "(unfit)"),
    ],
)
def test_names_that_are_confused_with_others_are_found(
    name: str, others: list[str], like: str | None
) -> None:
    assert clash(name, others) == like


def test_documents_hold_composed_names_and_people_type_any() -> None:
    given_name, name = pydantic.TypeAdapter(GivenName), pydantic.TypeAdapter(Name)
    assert given_name.validate_python("U\u0308ber") == composed("U\u0308ber") == "Über"
    with pytest.raises(pydantic.ValidationError, match="NFC"):
        name.validate_python("U\u0308ber")
