"""The record schema: which fields a record has, and how records become a matrix.

A matrix holds a boolean as 0 or 1, a category as its code, and a missing value as NaN. Readers
write infinity for a value that does not fit its field, so that `Schema.matrix_of` finds it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from types import NoneType
from typing import Annotated, Any, Literal, cast

import numpy as np
import numpy.typing as npt
import pydantic

__all__ = [
    "LARGEST",
    "UNSEEN",
    "Field",
    "FieldError",
    "Kind",
    "Matrix",
    "Misfits",
    "Numbers",
    "RecordError",
    "Schema",
    "Value",
    "describe",
    "unusable_character",
    "with_quiet_nans",
]

Matrix = npt.NDArray[np.float32]
Misfits = npt.NDArray[np.bool_]
"""Which cells of a matrix do not fit the schema: bool [n, fields]."""
Numbers = npt.NDArray[Any]
"""Numbers of any type: NaN where missing, infinite where they do not fit."""
Kind = Literal["gauge", "rate", "counter", "boolean", "category"]
Value = bool | float | str | None

UNSEEN = -1.0
"""The code of a category that an open field was not trained on."""
LARGEST = float(np.finfo(np.float32).max)
"""The largest number that a field may have; the least is its negative."""

_MAX_LISTED = 12
"""Categories that a message names."""
_BLOCK = 64
"""Records that are checked one by one when one of them does not fit."""
_NUMBERS = (int, float, np.integer, np.floating)
_NO_NUMBERS = (bool, np.timedelta64)
_EXTRA = ("only fields of the schema", "a field it does not have")


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field of one record; holds no value the sender sent.

    Attributes:
        record: index of the record in the request, from 0; None for the request itself.
        field: name of the field; None for the record as a whole.
        expected: what the schema requires, with its unit.
        got: the kind of thing that was there instead.
    """

    record: int | None
    field: str | None
    expected: str
    got: str

    def __str__(self) -> str:
        subject = [] if self.record is None else [f"record {self.record}"]
        subject += [f"field {self.field!r}"] if self.field else []
        return f"{', '.join(subject) or 'the request'}: expected {self.expected}, got {self.got}"


class RecordError(ValueError):
    """Records that do not fit the schema; `faults` lists what is wrong with them."""

    def __init__(self, faults: Sequence[FieldError]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(map(str, self.faults)))

    @classmethod
    def of_request(cls, field: str | None, expected: str, got: str) -> RecordError:
        """Return an error about the request itself instead of one of its records."""
        return cls([FieldError(None, field, expected, got)])


def unusable_character(name: str) -> str | None:
    """Return a character that no field's name may have, because JSON would escape it; or None."""
    return next((character for character in name if character in '"\\' or character < " "), None)


