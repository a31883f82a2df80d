"""The recipe: all settings of a training run, from a TOML file or from options."""

import codecs
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic

from models.bundle import Name
from models.schema import Kind, Matrix

LossName = Literal["lossless", "linear", "triplet", "contrastive"]
View = Literal["standard", "log", "bins"]
Device = Literal["cpu", "cuda", "auto"]
FitEngine = Literal["local", "ray"]
Growth = Literal["random", "boosted"]
Trees = Annotated[
    Literal["auto", "random", "boosted", "no"],
    # Before trees could be boosted, a recipe said yes to random ones.
    pydantic.BeforeValidator(lambda given: "random" if given == "yes" else given),
]
Prior = Literal["auto", True, False]
Severity = Literal["indeterminate", "warning", "minor", "major", "critical"]
Share = Annotated[float, pydantic.Field(ge=0, le=1)]
Names = Annotated[
    tuple[str, ...],
    pydantic.BeforeValidator(lambda given: (given,) if isinstance(given, str) else given),
]
"""Names of columns; a single one may stand without a list."""


class RecipeError(Exception):
    """The recipe or its tables cannot be used; one line that says why and what to do."""


class TableError(RecipeError):
    """What a table holds cannot be trained on."""


class _Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )

    @classmethod
    def checked(cls, content: dict[str, Any]) -> Self:
        """Check content, or raise RecipeError."""
        try:
            return cls.model_validate(content)
        except pydantic.ValidationError as error:
            raise RecipeError(_explain(error)) from error


class FieldOverride(_Part):
    """What the user knows better of a field than the table shows."""

    kind: Kind | None = None
    unit: str | None = None
    required: bool | None = None
    relative: bool | None = None
    """Whether its level is the same in every network; a site's profile leaves it as it is."""


class Role(_Part):
    """What a fault class is to incidents."""

    echo_of: str | None = None
    """The class that it is the echo of on other devices; itself, if a fault looks the same at
    several devices at once (both ends of a link)."""
    lasting: bool = True
    """Whether the fault can stand for long. If not, a level that stays is the new normal."""


class Reading(_Part):
    """How the cells of a table are written; what is not given is detected."""

    separator: Annotated[str, pydantic.Field(min_length=1)] | None = None
    """Character between the cells of a text table; `tab` for a tabulator."""
    decimal: Literal[".", ","] | None = None
    """Decimal mark of its numbers."""
    encoding: str | None = None
    """Encoding of its text, by Python's names: utf-8, utf-16, cp1252."""
    missing: tuple[str, ...] = ()
    """Cells that are missing values, beside empty ones and the usual marks: N/A, -, null."""

    @pydantic.field_validator("separator")
    @classmethod
    def _is_one_character(cls, separator: str | None) -> str | None:
        separator = "\t" if separator in ("tab", r"\t") else separator
        if separator is not None and (len(separator) != 1 or not separator.isascii()):
            raise ValueError("a separator is one ASCII character, or tab")
        return separator

    @pydantic.field_validator("encoding")
    @classmethod
    def _is_known(cls, encoding: str | None) -> str | None:
        try:
            return encoding and codecs.lookup(encoding).name
        except LookupError as error:
            raise ValueError(f"there is no encoding {encoding!r}: utf-8, utf-16, cp1252") from error


class Split(_Part):
    """Which rows train, which tune and calibrate (dev), and which test."""

    by: Literal["column", "time", "group", "random"]
    column: str | None = None
    """by column: has train, dev or test (other rows are left out). by time: its order.
    by group: rows of equal value stay together. at random: no column; label by label."""
    table: Path | None = None
    """by column: a second table, row for row beside the first, that has the column."""
    within: str | None = None
    """by time: the rows of each value of this column (a run, a device) are split on their own."""
    shares: tuple[Share, Share, Share] = (0.6, 0.15, 0.25)
    """by time, group or random: shares of train, dev and test."""

    @pydantic.model_validator(mode="after")
    def _is_possible(self) -> Self:
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
    """The same recipe fitted on another split; the card has its results, the fit is not kept."""

    name: str
    split: Split


