"""The recipe: everything a training run is decided by, as a TOML file or as options.

RecipeError    what the user asked for cannot be done; the message says what to do instead
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import pydantic

from models.bundle import Name
from models.schema import Kind

__all__ = [
    "EncoderRecipe",
    "FewShot",
    "FieldOverride",
    "FitRecipe",
    "LossName",
    "Recipe",
    "RecipeError",
    "Split",
    "View",
]

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

_Points = TypeVar("_Points", "np.ndarray[Any, Any]", "Tensor")
LossName = Literal["lossless", "linear", "triplet", "contrastive"]
View = Literal["standard", "log", "bins"]
Share = Annotated[float, pydantic.Field(ge=0, le=1)]


class RecipeError(Exception):
    """What was asked for cannot be done; one line that says why and what to do."""


class _Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )


class FieldOverride(_Part):
    """What the user knows of a field better than the table shows."""

    kind: Kind | None = None
    unit: str | None = None
    required: bool | None = None


class Split(_Part):
    """Which rows train, which tune and calibrate (dev), and which test."""

    by: Literal["column", "time", "group", "random"]
    column: str | None = None
    """by column: holds train, dev or test (other rows are left out). by time: ordered by it.
    by group: rows that share its value stay together. at random: label by label."""
    table: Path | None = None
    """by column: a second table, row for row beside the first, that holds the column."""
    within: str | None = None
    """by time: every value of this column (a run, a device) is cut on its own."""
    shares: tuple[Share, Share, Share] = (0.6, 0.15, 0.25)
    """by time, group or random: shares of train, dev and test."""

    @pydantic.model_validator(mode="after")
    def _is_possible(self) -> Split:
        if (self.by == "random") != (self.column is None):
            raise ValueError(
                "a split by column, time or group needs a column, a random one has none"
            )
        if self.table and self.by != "column":
            raise ValueError("a second table (--split-table) goes with a split by column only")
        if self.within and self.by != "time":
            raise ValueError("a column to split within (--split-within) goes with time only")
        if abs(sum(self.shares) - 1) > 1e-6 or not self.shares[0] or not self.shares[1]:
            raise ValueError("shares must add up to 1, with some rows for train and dev")
        return self


class Backtest(_Part):
    """The same recipe fitted again on another split; only its results are kept, in the card."""

    name: str
    split: Split


class FewShot(_Part):
    """Fault classes to leave out of training and to enrol from a few records."""

    hold_out: Annotated[tuple[str, ...], pydantic.Field(min_length=1)]
    shots: tuple[Annotated[int, pydantic.Field(ge=1)], ...] = (1, 5)
    """Numbers of support records."""
    draws: Annotated[int, pydantic.Field(ge=1, le=10_000)] = 30
    """How often support records are drawn."""

    @classmethod
    def read(cls, options: dict[str, Any]) -> FewShot:
        """Check what was asked for.

        Raises:
            RecipeError: it makes no sense.
        """
        try:
            return cls.model_validate(options)
        except pydantic.ValidationError as error:
            raise RecipeError(_explain(error)) from error


class EncoderRecipe(_Part):
    """The networks between the scaled fields and the cube."""

    dimensions: Annotated[int, pydantic.Field(ge=2, le=1024)] = 16
    """N of each member: how wide its cube is."""
    members: Annotated[int, pydantic.Field(ge=1, le=64)] = 3
    """Perceptrons fitted side by side; an embedding is their points in a row."""
    linear: bool = True
    """Add the whitened fields as dimensions of their own: they tell what training never saw."""
    views: Annotated[tuple[View, ...], pydantic.Field(min_length=1)] = ("standard", "log", "bins")
    """How the members see numbers: standardised, logarithmic far off, in bins between quantiles."""
    bins: Annotated[int, pydantic.Field(ge=1, le=256)] = 8
    """Most bins of a number's piecewise-linear encoding."""
    hidden: tuple[Annotated[int, pydantic.Field(ge=1, le=8192)], ...] = (128, 64)
    """Widths of a member's hidden layers."""
    gain: Annotated[float, pydantic.Field(gt=0, le=100)] = 1.0
    """Factor on the normalised pre-activation: 4 for tight clusters, 1 for few-shot work."""
    dropout: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0.1

    def learned(self, embeddings: _Points) -> list[_Points]:
        """The members' points, [n, dimensions] each, of embeddings [n, N]."""
        width = self.dimensions
        return [embeddings[:, i * width : (i + 1) * width] for i in range(self.members)]


