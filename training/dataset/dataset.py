"""From a table to matrices, encoded as the service encodes a record."""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import polars as pl

from models.bundle import MOST_BYTES, MOST_FIELDS
from models.schema import UNSEEN, Field, Kind, Matrix, Schema
from training.dataset.clocks import Clock, with_rates
from training.dataset.labels import Counts, carried_classes, class_names, small_classes
from training.dataset.sampling import Sample
from training.dataset.schema_inference import choose_columns, describe_fields
from training.dataset.sites import adapt_sites
from training.dataset.splits import Part
from training.dataset.tables import Added, added_tables, aligned, is_whole, read_labelled
from training.dataset.times import seconds_of
from training.recipe import Backtest, Recipe, RecipeError, Severity, Split

_RANDOM = (
    "rows were split at random: neighbours in time are nearly equal, so the test results flatter; "
    "split by time, group or a given column to know the truth"
)
_ADAPTED = (
    "every record is at the levels of its own site ({}): this bundle needs a profile of each site "
    "that it serves, by `faultcube adapt` or POST /profiles"
)
_RANDOM_DEV = (
    "dev rows were drawn at random: neighbours in time are nearly equal, so radii may be tighter "
    "than new traffic needs; split by time, group or a given column"
)

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rows:
    """One part of a table."""

    matrix: Matrix  # float32 [n, fields], raw values, NaN where missing
    labels: Labels  # int64 [n], index of the class
    # the rows as read; empty for rows that come from arrays
    table: pl.DataFrame = dataclasses.field(default_factory=pl.DataFrame)

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, mask: npt.NDArray[np.bool_]) -> "Rows":
        """Return the rows where the mask, [n], is true."""
        table = self.table if self.table.is_empty() else self.table.filter(mask)
        return Rows(self.matrix[mask], self.labels[mask], table)


@dataclass(frozen=True, slots=True)
class Addition:
    """The outcome of adding a table."""

    table: str  # the file's name
    rows: int  # number of train rows that it added
    left_out: int  # number of its rows that equal a dev or test row in every field

    @property
    def note(self) -> str:
        """The outcome as a sentence."""
        note = f"{self.rows} rows of {self.table} were added to the train rows"
        more = f"; {self.left_out} more equal dev or test rows and were left out"
        return note + more if self.left_out else note


@dataclass(frozen=True, slots=True)
class Dataset:
    """A table ready for training."""

    schema: Schema  # the fields, inferred from the training rows
    # labels in a fixed order: good traffic first, those that are carried last
    classes: tuple[str, ...]
    # train and dev and test: the three parts
    train: Rows
    dev: Rows
    test: Rows
    dropped: Mapping[str, str]  # for every column that is no field, the reason
    notes: tuple[str, ...]  # warnings for the user
    added: tuple[Addition, ...] = ()  # tables whose rows are among the train rows
    carried: tuple[str, ...] = ()  # classes of too few rows to be fitted
    severity: Mapping[str, Severity] = dataclasses.field(
        default_factory=dict
    )  # as added tables say
    fit_schema: Schema | None = None  # the fields as the other classes show them; None: as all do
    sample: Sample | None = None  # the rows of the table that were taken; None: all of them
    clocks: tuple[Clock, ...] = ()  # columns whose rates are fields in their place

    @property
    def fitted(self) -> "Dataset":
        """What the encoder is fitted to: as if there were no class that is carried."""
        if not self.carried:
            return self
        schema = self.fit_schema or self.schema
        return dataclasses.replace(self.without(self.carried), schema=schema)

    def without(self, names: Collection[str]) -> "Dataset":
        """Return the dataset without the rows of some classes."""
        kept = [c for c, name in enumerate(self.classes) if name not in names]

        def rows(part: Rows) -> Rows:
            part = part.select(np.isin(part.labels, kept))
            labels = np.searchsorted(kept, part.labels).astype(np.int64)
            return dataclasses.replace(part, labels=labels)

        return dataclasses.replace(
            self,
            classes=tuple(self.classes[c] for c in kept),
            train=rows(self.train),
            dev=rows(self.dev),
            test=rows(self.test),
            carried=tuple(name for name in self.carried if name not in names),
        )

    @property
    def known(self) -> Rows:
        """The train and dev rows."""
        tables = [rows.table for rows in (self.train, self.dev) if not rows.table.is_empty()]
        return Rows(
            np.concatenate([self.train.matrix, self.dev.matrix]),
            np.concatenate([self.train.labels, self.dev.labels]),
            pl.concat(tables, how="diagonal_relaxed") if tables else pl.DataFrame(),
        )

    @property
    def parts(self) -> dict[Part, Rows]:
        """The three parts by name."""
        return {"train": self.train, "dev": self.dev, "test": self.test}