class FewShot(_Part):
    """Fault classes to leave out of training and to enrol from a few records."""

    hold_out: Annotated[tuple[str, ...], pydantic.Field(min_length=1)]
    shots: tuple[Annotated[int, pydantic.Field(ge=1)], ...] = (1, 5)
    """Numbers of support records."""
    draws: Annotated[int, pydantic.Field(ge=1, le=10_000)] = 30
    """Draws of the support records."""


class EncoderRecipe(_Part):
    """The networks between the scaled fields and the cube."""

    dimensions: Annotated[int, pydantic.Field(ge=2, le=1024)] = 16
    """N, the dimensions of each member's cube."""
    members: Annotated[int, pydantic.Field(ge=1, le=64)] = 3
    """Perceptrons fitted side by side; an embedding is their points in a row."""
    linear: bool = True
    """Add the whitened fields as further dimensions: they separate what training never saw."""
    views: Annotated[tuple[View, ...], pydantic.Field(min_length=1)] = ("standard", "log", "bins")
    """Forms of a number for members: standardised, logarithmic far off, bins between quantiles."""
    bins: Literal["auto"] | Annotated[int, pydantic.Field(ge=1, le=256)] = "auto"
    """Maximum bins of a number's piecewise-linear encoding. auto: 8, or 32 where no trees are taken
    and finer bins help on records left out."""
    families: tuple[tuple[str, ...], ...] = ()
    """Fields that are one metric at many places, pooled over the places. Of a recipe it is `pool`
    that decides them."""
    hidden: tuple[Annotated[int, pydantic.Field(ge=1, le=8192)], ...] = (128, 64)
    """Widths of a member's hidden layers."""
    gain: Annotated[float, pydantic.Field(gt=0, le=100)] = 1.0
    """Factor on the normalised pre-activation: 4 for tight clusters, 1 for few-shot work."""
    dropout: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0.1
    trees: Trees = pydantic.Field(default="auto", exclude_if=lambda trees: trees == "no")
    """Trees as one more member: auto takes them where they help on records left out, and which."""

    def learned(self, embeddings: Matrix) -> list[Matrix]:
        """Return each member's points, [n, dimensions], of embeddings [n, N]."""
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
    """beta of the lossless loss, at least N, the default."""
    epsilon: Annotated[float, pydantic.Field(gt=0, lt=1)] = 1e-4
    epochs: Annotated[int, pydantic.Field(ge=1, le=100_000)] = 15
    steps: Annotated[int, pydantic.Field(ge=1)] = 40
    """Batches an epoch."""
    batch: Annotated[int, pydantic.Field(ge=4, le=65536)] = 512
    """Records in a batch, the same number of each class."""
    learning_rate: Annotated[float, pydantic.Field(gt=0, le=1)] = 1e-2
    weight_decay: Annotated[float, pydantic.Field(ge=0)] = 1e-4
    seed: Annotated[int, pydantic.Field(ge=0, lt=2**63)] = 0
    device: Device = pydantic.Field(default="cpu", exclude_if=lambda device: device == "cpu")
    """auto: a CUDA device where there is one."""
    jobs: Annotated[int, pydantic.Field(ge=1)] | None = pydantic.Field(default=None, exclude=True)
    """Fits of cross calibration that run side by side, at most: one a core. The result is the
    same."""
    engine: FitEngine = pydantic.Field(default="local", exclude=True)
    """Where they run: in processes here, or as tasks of Ray. The result is the same."""