class FitRecipe(_Part):
    """The loss and how it is minimised."""

    loss: LossName = "lossless"
    alpha: Annotated[float, pydantic.Field(ge=0)] = 0.2
    """Margin of the triplet loss."""
    margin: Annotated[float, pydantic.Field(gt=0)] = 1.0
    """Margin of the contrastive loss."""
    beta: Annotated[float, pydantic.Field(gt=0)] | None = None
    """beta of the lossless loss; N when not given, and never less than N."""
    epsilon: Annotated[float, pydantic.Field(gt=0, lt=1)] = 1e-4
    epochs: Annotated[int, pydantic.Field(ge=1, le=100_000)] = 15
    steps: Annotated[int, pydantic.Field(ge=1)] = 40
    """Batches an epoch."""
    batch: Annotated[int, pydantic.Field(ge=4, le=65536)] = 512
    """Records in a batch, the same number of each class."""
    learning_rate: Annotated[float, pydantic.Field(gt=0, le=1)] = 1e-2
    weight_decay: Annotated[float, pydantic.Field(ge=0)] = 1e-4
    seed: Annotated[int, pydantic.Field(ge=0, lt=2**63)] = 0


class Recipe(_Part):
    """A table, what its columns mean, and how to fit it."""

    name: Name
    table: Path
    test_table: Path | None = None
    """A second table whose rows are all test rows; the split then gives train and dev only."""
    add: tuple[Path, ...] = ()
    """Tables whose rows are added to the train rows, never to the dev or test rows."""
    label: str
    good: str
    """The label of good traffic."""
    about: str = ""
    """For the card: what the data is, where it comes from, its licence."""
    ignore: tuple[str, ...] = ()
    """Columns that are no fields."""
    keep: tuple[str, ...] = ()
    """Columns that are fields although they look like identifiers, times or second labels."""
    drop_labels: tuple[str, ...] = ()
    """Rows with these labels are left out."""
    severity: dict[str, Literal["indeterminate", "warning", "minor", "major", "critical"]] = {}
    """Perceived severity of fault classes; major when not given."""
    fields: dict[str, FieldOverride] = {}
    """By name or pattern (rate_*); of several that fit, the name itself, else the first pattern."""
    split: Split
    backtests: tuple[Backtest, ...] = ()
    encoder: EncoderRecipe = EncoderRecipe()
    fit: FitRecipe = FitRecipe()
    unknown_rate: Annotated[float, pydantic.Field(gt=0, lt=0.5)] = 0.01
    """Share of records of known classes that may be called unknown."""

    @pydantic.model_validator(mode="after")
    def _beta_is_at_least_n(self) -> Recipe:
        beta, n = self.fit.beta, self.encoder.dimensions
        if beta is not None and beta < n:
            raise ValueError(
                f"beta = {beta:g} is less than N = {n}, where the loss has no value; "
                "leave beta out or give at least N"
            )
        return self

    @classmethod
    def read(
        cls, path: Path | None, options: dict[str, Any], defaults: dict[str, Any] | None = None
    ) -> Recipe:
        """Read a recipe, with options laid over it; paths in the file are relative to the file.

        Args:
            path: TOML file, or None when the options say all.
            options: nested as the recipe is; they win over the file, but tables to add are added
                to those that the file names.
            defaults: the same, for what neither gives.

        Raises:
            RecipeError: the file cannot be read or the whole is no recipe.
        """
        content = _overlay(defaults or {}, _read_toml(path) if path else {})
        if isinstance(content.get("add"), list) and "add" in options:
            options = options | {"add": [*content["add"], *options["add"]]}
        try:
            return cls.model_validate(_overlay(content, options))
        except pydantic.ValidationError as error:
            raise RecipeError(_explain(error)) from error


_SPLIT_HINT = (
    "say how to split rows: --split-column, --split-time, --split-group, --split-random "
    "(--shares, --split-within and --split-table go with one of them)"
)
_NAME_HINT = "give --name NAME, what the model is called: letters, digits, '_', '-' and '.'"
_HINTS = {
    "table": "give the table's path, or --recipe FILE",
    "label": "give --label COLUMN, the column that holds the classes",
    "good": "give --good VALUE, the label of good traffic",
    "split": _SPLIT_HINT,
    "split.by": _SPLIT_HINT,
    "name": _NAME_HINT,
}


def _explain(error: pydantic.ValidationError) -> str:
    errors = {".".join(map(str, each["loc"])): each for each in error.errors()}
    for place, hint in _HINTS.items():
        if place in errors and errors[place]["type"] == "missing":
            return hint
    place, first = next(iter(errors.items()))
    if first["type"] == "extra_forbidden":
        return f"{place}: a recipe has no such key"
    if place == "name":
        return f"name: {first['msg']}; {_NAME_HINT}"
    return (f"{place}: " if place else "") + first["msg"].removeprefix("Value error, ")


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecipeError(f"the recipe {path} cannot be read: {error}") from error
    backtests = content.get("backtests")
    parts = [content, content.get("split")]
    if isinstance(backtests, list):
        parts += [each.get("split") for each in backtests if isinstance(each, dict)]
    for part in parts:
        for key in ("table", "test_table"):
            if isinstance(part, dict) and isinstance(part.get(key), str):
                part[key] = path.parent / part[key]
    if isinstance(content.get("add"), list):
        content["add"] = [
            path.parent / each if isinstance(each, str) else each for each in content["add"]
        ]
    return content


def _overlay(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Lay one over the other, table by table; another way to split replaces the split whole."""
    result = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict) and "by" not in value
        result[key] = _overlay(result[key], value) if both else value
    return result
