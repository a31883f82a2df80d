"""The profile of a site: what its own traffic is typically like, learned without labels.

Networks differ in levels: what is much traffic in one is little in another. A profile holds the
typical value and the spread of every number at one site. Records of the site are brought to the
levels of the training network before they are embedded,

    x' = training typical + (x - site typical) * training spread / site spread,

so that encoder, classes and calibration stay as they are. Median and median absolute deviation keep
a fault in the learning period from becoming normal.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import numpy as np
import numpy.typing as npt
import pydantic

from models.model import Model
from models.schema import LARGEST, Field, Matrix, Numbers, Schema

__all__ = [
    "LEAST_RECORDS",
    "RECOMMENDED_RECORDS",
    "Adaptation",
    "Comparison",
    "Level",
    "Profile",
    "ProfileError",
    "ProfileTrial",
    "compare",
    "learned_from",
    "level_of",
    "try_out",
]

LEAST_RECORDS: Final = 100
"""Records that a profile is learned from, at least."""
_LEAST_VALUES: Final = 20
"""Of a field: what is there in fewer records says nothing of its level."""
RECOMMENDED_RECORDS: Final = 2000
_PARTS = 3
"""Of a table of records, no more than one part in so many is what a profile is learned from."""

_GAUSSIAN = 1.4826
"""A normal distribution's standard deviation over its median absolute deviation."""
_TAIL = 0.25
"""Share of values at either end that the second measure of spread cuts."""
_MAX_RATIO = 1000.0
"""Of two spreads: a field that hardly moves at a site must not have its noise blown up."""
_MAX_ODD = 0.5
"""Share of the learning records that may be called other than good."""

_Vector = npt.NDArray[np.float64]


class ProfileError(ValueError):
    """A profile cannot be learned or used; one line that says why and what to do."""


@dataclass(frozen=True, slots=True)
class Level:
    """Where a number is, and how much it moves.

    Attributes:
        typical: its median.
        spread: robust deviation from the median, 0 if it hardly ever moves.
        unit: of both.
    """

    typical: float
    spread: float
    unit: str = "1"