class Recipe(_Part):
    """A table, what its columns mean, and how to fit it."""

    name: Name
    table: Path
    test_table: Path | None = None
    """A second table, all of it test rows; the split then makes train and dev only."""
    add: tuple[Path, ...] = ()
    """Tables whose rows are added to the train rows, never to the dev or test rows."""
    rows: Annotated[int, pydantic.Field(ge=100)] | None = pydantic.Field(
        default=None, exclude_if=lambda rows: rows is None
    )
    """Most rows to take of a table. When not given, of a Parquet file with more than 12.5 million
    cells as many rows as have so many, and all rows of any other file."""
    label: str
    good: str
    """The label of good traffic."""
    about: str = ""
    """For the card: the data, its source, its licence."""
    time: str | None = None
    """Column with the time of a record: seconds, a date and time in any usual form, 14 digits."""
    series: Names = ()
    """Columns whose values together name the series a record belongs to: run and device."""
    sites: Names = ()
    """Columns whose values together name the network or device that a record comes from, where each
    has levels of its own: records are brought to common levels by the profile of their site's first
    ones, as the service does, and the bundle then needs a profile of every site. Rows without a
    site, such as those of feedback, are at the common levels already."""
    event: Names = ()
    """Columns whose values together name the event (injected fault, outage) of a record: an event's
    number alone is not enough where each run counts its own."""
    episode_gap: Annotated[float, pydantic.Field(ge=0)] = 60
    """Seconds without an alarm that may lie within one alarm episode of a series."""
    ignore: tuple[str, ...] = ()
    """Columns that are no fields."""
    keep: tuple[str, ...] = ()
    """Columns that are fields although they look like identifiers, times or second labels."""
    drop_labels: tuple[str, ...] = ()
    """Rows with these labels are left out."""
    least_records: Annotated[int, pydantic.Field(ge=1)] = 10
    """A class with fewer train and dev rows, or a single train row, is not fitted, so that it harms
    no other: it is carried as an enrolled class, known from these rows, until it has enough. If no
    fault class has enough, those of two train rows or more are fitted all the same."""
    merge_labels: bool = False
    """Unite labels that differ only in case or blanks, to the most common spelling."""
    reading: Reading = Reading()
    severity: dict[str, Severity] = {}
    """Perceived severity of fault classes; when not given, that of an added table's column
    `label_severity`, and else major."""
    # Left out where it says nothing: the versions of older bundles are hashes of what they hold.
    roles: dict[str, Role] = pydantic.Field(default={}, exclude_if=lambda roles: not roles)
    """Roles of fault classes; a fault of its own that can last when not given."""
    fields: dict[str, FieldOverride] = {}
    """By name or pattern (rate_*); a name goes before patterns, the first pattern before others."""
    split: Split
    backtests: tuple[Backtest, ...] = ()
    mapping: Path | None = None
    """How metric points become records (`faultcube assemble`); it is put into the bundle."""
    encoder: EncoderRecipe = EncoderRecipe()
    fit: FitRecipe = FitRecipe()
    unknown_rate: Annotated[float, pydantic.Field(gt=0, lt=0.5)] = 0.01
    """Share of records of known classes that may be called unknown."""
    calibration: Literal["auto", "cross", "dev"] = "auto"
    """cross: several fits, each without some groups, measure the records of these groups, and the
    last fit takes train and dev rows. dev: the fit takes train rows, and dev rows are measured.
    auto: cross; where no groups are known, a group is a quarter of each class's rows in a row."""
    leave_out: tuple[str, ...] = ()
    """Columns whose values together are the groups of cross calibration: what new traffic will
    differ in, a device or an event. The last column of the series by default, else the event."""
    pool: Literal["auto", "no"] | tuple[str, ...] = "auto"
    """Fields that are one metric at many places, to be pooled over the places: auto finds them by
    their names, and pools them if that helps on groups left out; or a pattern for each metric."""
    prior: Prior = "auto"
    """Let the decision know how common each class is among the training rows, or not at all. auto:
    half or a quarter of it where that brings a tenth of what macro-F1 on records left out lacks to
    1, else all of it, as with `fault_share`."""
    fault_share: Annotated[float, pydantic.Field(gt=0, lt=1)] | None = None
    """Share of records that are faults where the model will serve, if the rows do not show it."""

    @property
    def groupings(self) -> tuple[tuple[str, ...], ...]:
        """Columns that together may name the groups of cross calibration, the best first."""
        if self.leave_out:
            return (self.leave_out,)
        groupings = [self.series[-1:], self.event]
        if self.split.by == "group" and self.split.column:
            groupings.insert(1, (self.split.column,))
        return tuple(filter(None, groupings))

    @property
    def context(self) -> tuple[str, ...]:
        """Columns that say when, where and in which event a record was made: never fields."""
        named = (*self.series, self.time, *self.sites, *self.event, *self.leave_out)
        return tuple(dict.fromkeys(name for name in named if name is not None))

    @pydantic.model_validator(mode="after")
    def _beta_is_at_least_n(self) -> Self:
        beta, n = self.fit.beta, self.encoder.dimensions
        if beta is not None and beta < n:
            raise ValueError(
                f"beta = {beta:g} is less than N = {n}, where the loss has no value; "
                "leave beta out or give at least N"
            )
        return self

    @pydantic.model_validator(mode="after")
    def _pool_decides_the_families(self) -> Self:
        if self.encoder.families:
            raise ValueError("encoder.families are found by training; pool says which to pool")
        return self

    @pydantic.model_validator(mode="after")
    def _roles_are_of_faults(self) -> Self:
        for name, role in self.roles.items():
            if self.good in (name, role.echo_of):
                raise ValueError(
                    f"roles.{name}: good traffic ({self.good}) is no fault, nor echoed"
                )
            other = self.roles.get(role.echo_of or name, role)
            if role.echo_of not in (None, name) and other.echo_of not in (None, role.echo_of):
                raise ValueError(f"roles.{name}: {role.echo_of} is an echo itself; name its cause")
        return self

    @classmethod
    def read(
        cls, path: Path | None, options: dict[str, Any], defaults: dict[str, Any] | None = None
    ) -> Self:
        """Read a recipe and override it with options; paths in the file are relative to the file.

        Options and defaults are nested like the recipe; defaults are for keys in neither of the
        others. Tables to add are appended to those of the file.

        Raises:
            RecipeError: the file cannot be read, or the result is no valid recipe.
        """
        content = _overlay(defaults or {}, _read_toml(path) if path else {})
        if isinstance(content.get("add"), list) and "add" in options:
            options = options | {"add": [*content["add"], *options["add"]]}
        return cls.checked(_overlay(content, options))

    def as_recorded(self) -> dict[str, Any]:
        """Return the recipe as a manifest records it: tables by file name, without folders."""
        content = self.model_dump(mode="json", exclude={"about", "add"})
        _change_tables(content, lambda path: Path(path).name)
        return content


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
    errors = {".".join(map(str, fault["loc"])): fault for fault in error.errors()}
    for key, hint in _HINTS.items():
        if key in errors and errors[key]["type"] == "missing":
            return hint
    key, first = next(iter(errors.items()))
    if first["type"] == "extra_forbidden":
        return f"{key}: a recipe has no such key"
    if key == "name":
        return f"name: {first['msg']}; {_NAME_HINT}"
    return (f"{key}: " if key else "") + first["msg"].removeprefix("Value error, ")


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecipeError(f"the recipe {path} cannot be read: {error}") from error
    _change_tables(content, lambda table: path.parent / table)
    if isinstance(content.get("add"), list):
        content["add"] = [path.parent / t if isinstance(t, str) else t for t in content["add"]]
    return content


def _change_tables(content: dict[str, Any], change: Callable[[str], object]) -> None:
    """Change every table's path, in content that nobody has validated yet."""
    backtests = content.get("backtests")
    parts = [content, content.get("split")]
    if isinstance(backtests, list):
        parts += [backtest.get("split") for backtest in backtests if isinstance(backtest, dict)]
    for part in parts:
        for key in ("table", "test_table", "mapping"):
            if isinstance(part, dict) and isinstance(part.get(key), str):
                part[key] = change(part[key])


def _overlay(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Override keys, table by table; another way to split replaces the whole split."""
    result = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict) and "by" not in value
        result[key] = _overlay(result[key], value) if both else value
    return result
