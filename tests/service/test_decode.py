from __future__ import annotations

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import Field, RecordError, Schema
from service.decode import Decoder
from service.problems import Unfit, Unreadable

SCHEMA = Schema(
    [
        Field(name="loss", kind="gauge", unit="%", required=False),
        Field(name="rx rate", kind="rate"),
        Field(name="up", kind="boolean"),
        Field(name="link", kind="category", categories=("fiber", "radio")),
        Field(name="vendor", kind="category", categories=("a", "b"), open=True, required=False),
    ]
)
GOOD = {"loss": None, "rx rate": 2.5, "up": True, "link": "radio", "vendor": "c"}
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from(["fiber", "radio", "a", "1", ""]),
    st.just([]),
    st.just(10**400),
)


def decoder(most: int = 10_000) -> Decoder:
    return Decoder(SCHEMA, most, frozenset({"distances"}))


@given(
    st.lists(
        st.dictionaries(st.sampled_from([*SCHEMA.names, "else"]), VALUES).map(
            lambda changes: GOOD | changes
        ),
        min_size=1,
        max_size=4,
    )
)
def test_a_body_is_taken_exactly_when_the_schema_takes_its_records(records: list[Any]) -> None:
    body = json.dumps({"records": records}).encode()
    found: list[dict[str, Any]] = []
    try:
        expected = SCHEMA.encode(records)
    except RecordError as error:
        found = Unfit.of(error.faults).errors
    if not found:
        np.testing.assert_array_equal(decoder().decode(body).matrix, expected)
        return
    with pytest.raises(Unfit) as refusal:
        decoder().decode(body)
    assert refusal.value.errors == found


def test_options_are_false_unless_given() -> None:
    for extra, value in (("", False), (', "distances": true', True)):
        body = f'{{"records": [{json.dumps(GOOD)}]{extra}}}'.encode()
        assert decoder().decode(body).options == {"distances": value}


@pytest.mark.parametrize(
    "item",
    ["{}", "[]", '{"":0}', '{"rx rate":1}', json.dumps(GOOD | {"else": 1}), "1", '"x"'],
)
def test_a_body_of_16_mib_that_does_not_fit_costs_little_memory(item: str) -> None:
    body = ('{"records":[' + (item + ",") * (16 * 2**20 // (len(item) + 1)) + item + "]}").encode()
    tracemalloc.start()
    try:
        with pytest.raises(Unfit) as refusal:
            decoder().decode(body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(refusal.value.errors) <= 10
    assert peak < 64 * 2**20


def test_one_record_with_a_million_fields_costs_little_memory() -> None:
    fields = ",".join(f'"f{i}":0' for i in range(1_000_000))
    body = f'{{"records":[{json.dumps(GOOD)},{{{fields}}}]}}'.encode()
    tracemalloc.start()
    try:
        with pytest.raises(Unfit):
            decoder().decode(body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 * 2**20


def test_a_fault_behind_the_first_look_is_found_at_its_place() -> None:
    records = [GOOD] * 9_000 + [GOOD | {"up": 1}] + [GOOD] * 10
    body = json.dumps({"records": records}).encode()
    assert len(body) > 1 << 19
    with pytest.raises(Unfit) as refusal:
        decoder().decode(body)
    (error,) = refusal.value.errors
    assert (error["record"], error["field"]) == (9_000, "up")


def test_a_large_body_that_breaks_off_is_not_json() -> None:
    body = json.dumps({"records": [GOOD] * 9_000}).encode()[:-30]
    with pytest.raises(Unreadable):
        decoder().decode(body)


def test_a_large_body_with_too_many_good_records_is_refused_for_their_number() -> None:
    body = json.dumps({"records": [GOOD] * 9_000}).encode()
    with pytest.raises(Unfit, match="a list of 1 to 5000 records"):
        decoder(most=5_000).decode(body)
