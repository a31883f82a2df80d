"""The mapping: which points make which field of which record, as a TOML file says."""

from __future__ import annotations

import difflib
import hashlib
import re
import tomllib
import zlib
from collections.abc import Container
from collections.abc import Mapping as Mappings
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
import pydantic
from numpy.typing import NDArray

from models.schema import Schema

__all__ = [
    "MAPPING",
    "Aggregate",
    "FieldRule",
    "Kind",
    "Mapping",
    "MappingError",
    "Name",
    "Relation",
    "Seconds",
    "Wide",
    "escaped",
    "is_text",
    "meanings",
]

MAPPING: Final = "mapping.toml"
"""Its file in a bundle."""

Kind = Literal["gauge", "counter", "state"]
Aggregate = Literal["last", "sum", "mean", "min", "max", "std", "share_below"]
Relation = Literal["none", "baseline", "each"]
Seconds = Annotated[float, pydantic.Field(ge=0, le=1e8)]
Name = Annotated[str, pydantic.Field(min_length=1, max_length=200)]
_PLACE = "{metric}"
_LATEST = 100
_NO_STATE = -1e9
"""No device sends a state as this number, or one below it."""


class MappingError(Exception):
    """A mapping cannot be used; one line that says why and what to change."""


class _Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )


class FieldRule(_Part):
    """How one field comes from the series of a key."""

    name: Name
    """Of the field."""
    metric: Name
    """Name of the metric, or a pattern with * and ?; in the file also a list, one field each."""
    tags: dict[str, str] = {}
    """Pattern by tag that a series must have; series with other tags as well are taken."""
    kind: Kind = "gauge"
    """A counter becomes its increase per second; a state becomes the number of `states`."""
    bits: Literal[0, 32, 64] = 0
    """Of a counter that wraps."""
    states: dict[str, float] = {}
    """Number of each state; others are missing. Without it, states are numbers as they are."""
    aggregate: Aggregate = "last"
    """Over the series of a key; `last` takes the value of the only one."""
    below: float | None = None
    """Of `share_below`: the share of series whose value is less than this."""
    relation: Relation = "none"
    """`baseline`: (x - m) / max(|m|, floor), m the median of the field's first records; `each`:
    series by series x / m - 1 before `aggregate`, whose `sum` is sum(x) / sum(m) - 1."""
    floor: Annotated[float, pydantic.Field(gt=0)] = 1.0
    """Of the relation `baseline`."""
    active: float | None = None
    """Of the relation `each`: only series with m above it; 0 if not given, for `sum` no limit."""
    clip: Annotated[float, pydantic.Field(gt=0)] | None = None
    """Largest magnitude of the field."""
    absent: float | None = None
    """Value of the field where the key has no series for it, or no rate of it yet; without it the
    field is missing."""
    unit: str = "1"
    """Unit of the field."""

    @pydantic.model_validator(mode="after")
    def _keys_fit_each_other(self) -> Self:
        for key, given, needs, has in (
            ("bits", self.bits, 'kind = "counter"', self.kind == "counter"),
            ("states", self.states, 'kind = "state"', self.kind == "state"),
            ("active", self.active is not None, 'relation = "each"', self.relation == "each"),
            (
                "below",
                self.below is not None,
                'aggregate = "share_below"',
                self.aggregate == "share_below",
            ),
        ):
            if given and not has:
                raise ValueError(f"field {self.name!r} has {key}, which only {needs} takes")
        texts: dict[float, str] = {}
        for text, meant in self.states.items():
            other = texts.setdefault(_code_of(text), text)
            if self.states[other] != meant:
                raise ValueError(
                    f"field {self.name!r}: states {other!r} and {text!r} are sent alike"
                )
        if self.aggregate == "share_below" and self.below is None:
            raise ValueError(f"field {self.name!r} needs below, the value to stay under")
        return self


