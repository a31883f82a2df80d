from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.ingest.prometheus import WriteRequest
from models.telemetry.points import Series, SeriesTable
from service.formats.errors import MalformedInputError
from service.ingest.decoded import UnusableError
from service.ingest.labels import identify, label
from tests.support.points import Receiving


def table() -> SeriesTable:
    return Receiving(lambda *_: NotImplemented).table


def block(*labels: tuple[str, str]) -> bytes:
    return b"".join(label(name.encode(), value.encode()) for name, value in labels)


@given(st.lists(st.tuples(st.text(max_size=200), st.text(max_size=20_000)), max_size=3))
def test_labels_are_written_as_the_library_writes_them(labels: list[tuple[str, str]]) -> None:
    request = WriteRequest()
    series = request.timeseries.add()
    for name, value in labels:
        series.labels.add(name=name, value=value)
    library = series.SerializeToString()
    assert [*WriteRequest.FromString(request.SerializeToString()).timeseries[0].labels] == [
        *type(series).FromString(block(*labels)).labels
    ]
    if all(name and value for name, value in labels):
        assert block(*labels) == library


def test_a_series_has_one_token_whatever_the_order_of_its_labels() -> None:
    known = table()
    first = identify(block(("__name__", "m"), ("a", "1"), ("b", "2")), known)
    assert identify(block(("b", "2"), ("a", "1"), ("empty", ""), ("__name__", "m")), known) == first
    assert [*known.ids] == [block(("__name__", "m"), ("a", "1"), ("b", "2"))]


def test_the_name_is_no_tag() -> None:
    receiving = Receiving(lambda *_: NotImplemented)
    identify(block(("__name__", "m"), ("a", "1")), receiving.table)
    assert receiving.placed == [Series("m", {"a": "1"})]


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([("a", "1")], "without a name"),
        ([("__name__", "m"), ("a", "1"), ("a", "2")], "a label twice"),
        ([("__name__", "m"), *((f"l{number}", "x") for number in range(64))], "more than 64 tags"),
        ([("__name__", "m" * 10_000)], "more than 4096 bytes"),
    ],
)
def test_labels_that_name_no_series_cannot_be_used(
    labels: list[tuple[str, str]], reason: str
) -> None:
    known = table()
    with pytest.raises(UnusableError, match=reason):
        identify(block(*labels), known)
    assert not known.ids


def test_what_are_no_labels_is_malformed() -> None:
    with pytest.raises(MalformedInputError):
        identify(b"\x0a\x05\x0a", table())