def learned_from(records: int) -> int:
    """Return how many of a site's records, where there are so many, its profile is learned from."""
    return min(RECOMMENDED_RECORDS, max(records // _PARTS, LEAST_RECORDS))


def level_of(values: Numbers, unit: str = "1") -> Level:
    """Return the level of numbers [n], n at least 1, without missing ones.

    The spread is the larger of two: the median absolute deviation, scaled to that of a normal
    distribution, and the deviation after numbers beyond the quartiles are cut to these, for where
    about half of them are equal. A fifth of the records can decide neither.
    """
    numbers = values.astype(np.float64)
    typical = float(np.median(numbers))
    deviation = _GAUSSIAN * float(np.median(np.abs(numbers - typical)))
    low = np.quantile(numbers, _TAIL, method="higher")
    high = np.quantile(numbers, 1 - _TAIL, method="lower")
    cut = math.sqrt(np.square(numbers.clip(low, high) - typical).mean())
    return Level(typical, max(deviation, cut), unit)


@dataclass(frozen=True, slots=True)
class Profile:
    """Levels of one site.

    Attributes:
        records: how many it was learned from.
        levels: by name of the field; also of fields that some bundles leave as they are.
        missing: numbers that no record had; they are left as they are.
    """

    records: int
    levels: Mapping[str, Level]
    missing: tuple[str, ...] = ()

    @classmethod
    def learn(cls, schema: Schema, matrix: Matrix) -> Profile:
        """Learn from the first records of a site, whatever their classes: most must be good.

        Args:
            schema: of the records.
            matrix: float32 [n, fields], as they are sent, NaN where missing.

        Raises:
            ProfileError: they are too few, or no field of the schema can be adapted.
        """
        if len(matrix) < LEAST_RECORDS:
            raise ProfileError(
                f"{len(matrix)} records are too few to learn a profile from: give "
                f"{LEAST_RECORDS} at least, better {RECOMMENDED_RECORDS:,}"
            )
        levels, missing = {}, []
        for field, column in zip(schema.fields, matrix.T, strict=True):
            if field.is_coded:
                continue
            present = column[~np.isnan(column)]
            if len(present) >= _LEAST_VALUES:
                levels[field.name] = level_of(present, field.unit)
            else:
                missing.append(field.name)
        profile = cls(len(matrix), levels, tuple(missing))
        if not any(map(profile.adapts, schema.fields)):
            raise ProfileError(
                "a profile would change nothing: every field is relative already, missing in the "
                "records, or of a model without spreads (train it again)"
            )
        return profile

    @classmethod
    def read(cls, path: Path) -> Profile:
        """Read a profile from a file.

        Raises:
            ProfileError: it cannot be read, or is no profile.
        """
        try:
            return _FILE.validate_json(path.read_bytes())
        except OSError as error:
            raise ProfileError(f"{path} cannot be read: {error.strerror}") from error
        except pydantic.ValidationError as error:
            why = f"{path} is no profile: make one with `faultcube adapt`"
            raise ProfileError(why) from error

    def to_json(self) -> bytes:
        """Return the content of a file, for `read`."""
        return _FILE.dump_json(self, indent=1) + b"\n"

    def adapts(self, field: Field) -> bool:
        """Return whether the profile changes a field: matched by its name and unit."""
        level = self.levels.get(field.name)
        return (
            level is not None
            and level.unit == field.unit
            and not field.is_coded
            and not field.relative
            and field.typical is not None
            and field.spread is not None
        )


_FILE = pydantic.TypeAdapter(Profile)


@dataclass(frozen=True, slots=True, eq=False)
class Adaptation:
    """A profile as a model with this schema applies it; every other field stays as it is.

    Attributes:
        scale: float64 [fields], 1 for a field that stays.
        offset: float64 [fields], 0 for a field that stays.
    """

    scale: _Vector
    offset: _Vector

    @classmethod
    def of(cls, profile: Profile, schema: Schema) -> Adaptation:
        """Return the adaptation to a schema."""
        scale, offset = np.ones(len(schema)), np.zeros(len(schema))
        for at, field in enumerate(schema.fields):
            if profile.adapts(field):
                level = profile.levels[field.name]
                scale[at] = _ratio(cast("float", field.spread), level.spread)
                offset[at] = cast("float", field.typical) - level.typical * scale[at]
        return cls(scale, offset)

    def __call__(self, matrix: Matrix) -> Matrix:
        """Bring records of the site to the training levels: float32 [n, fields] to the same."""
        # In float64: levels far from 0 leave float32 no digits for the difference.
        return (matrix * self.scale + self.offset).clip(-LARGEST, LARGEST).astype(np.float32)


def _ratio(training: float, site: float) -> float:
    """Return the ratio of two spreads, bounded; 1 where nothing moves at the site."""
    if not site:
        return 1.0
    # What moves at the site, but never did in good training traffic, says nothing about faults
    # here: it is held at its typical value.
    return min(max(training / site, 1 / _MAX_RATIO), _MAX_RATIO) if training else 0.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """A field at a site, beside the training network.

    Attributes:
        field: its name.
        typical: value at the site.
        training: typical value in training.
        spread: at the site.
        ratio: what differences from the typical value are multiplied with; 0 if they are ignored.
    """

    field: str
    typical: float
    training: float
    spread: float
    ratio: float


def compare(profile: Profile, schema: Schema) -> list[Comparison]:
    """Return the fields that a profile changes, in the order of the schema."""
    scale = Adaptation.of(profile, schema).scale
    return [
        Comparison(
            field.name,
            (level := profile.levels[field.name]).typical,
            cast("float", field.typical),
            level.spread,
            float(ratio),
        )
        for field, ratio in zip(schema.fields, scale, strict=True)
        if profile.adapts(field)
    ]


@dataclass(frozen=True, slots=True)
class ProfileTrial:
    """What a model says of the records that a profile was learned from.

    Attributes:
        records: how many they are.
        before: records by label, as they are.
        after: records by label, adapted.
        odd: share that is called other than good, adapted; 0..1.
    """

    records: int
    before: Mapping[str, int]
    after: Mapping[str, int]
    odd: float

    def check(self) -> None:
        """Raise ProfileError if the records cannot be what good traffic looks like."""
        if self.odd > _MAX_ODD:
            raise ProfileError(
                f"{self.odd:.0%} of these records would still be called other than good: learn "
                "from records of a time without faults, or force it"
            )


def try_out(model: Model, profile: Profile, matrix: Matrix) -> ProfileTrial:
    """Classify the records that a profile was learned from: float32 [n, fields]."""
    before = Counter(model.labels(model.decide(matrix)))
    decisions = model.decide(Adaptation.of(profile, model.schema)(matrix))
    good = int(np.count_nonzero(model.are_good(decisions)))
    return ProfileTrial(
        len(matrix), before, Counter(model.labels(decisions)), 1 - good / len(matrix)
    )
