from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from types import MappingProxyType
from typing import Any, get_args, overload

import numpy as np
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.schema import (
    UNSEEN,
    Field,
    FieldError,
    Kind,
    RecordError,
    Schema,
    unusable_character,
    with_quiet_nans,
)

Record = dict[str, object]

TEXT = st.text(max_size=12)
NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.floats(-3.4e38, 3.4e38),
    st.integers(-(2**63), 2**63 - 1).map(np.int64),
    st.floats(allow_nan=False, allow_infinity=False, width=32).map(np.float32),
)
NEVER_NUMBERS = st.sampled_from(
    [
        *(float("nan"), float("inf"), float("-inf"), 1e39, -1e39, 1e308, 10**400, -(10**400)),
        *(np.float32("nan"), np.float64("inf"), True, False, np.True_, "1", "1.5", "", "NaN"),
        *(b"1", [], [1.0], (), {}, {"value": 1.0}, 1j, object(), np.array([1.0])),
    ]
)
NEVER_BOOLEANS = st.sampled_from(
    [0, 1, 0.0, 1.0, -1, "true", "false", "", b"1", [], {}, [True], np.int64(1), object()]
)
NEVER_STRINGS = st.sampled_from([0, 1, -1, 0.5, True, False, b"fiber", [], ["fiber"], {}, object()])


@st.composite
def some_fields(draw: st.DrawFn, name: str) -> Field:
    kind: Kind = draw(st.sampled_from(get_args(Kind)))
    categories = st.lists(TEXT, min_size=1, max_size=4, unique=True)
    return Field(
        name=name,
        kind=kind,
        unit=draw(st.sampled_from(["1", "ms", "°C"])),
        required=draw(st.booleans()),
        categories=tuple(draw(categories)) if kind == "category" else (),
        open=draw(st.booleans()),
    )


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    name = st.text(min_size=1, max_size=8).filter(lambda name: unusable_character(name) is None)
    names = draw(st.lists(name, min_size=1, max_size=5, unique=True))
    return Schema([draw(some_fields(name)) for name in names])


def valid_values(field: Field) -> st.SearchStrategy[object]:
    values: st.SearchStrategy[object]
    if field.kind == "boolean":
        values = st.booleans()
    elif field.kind == "category":
        values = st.sampled_from(field.categories) | (TEXT if field.open else st.nothing())
    else:
        values = NUMBERS
    return values if field.required else values | st.none()


def invalid_values(field: Field) -> st.SearchStrategy[object]:
    values: st.SearchStrategy[object]
    if field.kind == "boolean":
        values = NEVER_BOOLEANS
    elif field.kind == "category":
        unseen = TEXT.filter(lambda text: text not in field.categories)
        values = NEVER_STRINGS | (st.nothing() if field.open else unseen)
    else:
        values = NEVER_NUMBERS
    return values | st.none() if field.required else values


def valid_records(schema: Schema) -> st.SearchStrategy[Record]:
    return st.fixed_dictionaries(
        {field.name: valid_values(field) for field in schema.fields if field.required},
        optional={field.name: valid_values(field) for field in schema.fields if not field.required},
    )


def any_records(schema: Schema) -> st.SearchStrategy[object]:
    """Good records, and records with anything anywhere."""
    anything = {field.name: valid_values(field) | invalid_values(field) for field in schema.fields}
    strange = st.fixed_dictionaries(
        {}, optional={**anything, "a field it has not": st.integers(0, 9)}
    )
    return st.one_of(
        valid_records(schema), valid_records(schema), strange, st.sampled_from([None, [], "x", 3])
    )


def faults_of(
    schema: Schema, records: Sequence[object], most: int = 10_000
) -> tuple[FieldError, ...]:
    try:
        schema.encode(records, max_faults=most)
    except RecordError as error:
        return error.faults
    return ()


@settings(deadline=None)
@given(data=st.data(), schema=schemas())
def test_a_valid_record_is_always_accepted(data: st.DataObject, schema: Schema) -> None:
    records = data.draw(st.lists(valid_records(schema), max_size=5))
    matrix = schema.encode(records)
    assert matrix.dtype == np.float32
    assert matrix.shape == (len(records), len(schema))