def load_dataset(
    recipe: Recipe,
    split: Split | None = None,
    held_out: Collection[str] = (),
    added: Sequence[Added] | None = None,
) -> Dataset:
    """Read the recipe's table, split it, add rows, infer the schema and encode.

    Another split and other rows to add, with their rates, may replace the recipe's. The schema is
    inferred without the rows of classes that are `held_out`, as if these were unknown. Classes of
    too few rows to be fitted are carried: the fit's schema is inferred without them, too.

    Raises:
        RecipeError: the table cannot be trained on; says why and what to do.
    """
    split = split or recipe.split
    given, added = added, added_tables(recipe) if added is None else added
    more = frozenset().union(*(table.labels for table in added))
    read = read_labelled(recipe, split, more)
    recipe, parts = read.recipe, read.parts
    described = ~pl.col(recipe.label).is_in(held_out)
    labels = [rows[recipe.label] for rows in (parts["train"], *(table.rows for table in added))]
    class_names(pl.concat(labels), recipe)
    # The table alone decides which columns are fields: added rows change only what they hold.
    columns = choose_columns(parts["train"].filter(described), recipe, read.is_sample)
    kinds, dropped = columns.kinds, columns.dropped
    # Rates need the records between, those without a label too.
    if columns.clocks:
        rated = partial(with_rates, clocks=columns.clocks, series=recipe.series, time=recipe.time)
        parts = read_labelled(recipe, split, more, rated).parts
        added = added_tables(recipe, columns.clocks) if given is None else given
    parts = _codes_as_text(parts, kinds)
    new, additions = _new_rows(added, parts, kinds, recipe.label)
    train = parts["train"] = pl.concat([parts["train"], *new], how="diagonal_relaxed")
    counts = Counts.of(train[recipe.label], parts["dev"][recipe.label])
    names = class_names(train[recipe.label], recipe)
    carried = carried_classes(counts, recipe)
    classes = *(name for name in names if name not in carried), *carried
    schema, fit_schema = _schemas(train.filter(described), carried, kinds, recipe)
    _check_width(schema, recipe)
    rows: dict[Part, Rows] = {}
    notes = [*read.notes, *_lacking_rates(columns.clocks, added)]
    dev_calibrates = recipe.calibration == "dev"
    if split.by == "random" and not recipe.test_table:
        notes.append(_RANDOM)
    elif split.by == "random" and dev_calibrates:
        notes.append(_RANDOM_DEV)
    for part, table in parts.items():
        rows[part], infinite = _encode(table, schema, classes, recipe.label, part)
        if infinite:
            notes.append(f"{infinite} infinite values of the {part} rows are taken as missing")
    if recipe.sites:
        rows = _at_common_levels(rows, schema, recipe)
        named = " / ".join(recipe.sites)
        notes.append(_ADAPTED.format(named))
    least = recipe.least_records
    notes += small_classes(classes, carried, counts, least, dev_calibrates=dev_calibrates)
    return Dataset(
        schema,
        classes,
        rows["train"],
        rows["dev"],
        rows["test"],
        dropped,
        (*notes, *(addition.note for addition in additions)),
        additions,
        carried,
        dict(item for table in added for item in table.severity.items()),
        fit_schema,
        read.sample,
        columns.clocks,
    )


def _lacking_rates(clocks: Sequence[Clock], added: Sequence[Added]) -> Iterator[str]:
    """Yield a note on each rate that no added row has."""
    for clock in clocks:
        if added and not any(clock.rate in table.rows.columns for table in added):
            yield (
                f"no added row has {clock.rate!r}, a field: it is missing there; add it, or "
                f"{clock.name!r} with the columns of the time and the series"
            )


@contextmanager
def naming(backtest: Backtest) -> Iterator[None]:
    """Say in a RecipeError that it is the backtest's, whose split alone may be wrong."""
    try:
        yield
    except RecipeError as error:
        raise type(error)(f"backtest {backtest.name!r}: {error}") from error


def _at_common_levels(
    parts: Mapping[Part, Rows], schema: Schema, recipe: Recipe
) -> dict[Part, Rows]:
    """Adapt the records of each site, whose first ones are the first in all parts together.

    The tables show them adapted, too.
    """
    context = [*recipe.sites, *([] if recipe.time is None else [recipe.time])]
    for part, rows in parts.items():
        for name in context:
            if name not in rows.table.columns:
                raise RecipeError(f"the {part} rows have no column {name!r}, which sites need")
    every = [rows.table.select(pl.col(context)) for rows in parts.values()]
    matrix = np.concatenate([rows.matrix for rows in parts.values()])
    adapted = adapt_sites(matrix, pl.concat(every, how="vertical_relaxed"), schema, recipe)
    ends = np.cumsum([len(rows) for rows in parts.values()])[:-1]
    return {
        part: Rows(of_part, rows.labels, rows.table.with_columns(_numbers(of_part, schema)))
        for (part, rows), of_part in zip(parts.items(), np.split(adapted, ends), strict=True)
    }


