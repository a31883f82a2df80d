"""The record schema: which fields a record has, and how records become a matrix.

`RecordError` is the one error of this module; it carries every fault found, up to a limit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, cast

import numpy as np
import numpy.typing as npt
import pydantic

__all__ = [
    "LARGEST",
    "UNSEEN",
    "Fault",
    "Field",
    "Kind",
    "Matrix",
    "RecordError",
    "Schema",
    "describe",
]

Matrix = npt.NDArray[np.float32]
Kind = Literal["gauge", "rate", "counter", "boolean", "category"]

UNSEEN = -1.0
"""The matrix value of a category that an open field was not trained on."""

_LISTED = 12
"""How many categories a message names before it stops."""

_BLOCK = 64
"""Records that are looked at one by one once something in them is wrong."""

_NUMBERS = (int, float, np.integer, np.floating)
_NO_NUMBERS = (bool, np.timedelta64)
LARGEST = float(np.finfo(np.float32).max)
"""The largest number that a field may have; the least is its negative."""
_BEYOND = f"a number beyond ±{LARGEST:.2g}"


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one field of one record; holds no value the sender sent.

    Attributes:
        record: index of the record in the batch, from 0; None when the request itself is meant.
        field: name of the field, or None when the record as a whole is meant.
        expected: what the schema asks for, with its unit.
        got: the kind of thing that was there instead.
    """

    record: int | None
    field: str | None
    expected: str
    got: str

    def __str__(self) -> str:
        places = [] if self.record is None else [f"record {self.record}"]
        places += [f"field {self.field!r}"] if self.field else []
        return f"{', '.join(places) or 'the request'}: expected {self.expected}, got {self.got}"


class RecordError(ValueError):
    """Records that do not fit the schema; `faults` lists what is wrong with them."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(map(str, self.faults)))


class Field(pydantic.BaseModel):
    """One named column of a record.

    Attributes:
        name: the key in the record.
        kind: gauge (a level), rate (per second), counter (ever growing), boolean or category.
        unit: unit of the value as it is sent, "1" for a number without one.
        required: False when the value may be null or absent, because it was so in training.
        categories: the values a category field was trained on; empty for other kinds.
        open: whether a category field takes values it was not trained on.
        typical: median (or most frequent value) of the field in good traffic.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Annotated[str, pydantic.Field(min_length=1, max_length=200)]
    kind: Kind
    unit: str = "1"
    required: bool = True
    categories: tuple[str, ...] = ()
    open: bool = False
    typical: bool | float | str | None = None

    @pydantic.model_validator(mode="after")
    def _categories_belong_to_category_fields(self) -> Field:
        if (self.kind == "category") != bool(self.categories):
            raise ValueError(f"field {self.name!r}: a category field, and no other, has categories")
        if len(set(self.categories)) != len(self.categories):
            raise ValueError(f"field {self.name!r}: a category is listed twice")
        return self

    @property
    def expected(self) -> str:
        """What a sender has to send, in words."""
        match self.kind:
            case "boolean":
                text = "true or false"
            case "category" if self.open:
                text = "a string"
            case "category":
                more = len(self.categories) - _LISTED
                text = "one of " + ", ".join(self.categories[:_LISTED])
                text += f" or {more} more" if more > 0 else ""
            case _:
                text = "a finite number" + (f" ({self.unit})" if self.unit != "1" else "")
        return text if self.required else text + ", or null when it is missing"

    def encode(self, values: Sequence[object]) -> Matrix | None:
        """Turn the column's values into float32 [n], NaN where missing.

        Returns:
            The column, or None when any value does not fit the field.
        """
        types = set(map(type, values))
        if not self.required:
            types.discard(type(None))
        if self.kind == "category":
            return self._encode_categories(values) if types <= {str} else None
        numbers = self.kind != "boolean"
        if not all(_is_number(kind) if numbers else kind is bool for kind in types):
            return None
        try:
            column = np.array(values, dtype=np.float64)
        except OverflowError:
            return None
        missing = values.count(None) if not self.required else 0
        fits = np.abs(column) <= LARGEST
        return column.astype(np.float32) if fits.sum() == len(values) - missing else None

    def _encode_categories(self, values: Sequence[object]) -> Matrix | None:
        codes: dict[object, float] = {c: float(i) for i, c in enumerate(self.categories)}
        codes[None] = float("nan")
        if self.open:
            return np.array([codes.get(value, UNSEEN) for value in values], dtype=np.float32)
        try:
            return np.array([codes[value] for value in values], dtype=np.float32)
        except KeyError:
            return None