@settings(deadline=None)
@given(data=st.data(), schema=schemas())
def test_each_value_stands_in_its_own_cell(data: st.DataObject, schema: Schema) -> None:
    records = data.draw(st.lists(valid_records(schema), min_size=1, max_size=4))
    for row, record in zip(schema.encode(records), records, strict=True):
        for cell, field in zip(row, schema.fields, strict=True):
            value = record.get(field.name)
            if value is None:
                assert np.isnan(cell)
            elif isinstance(value, str):
                known = value in field.categories
                assert cell == (field.categories.index(value) if known else UNSEEN)
            else:
                assert isinstance(value, int | float | np.number)
                assert cell == np.float32(float(value))


@settings(deadline=None, max_examples=200)
@given(data=st.data(), schema=schemas())
def test_a_batch_is_accepted_exactly_when_each_of_its_records_is(
    data: st.DataObject, schema: Schema
) -> None:
    records = data.draw(st.lists(any_records(schema), min_size=1, max_size=5))
    alone = [faults_of(schema, [record]) for record in records]
    expected = [
        FieldError(index, fault.field, fault.expected, fault.got)
        for index, faults in enumerate(alone)
        for fault in faults
    ]
    assert list(faults_of(schema, records)) == expected
    if not expected:
        stacked = np.concatenate([schema.encode([record]) for record in records])
        np.testing.assert_array_equal(schema.encode(records), stacked)


@settings(deadline=None)
@given(data=st.data(), schema=schemas(), most=st.integers(1, 8))
def test_only_the_first_faults_are_told(data: st.DataObject, schema: Schema, most: int) -> None:
    records = data.draw(st.lists(any_records(schema), min_size=1, max_size=6))
    assert faults_of(schema, records, most) == faults_of(schema, records)[:most]


@settings(deadline=None, max_examples=200)
@given(data=st.data(), schema=schemas())
def test_a_wrong_value_is_refused_with_its_record_and_field(
    data: st.DataObject, schema: Schema
) -> None:
    records = data.draw(st.lists(valid_records(schema), min_size=1, max_size=5))
    index = data.draw(st.integers(0, len(records) - 1))
    field = data.draw(st.sampled_from(schema.fields))
    records[index][field.name] = data.draw(invalid_values(field))
    with pytest.raises(RecordError) as caught:
        schema.encode(records)
    [fault] = caught.value.faults
    assert (fault.record, fault.field, fault.expected) == (index, field.name, field.expected)


@settings(deadline=None)
@given(data=st.data(), schema=schemas())
def test_a_missing_required_field_is_refused_with_its_record_and_name(
    data: st.DataObject, schema: Schema
) -> None:
    records = data.draw(st.lists(valid_records(schema), min_size=1, max_size=5))
    index = data.draw(st.integers(0, len(records) - 1))
    field = data.draw(st.sampled_from(schema.fields))
    records[index].pop(field.name, None)
    faults = faults_of(schema, records)
    if field.required:
        assert faults == (FieldError(index, field.name, field.expected, "no such field"),)
    else:
        assert faults == ()


@settings(deadline=None)
@given(data=st.data(), schema=schemas(), stranger=st.text(max_size=150))
def test_an_unknown_field_is_refused_with_its_record_and_name(
    data: st.DataObject, schema: Schema, stranger: str
) -> None:
    records = data.draw(st.lists(valid_records(schema), min_size=1, max_size=5))
    index = data.draw(st.integers(0, len(records) - 1))
    if stranger in schema.names:
        stranger += " that no field is called"
    records[index][stranger] = 1.0
    [fault] = faults_of(schema, records)
    assert (fault.record, fault.field) == (index, stranger[:100])
    assert fault.got == "a field it does not have"


def test_only_the_beginning_of_a_long_unknown_name_is_told(
    schema: Schema, examples: list[Record]
) -> None:
    [fault] = faults_of(schema, [{**examples[0], "x" * 100 + "y" * 100_000: 1}])
    assert fault.field == "x" * 100


@pytest.mark.parametrize(
    ("record", "got"),
    [
        (None, "null"),
        ([], "an array"),
        ((1, 2), "an array"),
        ("latency", "a string"),
        (3, "a number"),
        (True, "a boolean"),
        (object(), "something else"),
    ],
)
def test_a_record_that_is_no_object_is_refused_as_a_whole(
    schema: Schema, examples: list[Record], record: object, got: str
) -> None:
    expected = FieldError(1, None, "an object of fields", got)
    assert faults_of(schema, [examples[0], record]) == (expected,)
    assert str(expected) == f"record 1: expected an object of fields, got {got}"