def _numbers(matrix: Matrix, schema: Schema) -> list[pl.Series]:
    """Return the columns of measurements."""
    return [
        pl.Series(field.name, column, nan_to_null=True)
        for field, column in zip(schema.fields, matrix.T, strict=True)
        if not field.is_coded
    ]


def _schemas(
    train: pl.DataFrame, carried: Sequence[str], kinds: Mapping[str, Kind], recipe: Recipe
) -> tuple[Schema, Schema]:
    """Return the fields of the dataset, and those of the fit, which knows no carried class.

    They differ in what they accept only. The encoder takes missing values and unseen categories in
    any field, and a carried class may have them where no other has.
    """
    fields = describe_fields(train, kinds, recipe)
    if not carried:
        return Schema(fields), Schema(fields)
    fitted = describe_fields(train.filter(~pl.col(recipe.label).is_in(carried)), kinds, recipe)
    accepting = (
        own.model_copy(
            update={
                "required": every.required,
                "open": own.open or every.open or own.categories != every.categories,
            }
        )
        for own, every in zip(fitted, fields, strict=True)
    )
    return Schema(tuple(accepting)), Schema(fitted)


def _check_width(schema: Schema, recipe: Recipe) -> None:
    """Refuse, before anything is fitted, fields that no bundle could hold."""
    if len(schema) > MOST_FIELDS:
        raise RecipeError(
            f"{len(schema):,} columns are fields, a model takes {MOST_FIELDS:,}: leave some out "
            "with --ignore"
        )
    width = sum(len(field.categories) or (2 if field.required else 3) for field in schema.fields)
    if recipe.encoder.linear and 4 * width**2 > MOST_BYTES:
        raise RecipeError(
            f"{len(schema):,} fields are too many to be whitened: leave some out with --ignore, or "
            "set linear = false under [encoder]"
        )


def _new_rows(
    added: Sequence[Added],
    parts: Mapping[Part, pl.DataFrame],
    kinds: Mapping[str, Kind],
    label: str,
) -> tuple[list[pl.DataFrame], tuple[Addition, ...]]:
    """Return the rows to add, without those that equal dev or test rows: they would flatter."""
    if not added:
        return [], ()
    like = parts["train"].select(*kinds, label)
    held = pl.concat(_comparable(parts[part], kinds) for part in ("dev", "test")).unique()
    new, additions = [], []
    for table in added:
        rows = aligned(table, like)
        numbered = _comparable(rows, kinds).with_row_index("__row__")
        kept = numbered.join(held, on=[*kinds], how="anti", nulls_equal=True)["__row__"]
        new.append(rows[kept.sort()])
        additions.append(Addition(table.name, len(kept), len(rows) - len(kept)))
    return new, tuple(additions)


def _codes_as_text(
    parts: Mapping[Part, pl.DataFrame], kinds: Mapping[str, Kind]
) -> dict[Part, pl.DataFrame]:
    """Return the parts with the codes of categories as text: added rows may have others."""
    tables = dict(parts)
    for name in [name for name, kind in kinds.items() if kind == "category"]:
        columns = {part: table[name] for part, table in parts.items() if name in table.columns}
        # Integers, some of them missing, are read as floats: 1.0 is 1, as in an added table.
        if all(is_whole(column) for column in columns.values() if column.dtype.is_float()):
            floats = {part: c for part, c in columns.items() if c.dtype.is_float()}
            columns |= {part: column.cast(pl.Int64) for part, column in floats.items()}
        for part, column in columns.items():
            tables[part] = tables[part].with_columns(column.cast(pl.String))
    return tables


def _comparable(table: pl.DataFrame, kinds: Mapping[str, Kind]) -> pl.DataFrame:
    """Return the fields such that values of equal encoding are equal: text, or float32."""
    text = [name for name, kind in kinds.items() if kind == "category"]
    numbers = [name for name in kinds if name not in text]
    float32 = pl.col(numbers).cast(pl.Float64, strict=False).cast(pl.Float32)
    return _completed(table, kinds).select(
        pl.col(text).cast(pl.String).replace("", None),
        float32.fill_nan(None) + 0,  # -0.0 is 0.0
    )


def _completed(table: pl.DataFrame, names: Iterable[str]) -> pl.DataFrame:
    """Return the table with a column of missing values for each of these names that it lacks."""
    return table.with_columns(pl.lit(None).alias(n) for n in names if n not in table.columns)