class Schema:
    """The fields of a record, in the order of the encoder's input columns.

    Args:
        fields: at least one field, each with a name of its own.

    Raises:
        ValueError: there is no field, or two share a name.
    """

    def __init__(self, fields: Sequence[Field]) -> None:
        self.fields = tuple(fields)
        self.names = tuple(field.name for field in self.fields)
        self._by_name = {field.name: field for field in self.fields}
        self._required = frozenset(field.name for field in self.fields if field.required)
        if not self.fields:
            raise ValueError("a schema needs at least one field")
        if len(self._by_name) != len(self.fields):
            raise ValueError("two fields of the schema share a name")

    def __len__(self) -> int:
        return len(self.fields)

    def __getitem__(self, name: str) -> Field:
        return self._by_name[name]

    def encode(self, records: Sequence[object], *, most_faults: int = 10) -> Matrix:
        """Check records and turn them into the encoder's input.

        Args:
            records: mappings of field name to value; `None` stands for a missing value, and a
                field that is not required may also be left out.
            most_faults: where to stop looking once something is wrong.

        Returns:
            float32 [n, fields], NaN where missing.

        Raises:
            RecordError: a record does not fit; holds the first `most_faults` faults.
        """
        columns = self._columns(records)
        if columns is None:
            raise RecordError(self._faults(records, most_faults))
        return np.stack(columns, axis=1) if records else np.empty((0, len(self)), np.float32)

    def _columns(self, records: Sequence[object]) -> list[Matrix] | None:
        """Encode field by field; None as soon as something does not fit, without saying what."""
        names = self._by_name.keys()
        rows: list[Mapping[str, object]] = []
        for record in records:
            if not isinstance(record, Mapping) or not self._required <= record.keys() <= names:
                return None
            rows.append(record)
        columns = []
        for field in self.fields:
            name = field.name
            column = field.encode([row.get(name) for row in rows])
            if column is None:
                return None
            columns.append(column)
        return columns

    def _faults(self, records: Sequence[object], most: int) -> list[Fault]:
        """Look again, slowly, at what `_columns` refused: at most `most` faults."""
        faults: list[Fault] = []
        for start in range(0, len(records), _BLOCK):
            block = records[start : start + _BLOCK]
            if self._columns(block) is not None:
                continue
            for index, record in enumerate(block, start):
                if len(faults) >= most:
                    return faults
                if isinstance(record, Mapping):
                    faults += self._faults_of(index, record, most - len(faults))
                else:
                    faults.append(Fault(index, None, "an object of fields", describe(record)))
        return faults

    def _faults_of(self, index: int, record: Mapping[object, object], most: int) -> list[Fault]:
        faults = []
        for field in self.fields:
            if field.name not in record:
                if field.required:
                    faults.append(Fault(index, field.name, field.expected, "no such field"))
            elif field.encode([record[field.name]]) is None:
                got = describe(record[field.name])
                faults.append(Fault(index, field.name, field.expected, got))
            if len(faults) >= most:
                return faults
        unknown = (key for key in record if key not in self._by_name)
        faults += [
            Fault(index, str(key)[:100], "only fields of the schema", "a field it does not have")
            for key, _ in zip(unknown, range(most - len(faults)), strict=False)
        ]
        return faults


def describe(value: object) -> str:
    """Say what kind of thing a value is, without repeating it."""
    if _is_number(type(value)):
        return _describe_number(value)
    kinds = {type(None): "null", bool: "a boolean", str: "a string", dict: "an object"}
    return kinds.get(
        type(value), "an array" if isinstance(value, list | tuple) else "something else"
    )


def _is_number(kind: type) -> bool:
    return issubclass(kind, _NUMBERS) and not issubclass(kind, _NO_NUMBERS)


def _describe_number(value: object) -> str:
    try:
        number = float(cast("float", value))
    except OverflowError:
        return _BEYOND
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "an infinite number"
    return "a number" if abs(number) <= LARGEST else _BEYOND