def test_faults_are_told_in_words_without_the_value_that_was_sent(schema: Schema) -> None:
    record = {"latency": "s3cret", "drops": 1e39, "up": 1, "link": "s3cret", "vendor": ["s3cret"]}
    with pytest.raises(RecordError) as caught:
        schema.encode([record])
    assert str(caught.value) == (
        "record 0, field 'latency': expected a finite number (ms), got a string; "
        "record 0, field 'drops': expected a finite number (1/s), "
        "or null when it is missing, got a number beyond ±3.4e+38; "
        "record 0, field 'up': expected true or false, got a number; "
        "record 0, field 'link': expected one of fiber, copper, radio, got a string; "
        "record 0, field 'vendor': expected a string, got an array"
    )


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (float("nan"), "NaN"),
        (np.float32("nan"), "NaN"),
        (float("-inf"), "an infinite number"),
        (10**400, "a number beyond ±3.4e+38"),
        (-1e39, "a number beyond ±3.4e+38"),
        (None, "null"),
        (True, "a boolean"),
        ({}, "an object"),
        (b"", "something else"),
    ],
)
def test_a_fault_says_what_kind_of_thing_was_sent(schema: Schema, value: object, got: str) -> None:
    record = {"latency": value, "up": True, "link": "fiber", "vendor": "acme"}
    assert [fault.got for fault in faults_of(schema, [record])] == [got]


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999", "1e39", "1" + "0" * 400])
def test_what_json_calls_a_number_and_float32_cannot_hold_is_refused(
    schema: Schema, text: str
) -> None:
    for name in ("latency", "drops"):
        document = '{"latency": 1, "up": true, "link": "fiber", "vendor": "acme", "%s": %s}'
        [fault] = faults_of(schema, [json.loads(document % (name, text))])
        assert (fault.record, fault.field) == (0, name)


def test_the_largest_float32_is_accepted_and_the_next_larger_number_is_not(schema: Schema) -> None:
    largest = float(np.finfo(np.float32).max)
    record = {"up": True, "link": "fiber", "vendor": "acme"}
    assert schema.encode([{**record, "latency": largest}])[0, 0] == largest
    assert faults_of(schema, [{**record, "latency": largest * (1 + 2**-24)}])


def test_a_duration_is_no_number(schema: Schema) -> None:
    record = {"latency": np.timedelta64(5, "s"), "up": True, "link": "fiber", "vendor": "acme"}
    [fault] = faults_of(schema, [record])
    assert fault.field == "latency"


def test_null_and_absent_are_the_same_missing_value(schema: Schema, examples: list[Record]) -> None:
    absent = {name: value for name, value in examples[2].items() if name != "drops"}
    np.testing.assert_array_equal(schema.encode([absent]), schema.encode([examples[2]]))
    assert np.isnan(schema.encode([absent])[0, 1])


def test_any_mapping_is_a_record(schema: Schema, examples: list[Record]) -> None:
    views = [MappingProxyType(record) for record in examples]
    np.testing.assert_array_equal(schema.encode(views), schema.encode(examples))


def test_a_key_that_is_no_string_is_an_unknown_field(
    schema: Schema, examples: list[Record]
) -> None:
    record: dict[object, object] = {7: 1}
    record.update(examples[0])
    [fault] = faults_of(schema, [record])
    assert fault.field == "7"


def test_no_records_make_an_empty_matrix_of_the_right_width(schema: Schema) -> None:
    matrix = schema.encode([])
    assert matrix.shape == (0, 5)
    assert matrix.dtype == np.float32


class Counted(Sequence[object]):
    """A long batch that counts how many of its records were looked at."""

    def __init__(self, record: object, length: int, last: object = None) -> None:
        self.record, self.length, self.visits = record, length, 0
        self.last = record if last is None else last

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, index: int) -> object: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[object]: ...
    def __getitem__(self, index: int | slice) -> object:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(self.length))]
        self.visits += 1
        if not -self.length <= index < self.length:
            raise IndexError(index)
        return self.last if index in (-1, self.length - 1) else self.record

    def __iter__(self) -> Iterator[object]:
        return (self[index] for index in range(self.length))