def _usable(name: str) -> str:
    if (bad := unusable_character(name)) is not None:
        raise ValueError(f"the field name {name!r} has the character {bad!r}, which none may have")
    return name


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
        spread: of a number in good traffic, by `models.profile.level_of`; None in older bundles.
        relative: whether its level does not depend on the network, as that of a share or of a ratio
            to a baseline of its own; a site's profile leaves such a field as it is.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Annotated[
        str, pydantic.Field(min_length=1, max_length=200), pydantic.AfterValidator(_usable)
    ]
    kind: Kind
    unit: str = "1"
    required: bool = True
    categories: Annotated[tuple[str, ...], pydantic.FailFast()] = ()
    open: bool = False
    typical: bool | float | str | None = None
    # Left out where they say nothing: the versions of older bundles are hashes of what they hold.
    spread: Annotated[float, pydantic.Field(ge=0)] | None = pydantic.Field(
        default=None, exclude_if=lambda spread: spread is None
    )
    relative: bool = pydantic.Field(default=False, exclude_if=lambda relative: not relative)

    @pydantic.model_validator(mode="after")
    def _categories_belong_to_category_fields(self) -> Field:
        if (self.kind == "category") != bool(self.categories):
            raise ValueError(f"field {self.name!r}: a category field, and no other, has categories")
        if len(set(self.categories)) != len(self.categories):
            raise ValueError(f"field {self.name!r}: a category is listed twice")
        if isinstance(self.typical, str) and self.kind != "category":
            raise ValueError(f"field {self.name!r}: its typical value is text, and no number")
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
                more = len(self.categories) - _MAX_LISTED
                text = "one of " + ", ".join(self.categories[:_MAX_LISTED])
                text += f" or {more} more" if more > 0 else ""
            case _:
                text = "a finite number" + (f" ({self.unit})" if self.unit != "1" else "")
        return text if self.required else text + ", or null when it is missing"

    @property
    def is_coded(self) -> bool:
        """Whether the matrix holds codes, not measured numbers."""
        return self.kind in {"boolean", "category"}

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the largest number of the field in a matrix."""
        match self.kind:
            case "boolean":
                return 0.0, 1.0
            case "category":
                return UNSEEN if self.open else 0.0, len(self.categories) - 1.0
        return -LARGEST, LARGEST

    @property
    def unseen_code(self) -> float:
        """The code of a category that is not listed: infinite, a misfit, if the field is closed."""
        return UNSEEN if self.open else math.inf

    def codes(self) -> dict[str | None, float]:
        """Return the code of each category, and NaN for None."""
        codes: dict[str | None, float] = {c: float(i) for i, c in enumerate(self.categories)}
        return codes | {None: math.nan}

    def value_of(self, number: np.float32) -> Value:
        """Return the value of a number of the matrix; None if missing or an unseen category.

        Of a measurement, the shortest number that is the same in float32: 0.1, not
        0.10000000149011612.
        """
        if np.isnan(number) or (self.kind == "category" and number == UNSEEN):
            return None
        match self.kind:
            case "boolean":
                return bool(number)
            case "category":
                return self.categories[int(number)]
        return float(str(number))

    def fault(self, record: int, got: str) -> FieldError:
        """Return the fault of a record that has something else in this field."""
        return FieldError(record, self.name, self.expected, got)

    def encode(self, values: Sequence[object]) -> Matrix | None:
        """Encode the column's values as float32 [n], NaN where missing.

        Returns:
            The column, or None if any value does not fit the field.
        """
        types = set(map(type, values))
        if not self.required:
            types.discard(NoneType)
        if not all(map(self._accepts, types)):
            return None
        missing = 0 if self.required else values.count(None)
        if self.kind == "category":
            codes, unseen = cast("dict[object, float]", self.codes()), self.unseen_code
            values = [codes.get(value, unseen) for value in values]
        try:
            column = np.array(values, dtype=np.float64)
        except OverflowError:
            return None
        fits = np.count_nonzero(np.abs(column) <= LARGEST)
        return column.astype(np.float32) if fits == len(values) - missing else None

    def _accepts(self, kind: type) -> bool:
        match self.kind:
            case "boolean":
                return kind is bool
            case "category":
                return kind is str
        return _is_number(kind)


def with_quiet_nans(values: Numbers) -> Matrix:
    """Return values as float32, and every NaN among them as one that raises no warning later.

    A sender of binary numbers may have NaN of the other kind, the signaling one.
    """
    with np.errstate(invalid="ignore"):
        return np.multiply(values, np.float32(1), dtype=np.float32, casting="same_kind")


class Schema:
    """The fields of a record, in the order of the encoder's input columns.

    Args:
        fields: at least one field, each with a name of its own.

    Raises:
        ValueError: there is no field, or two share a name.

    Attributes:
        required: bool [fields], False where a value may be missing.
    """

    def __init__(self, fields: Sequence[Field]) -> None:
        self.fields = tuple(fields)
        self.names = tuple(field.name for field in self.fields)
        self.required = np.array([field.required for field in self.fields], np.bool_)
        self._by_name = {field.name: field for field in self.fields}
        self._required_names = frozenset(field.name for field in self.fields if field.required)
        if not self.fields:
            raise ValueError("a schema needs at least one field")
        if len(self._by_name) != len(self.fields):
            raise ValueError("two fields of the schema share a name")

    def __len__(self) -> int:
        return len(self.fields)

    def __getitem__(self, name: str) -> Field:
        return self._by_name[name]

    def encode(
        self, records: Sequence[object], *, max_faults: int = 10, ignore_extra: bool = False
    ) -> Matrix:
        """Check records and encode them as the encoder's input.

        Args:
            records: mappings of field name to value; None is a missing value, and a field that is
                not required may be absent.
            max_faults: where to stop searching once something is wrong.
            ignore_extra: whether to skip fields that the schema does not have.

        Returns:
            float32 [n, fields], NaN where missing.

        Raises:
            RecordError: a record does not fit; holds the first `max_faults` faults.
        """
        columns = self._columns(records, ignore_extra)
        if columns is None:
            raise RecordError([*islice(self._faults(records, ignore_extra), max_faults)])
        return np.stack(columns, axis=1) if records else np.empty((0, len(self)), np.float32)

    def matrix_of(
        self, columns: Mapping[int, Numbers], start: int, end: int
    ) -> tuple[Matrix, Misfits | None]:
        """Make the encoder's input of some rows of columns.

        Args:
            columns: by index of their field, in the precision in which they were sent; a field
                without a column is missing.
            start: first row.
            end: row after the last.

        Returns:
            float32 [end - start, fields], and which cells do not fit, or None if all do.
        """
        matrix = np.full((end - start, len(self)), np.nan, np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            for at, column in columns.items():
                matrix[:, at] = column[start:end]
        fits = np.abs(matrix) < LARGEST
        if np.count_nonzero(fits) == fits.size:
            return matrix, None
        matrix = with_quiet_nans(matrix)
        misfits = np.isnan(matrix) & self.required
        if (np.abs(matrix) >= LARGEST).any():
            # float32 rounds a number that is a little beyond to the largest there is.
            for at, column in columns.items():
                misfits[:, at] |= np.abs(column[start:end].astype(np.float64)) > LARGEST
        return matrix, misfits if misfits.any() else None

    def misfits_of_encoded(self, matrix: Numbers) -> Misfits | None:
        """Return which cells of a matrix that the sender encoded do not fit; None if all do.

        Args:
            matrix: [n, fields] of any numeric type, booleans and categories as their codes.
        """
        # Comparing is fastest among numbers of one type.
        low, high = self._bounds[matrix.dtype.itemsize == 8]
        fits = (matrix >= low) & (matrix <= high)
        if len(self._coded):
            codes = matrix.take(self._coded, axis=1)
            with np.errstate(invalid="ignore"):
                fits[:, self._coded] &= codes == np.rint(codes)
        if np.count_nonzero(fits) == fits.size:
            return None
        misfits = ~fits & (~np.isnan(matrix) | self.required)
        return misfits if misfits.any() else None

    @cached_property
    def _bounds(self) -> tuple[tuple[Numbers, Numbers], tuple[Numbers, Numbers]]:
        low, high = np.array([field.bounds for field in self.fields]).T
        return (low.astype(np.float32), high.astype(np.float32)), (low, high)

    @cached_property
    def _coded(self) -> npt.NDArray[np.intp]:
        return np.flatnonzero([field.is_coded for field in self.fields])

    def _columns(self, records: Sequence[object], ignore_extra: bool) -> list[Matrix] | None:
        """Encode field by field; None as soon as something does not fit, without saying what."""
        names, required = self._by_name.keys(), self._required_names
        for record in records:
            if not isinstance(record, Mapping) or not required <= record.keys():
                return None
            if not ignore_extra and not record.keys() <= names:
                return None
        rows, columns = cast("Sequence[Mapping[str, object]]", records), []
        for field in self.fields:
            name = field.name
            column = field.encode([row.get(name) for row in rows])
            if column is None:
                return None
            columns.append(column)
        return columns

    def _faults(self, records: Sequence[object], ignore_extra: bool) -> Iterator[FieldError]:
        """Search records that `_columns` rejected for what is wrong, block by block."""
        for start in range(0, len(records), _BLOCK):
            block = records[start : start + _BLOCK]
            if self._columns(block, ignore_extra) is not None:
                continue
            for index, record in enumerate(block, start):
                if isinstance(record, Mapping):
                    yield from self._faults_of(index, record, ignore_extra)
                else:
                    yield FieldError(index, None, "an object of fields", describe(record))

    def _faults_of(
        self, index: int, record: Mapping[object, object], ignore_extra: bool
    ) -> Iterator[FieldError]:
        for field in self.fields:
            if field.name not in record:
                if field.required:
                    yield field.fault(index, "no such field")
            elif field.encode([record[field.name]]) is None:
                yield field.fault(index, describe(record[field.name]))
        if not ignore_extra:
            yield from self.extra_faults(index, record)

    def extra_faults(self, index: int, record: Mapping[object, object]) -> Iterator[FieldError]:
        """Yield a fault for each field of a record that the schema does not have."""
        for name in record:
            if name not in self._by_name:
                yield FieldError(index, str(name)[:100], *_EXTRA)


def describe(value: object) -> str:
    """Return the kind of thing that a value is, without repeating it."""
    if _is_number(type(value)):
        return _describe_number(value)
    if isinstance(value, list | tuple):
        return "an array"
    kinds = {NoneType: "null", bool: "a boolean", str: "a string", dict: "an object"}
    return kinds.get(type(value), "something else")


def _is_number(kind: type) -> bool:
    return issubclass(kind, _NUMBERS) and not issubclass(kind, _NO_NUMBERS)


def _describe_number(value: object) -> str:
    beyond = f"a number beyond ±{LARGEST:.2g}"
    try:
        number = float(cast("float", value))
    except OverflowError:
        return beyond
    if math.isfinite(number):
        return "a number" if abs(number) <= LARGEST else beyond
    return "NaN" if math.isnan(number) else "an infinite number"