class Wide(_Part):
    """How the columns of a wide table become series."""

    columns: tuple[str, ...] = ()
    """Regular expressions of whole names; the group `metric` is the metric, others are tags. A
    column that none of them fits is a metric of its own name without tags."""

    @pydantic.field_validator("columns")
    @classmethod
    def _are_expressions(cls, columns: tuple[str, ...]) -> tuple[str, ...]:
        for text in columns:
            try:
                groups = re.compile(text).groupindex
            except re.error as error:
                raise ValueError(f"{text!r} is no regular expression: {error}") from error
            if "metric" not in groups:
                raise ValueError(f"{text!r} has no group (?P<metric>...)")
        return columns

    def series_of(self, column: str) -> tuple[str, dict[str, str]]:
        """Return metric and tags of a column."""
        for text in self.columns:
            if found := re.fullmatch(text, column):
                tags = {name: value for name, value in found.groupdict().items() if value}
                return tags.pop("metric", column), tags
        return column, {}


class Mapping(_Part):
    """How points become records of a model: see the attributes, and docs/telemetry.md."""

    name: Name
    key: Annotated[tuple[Name, ...], pydantic.Field(min_length=1)]
    """Tags whose values make the key of a record."""
    interval: Annotated[float, pydantic.Field(gt=0, le=1e6)]
    """Seconds between the records of a key."""
    align: Literal["sample", "interval"] = "sample"
    """`sample`: points of a key with the same time make a record. `interval`: those of
    [k * interval, (k + 1) * interval) do, the last of each series; its end is the record's time."""
    lateness: Seconds = 0.0
    """Seconds by which the time of a point may be before that of a point that came earlier."""
    wait: Seconds = 0.5
    """Seconds without a point of a key after which its open records are complete."""
    stale: Seconds | None = None
    """Seconds after which a silent series is no longer expected; 3 intervals if not given. Until
    then, fields that it is part of are missing."""
    forget: Seconds = 3600.0
    """Seconds between two records after which a key begins anew."""
    ahead: Seconds = 300.0
    """Seconds by which the time of a point may be after its arrival."""
    clock: Literal["points", "arrival"] = "points"
    """`arrival`: the time of a point is that of its arrival, for devices whose clocks are wrong."""
    learn: Annotated[int, pydantic.Field(ge=1, le=10_000)] = 40
    """First records of a key, of which medians are its baseline."""
    follow: Annotated[float, pydantic.Field(ge=0, le=1)] = 0.0
    """Share by which the baseline of a key moves towards each record that the model calls good,
    where there is a model; 0 leaves it as it was learned."""
    required: Annotated[float, pydantic.Field(ge=0, le=1)] = 0.6
    """Share of fields that must have a value for a record to be judged."""
    wide: Wide = Wide()
    fields: Annotated[tuple[FieldRule, ...], pydantic.Field(min_length=1)]

    @pydantic.field_validator("fields", mode="before")
    @classmethod
    def _one_field_for_each_metric(cls, fields: object) -> object:
        if not isinstance(fields, list):
            return fields
        return [one for field in fields for one in _expanded(field)]

    @pydantic.model_validator(mode="after")
    def _is_sound(self) -> Self:
        first: dict[str, FieldRule] = {}
        for field in self.fields:
            other = first.setdefault(field.name, field)
            if other is not field:
                raise ValueError(
                    f"field {field.name!r} has two sources, metric {other.metric!r} and metric "
                    f"{field.metric!r}; give one of them another name"
                )
        if self.lateness > _LATEST * self.interval:
            raise ValueError(f"lateness must be {_LATEST} intervals at most: all of it is kept")
        if self.forget <= self.lateness + self.interval:
            raise ValueError("forget must be longer than lateness and interval together")
        return self

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a mapping, or raise MappingError."""
        try:
            return cls.parse(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise MappingError(f"the mapping {path} cannot be read: {error}") from error

    @classmethod
    def parse(cls, text: str, source: str = "mapping") -> Self:
        """Check the text of a mapping, or raise MappingError."""
        try:
            return cls.model_validate(tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise MappingError(f"{source}: {error}") from error
        except pydantic.ValidationError as error:
            raise MappingError(f"{source}: {_explain(error)}") from error

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the fields, in the order of a record's columns."""
        return tuple(field.name for field in self.fields)

    @property
    def fingerprint(self) -> str:
        """Hash of what the mapping says: the state made with one fits no other."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    def without(self, names: Container[str]) -> Self:
        """Return the mapping without some fields."""
        kept = tuple(field for field in self.fields if field.name not in names)
        return self if len(kept) == len(self.fields) else self.model_copy(update={"fields": kept})

    def check(self, schema: Schema) -> None:
        """Raise MappingError if records of this mapping do not fit a schema."""
        if not self.fields:
            raise MappingError(f"{self.name}: it makes no field of the model")
        for field in self.fields:
            if field.name not in schema.names:
                near = difflib.get_close_matches(field.name, schema.names, 1, 0.5)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise MappingError(
                    f"{self.name}: the model has no field {field.name!r}{hint or '; leave it out'}"
                )
            if schema[field.name].is_coded:
                raise MappingError(
                    f"{self.name}: field {field.name!r} is a {schema[field.name].kind} in the "
                    "model, which no points can make"
                )
            if field.unit != schema[field.name].unit:
                raise MappingError(
                    f"{self.name}: field {field.name!r} is in {field.unit!r}, and the model takes "
                    f"{schema[field.name].unit!r}"
                )
        for wanted in schema.fields:
            if wanted.required and wanted.name not in self.names:
                raise MappingError(
                    f"{self.name}: the model needs a field {wanted.name!r}; add [[fields]] for it"
                )

    def number(self, metric: str, text: str) -> float:
        """Return what to send for a state that is text; NaN if no field knows it."""
        with suppress(ValueError):
            return float(text)
        return self.state(metric, text)

    def state(self, metric: str, text: str) -> float:
        """Return the number that the text of a state is sent as; NaN if no field knows it."""
        known = any(text in field.states and _fits(metric, field.metric) for field in self.fields)
        return _code_of(text) if known else float("nan")

    def record_times(self, times: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the time of the record that each point belongs to, all in nanoseconds."""
        if self.align == "sample":
            return times
        step = round(self.interval * 1e9)
        return (times // step + 1) * step


def _fits(name: str, pattern: str) -> bool:
    """Return whether a name fits a pattern with * and ?."""
    return fnmatchcase(name, escaped(pattern))


def escaped(pattern: str) -> str:
    """Return a pattern with * and ? as `fnmatch` takes it: a bracket stands for itself."""
    return pattern.replace("[", "[[]")


def _code_of(text: str) -> float:
    """Return the number that a state is sent as: its own, or for text one that no device sends.

    It is the same in every field: two fields may mean opposite things by one text.
    """
    with suppress(ValueError):
        return float(text)
    return _NO_STATE - zlib.crc32(text.encode())


def is_text(code: float) -> bool:
    """Return whether a number is that of a state's text."""
    return code <= _NO_STATE


def meanings(states: Mappings[str, float]) -> dict[float, float]:
    """Return what each number that is sent means.

    Args:
        states: number that each state means, by its text or by the number that devices send.
    """
    found = {_code_of(text): meant for text, meant in states.items()}
    numbers = {code: meant for code, meant in found.items() if not is_text(code)}
    for meant in {*found.values()} - {*numbers.values()}:
        found.setdefault(meant, meant)  # a device may send what the text means
    return found


def _expanded(field: object) -> list[object]:
    """Return a field for each metric of its list."""
    if not isinstance(field, dict):
        return [field]
    metrics, name = field.get("metric"), field.get("name")
    if isinstance(metrics, list) and _PLACE not in str(name):
        raise ValueError(f"field {name!r} has a list of metrics, and needs {_PLACE} in its name")
    return (
        [
            {**field, "metric": metric, "name": name.replace(_PLACE, str(metric))}
            for metric in (metrics if isinstance(metrics, list) else [metrics])
        ]
        if isinstance(name, str) and metrics
        else [field]
    )


def _explain(error: pydantic.ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"]))
    given: Any = first["input"]
    if first["type"] == "extra_forbidden":
        return f"{key}: a mapping has no such key"
    if first["type"] == "missing" and isinstance(given, Mappings) and "name" in given:
        return f"{key}: missing in {given['name']!r}"
    return (f"{key}: " if key else "") + first["msg"].removeprefix("Value error, ")