@pytest.mark.parametrize("record", [{}, {"latency": None}, {"x": 1}, None, [], 0, "record"])
def test_a_large_batch_of_nonsense_is_refused_without_looking_at_all_of_it(
    schema: Schema, record: object
) -> None:
    records = Counted(record, 100_000)
    assert len(faults_of(schema, records, 10)) == 10
    assert records.visits < 1_000


def test_an_object_of_many_unknown_fields_tells_only_the_first(schema: Schema) -> None:
    record = {f"field {number}": 0 for number in range(100_000)}
    faults = faults_of(schema, [record], 10)
    assert [fault.field for fault in faults[:4]] == ["latency", "up", "link", "vendor"]
    assert [fault.field for fault in faults[4:]] == [f"field {number}" for number in range(6)]


def test_one_fault_at_the_end_of_a_large_batch_costs_few_looks_at_single_values(
    schema: Schema, examples: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    records = Counted(examples[0], 10_000, last={**examples[0], "latency": "fast"})
    calls = 0
    encode = Field.encode

    def counted(field: Field, values: Sequence[object]) -> Any:
        nonlocal calls
        calls += 1
        return encode(field, values)

    monkeypatch.setattr(Field, "encode", counted)
    [fault] = faults_of(schema, records, 10)
    assert (fault.record, fault.field) == (9_999, "latency")
    assert calls < 10_000


@settings(deadline=None)
@given(data=st.data(), schema=schemas(), extra=st.dictionaries(st.text(), st.integers()))
def test_fields_that_are_ignored_change_nothing(
    data: st.DataObject, schema: Schema, extra: dict[str, object]
) -> None:
    records = data.draw(st.lists(any_records(schema), max_size=4))
    names, extra = set(schema.names), {k: v for k, v in extra.items() if k not in schema.names}
    plain, extended = [
        [
            more | {k: v for k, v in record.items() if k in names}
            if isinstance(record, dict)
            else record
            for record in records
        ]
        for more in ({}, extra)
    ]
    if faults := faults_of(schema, plain):
        with pytest.raises(RecordError) as caught:
            schema.encode(extended, max_faults=10_000, ignore_extra=True)
        assert caught.value.faults == faults
    else:
        expected = schema.encode(plain)
        np.testing.assert_array_equal(schema.encode(extended, ignore_extra=True), expected)


@settings(deadline=None)
@given(data=st.data(), schema=schemas())
def test_a_matrix_holds_the_values_it_was_made_of(data: st.DataObject, schema: Schema) -> None:
    record = data.draw(valid_records(schema))
    for field, number in zip(schema.fields, schema.encode([record])[0], strict=True):
        value, again = record.get(field.name), field.value_of(number)
        if value is None or (field.kind == "category" and value not in field.categories):
            assert again is None
        elif field.is_coded:
            assert again == value
            assert field.bounds[0] <= number <= field.bounds[1]
        else:
            assert isinstance(again, float)
            assert np.float32(again) == number


def test_a_measured_value_is_the_shortest_that_is_the_same_number() -> None:
    assert Field(name="loss", kind="gauge").value_of(np.float32(0.1)) == 0.1
    assert Field(name="loss", kind="gauge").value_of(np.float32(-1)) == -1


def test_a_category_has_a_code_and_an_unseen_one_fits_open_fields_only(schema: Schema) -> None:
    link, vendor = schema["link"], schema["vendor"]
    codes = link.codes()
    assert np.isnan(codes.pop(None))
    assert codes == {"fiber": 0, "copper": 1, "radio": 2}
    assert (link.unseen_code, vendor.unseen_code) == (np.inf, UNSEEN)
    assert (link.bounds, vendor.bounds) == ((0, 2), (UNSEEN, 1))


def test_columns_become_a_matrix_and_name_the_cells_that_do_not_fit(schema: Schema) -> None:
    largest = float(np.finfo(np.float32).max)
    columns = {
        0: np.array([0, largest, np.nextafter(largest, np.inf), np.nan]),
        2: np.array([True, False, True, True]),
        3: np.array([0, 2, 1, np.inf], np.float32),
        4: np.array([UNSEEN, 1, 0, 0], np.float32),
    }
    matrix, misfits = schema.matrix_of(columns, 0, 2)
    assert misfits is None
    expected = [[0, np.nan, 1, 0, UNSEEN], [largest, np.nan, 0, 2, 1]]
    np.testing.assert_array_equal(matrix, np.array(expected, np.float32))
    matrix, misfits = schema.matrix_of(columns, 1, 4)
    assert misfits is not None
    assert np.argwhere(misfits).tolist() == [[1, 0], [2, 0], [2, 3]]
    del columns[2]
    _, misfits = schema.matrix_of(columns, 0, 1)
    assert misfits is not None
    assert np.argwhere(misfits).tolist() == [[0, 2]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_matrix_of_a_sender_names_the_cells_that_do_not_fit(schema: Schema, dtype: Any) -> None:
    good = [[1.5, np.nan, 1, 2, UNSEEN], [-3e38, 0.5, 0, 0, 1]]
    assert schema.misfits_of_encoded(np.array(good, dtype)) is None
    bad = [[np.nan, np.nan, 2, 0.5, -2], [np.inf, -np.inf, np.nan, 3, 2]]
    misfits = schema.misfits_of_encoded(np.array([good[0], *bad], dtype))
    assert misfits is not None
    assert misfits.tolist() == [[False] * 5, [True, False, True, True, True], [True] * 5]


@pytest.mark.parametrize(("dtype", "bits"), [("f4", 0x7F800001), ("f8", 0x7FF0000000000001)])
def test_the_other_kind_of_nan_is_missing_too_and_nothing_warns_of_it(
    schema: Schema, dtype: str, bits: int
) -> None:
    signaling = np.full(2, bits, dtype.replace("f", "u")).view(dtype)
    columns = {0: np.ones(2), 1: signaling, 2: np.ones(2), 3: np.ones(2), 4: np.ones(2)}
    matrix, misfits = schema.matrix_of(columns, 0, 2)
    assert misfits is None
    assert np.isnan(matrix[:, 1] - np.float32(1)).all()
    whole = np.stack([column.astype(dtype) for column in columns.values()], axis=1)
    whole[:, 1] = signaling
    assert schema.misfits_of_encoded(whole) is None
    quiet = with_quiet_nans(whole)
    assert quiet.dtype == np.float32
    np.testing.assert_array_equal(quiet - np.float32(1), matrix - np.float32(1))
    columns[2] = signaling
    whole[:, 2] = signaling
    assert schema.matrix_of(columns, 0, 2)[1] is not None
    assert schema.misfits_of_encoded(whole) is not None


def test_a_schema_needs_a_field() -> None:
    with pytest.raises(ValueError, match="at least one field"):
        Schema([])


def test_two_fields_of_a_schema_cannot_share_a_name() -> None:
    with pytest.raises(ValueError, match="share a name"):
        Schema([Field(name="up", kind="boolean"), Field(name="up", kind="gauge")])


@pytest.mark.parametrize("name", ['rx "a"', "rx\\tx", "rx\ttx", "\x00"])
def test_a_name_that_json_would_escape_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="which none may have"):
        Field(name=name, kind="gauge")


def test_a_schema_gives_its_fields_by_name_and_in_order(schema: Schema) -> None:
    assert schema.names == ("latency", "drops", "up", "link", "vendor")
    assert [schema[name] for name in schema.names] == list(schema.fields)
    with pytest.raises(KeyError):
        schema["loss"]


@pytest.mark.parametrize(
    "content",
    [
        {"kind": "category"},
        {"kind": "gauge", "categories": ("a",)},
        {"kind": "category", "categories": ("a", "a")},
        {"kind": "tensor"},
        {"kind": "gauge", "name": ""},
        {"kind": "gauge", "name": "x" * 201},
        {"kind": "gauge", "colour": "red"},
        {"kind": "gauge", "typical": float("nan")},
        {"kind": "gauge", "typical": float("inf")},
    ],
)
def test_a_field_that_makes_no_sense_is_refused(content: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError):
        Field.model_validate({"name": "field", **content})


def test_a_field_cannot_be_changed(schema: Schema) -> None:
    with pytest.raises(pydantic.ValidationError):
        schema.fields[0].unit = "s"


@pytest.mark.parametrize("number", [1, 12, 13, 300])
def test_a_closed_category_names_some_of_what_it_takes(number: int) -> None:
    names = tuple(f"c{index}" for index in range(number))
    field = Field(name="port", kind="category", categories=names)
    rest = f" or {number - 12} more" if number > 12 else ""
    assert field.expected == "one of " + ", ".join(names[:12]) + rest