@dataclass(frozen=True, slots=True)
class Groups:
    """Which rows belong together."""

    numbers: Labels  # int64 [n], the group of each row, from 0
    is_cut: bool  # whether rows of no group were cut into groups of neighbours


def order_of(rows: Rows, time: str | None) -> Labels:
    """Return the place of each row in time, or in the table if no column has the times."""
    if time is None:
        return np.arange(len(rows), dtype=np.int64)
    times = seconds_of(rows.table[time])
    places: Labels = times.rank("ordinal").fill_null(0).cast(pl.Int64).to_numpy()
    return places


def groups_of(
    rows: Rows,
    groupings: Iterable[Sequence[str]],
    least: int,
    order: Labels,
    serves: Callable[[Labels], bool] = lambda _groups: True,
) -> Groups | None:
    """Return the group of each row by the first columns that give enough groups.

    Columns serve if they give `least` groups and none of them has more than half of the rows: what
    is left out in turn must leave enough to fit. `serves` may ask for more.

    Often only faults belong to an event. If rows that lack a value do not serve as one group, they
    are cut into `least` groups of neighbours, so that each leaves out another time.

    Args:
        rows: with their table.
        groupings: columns that together may name the groups, the best first.
        least: groups.
        order: the place of each row in time.
        serves: whether these groups, of each row, will do.
    """
    for columns in groupings:
        if not {*columns} <= {*rows.table.columns}:
            continue
        # Whole first: rows that were added, as feedback, often have no device or event.
        for is_cut in (False, True):
            groups = _numbered(rows.table.select(columns), order, least if is_cut else 1)
            sizes = np.bincount(groups)
            if len(sizes) >= least and 2 * sizes.max() <= len(rows) and serves(groups):
                return Groups(groups, is_cut)
    return None


def _numbered(values: pl.DataFrame, order: Labels, parts: int) -> Labels:
    """Number the groups of rows with the same values; those that lack one are cut into parts."""
    groups, number = np.empty(len(values), dtype=np.int64), 0
    members = values.with_row_index("__row__").group_by(values.columns, maintain_order=True)
    for key, member in members:
        found = member["__row__"].to_numpy()
        lacks_one = any(part in (None, "") or part != part for part in key)  # noqa: PLR0124 - NaN
        if lacks_one:
            found = found[np.argsort(order[found])]
        for of_group in np.array_split(found, min(parts, len(found)) if lacks_one else 1):
            groups[of_group], number = number, number + 1
    return groups


def encode_rows(table: pl.DataFrame, schema: Schema) -> Matrix:
    """Encode rows in any schema: float32 [n, fields], NaN for what the service would reject."""
    matrix = _matrix(_completed(table, schema.names), schema)
    matrix[np.isinf(matrix)] = np.nan
    return matrix


def _encode(
    table: pl.DataFrame, schema: Schema, classes: tuple[str, ...], label: str, part: Part
) -> tuple[Rows, int]:
    """Return a part of the table as rows, and the number of infinite values that became NaN."""
    if unknown := sorted(set(table[label]) - set(classes)):
        raise RecipeError(
            f"{part} rows are of class {unknown[0]!r}, training rows are not: split otherwise, or "
            f"leave it out with --drop-label {unknown[0]!r}"
        )
    for name in schema.names:
        if name not in table.columns:
            raise RecipeError(f"the {part} rows have no column {name!r}; it is a field")
    matrix = _matrix(table, schema)
    infinite = np.isinf(matrix)
    matrix[infinite] = np.nan
    index = {name: c for c, name in enumerate(classes)}
    labels = table[label].replace_strict(index, return_dtype=pl.Int64).to_numpy(writable=True)
    return Rows(matrix, labels, table), int(infinite.sum())


def _matrix(table: pl.DataFrame, schema: Schema) -> Matrix:
    return np.stack([_encode_column(table[field.name], field) for field in schema.fields], axis=1)


def _encode_column(column: pl.Series, field: Field) -> Matrix:
    """Encode as `Field.encode` does, except that values which the service rejects are missing."""
    try:
        if field.kind == "category":
            codes = {category: float(i) for i, category in enumerate(field.categories)}
            text = column.cast(pl.String).replace("", None)
            other = UNSEEN if field.open else None
            column = text.replace_strict(codes, default=other, return_dtype=pl.Float64)
            column = column.set(text.is_null(), None)
        values = column.cast(pl.Float64).to_numpy()
    except pl.exceptions.PolarsError as error:
        raise RecipeError(f"column {field.name!r} is not a {field.kind} in every row") from error
    with np.errstate(over="ignore"):
        matrix: Matrix = values.astype(np.float32)
    return matrix
