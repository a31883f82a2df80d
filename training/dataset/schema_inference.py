"""Schema inference: which columns are fields, of what kind and unit, and why others are not."""

import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import polars as pl
import polars.selectors as cs

from models.names import LONGEST_NAME
from models.profile import level_of
from models.schema import LARGEST, Field, Kind, Numbers, unusable_character
from training.dataset.clocks import RATE_SUFFIX, Clock, find_clocks, with_rates
from training.recipe import FieldOverride, Recipe, RecipeError

_IDENTIFIER = re.compile(r"(^|[^a-z])(id|uuid|guid|index|idx|row|serial)s?($|[^a-z])")
_NAME = re.compile(
    r"(^|[^a-z])(name|host|hostname|device|node|router|switch|interface|port|link|ip|mac|addr|"
    r"address|site|location|run|campaign|event|incident)s?($|[^a-z])"
)
_TIME = re.compile(r"(^|[^a-z])(timestamp|time|datetime|date|epoch|ts|clock)($|[^a-z])")
_FEW = 20  # Fewer rows or values than this say nothing by their order or range
_MANY = 100  # A text column with more values than this is an identifier

_UNITS = {
    r"kbps|kbit/s|kbits": "kbit/s",
    r"mbps|mbit/s": "Mbit/s",
    r"bps|bits?/s": "bit/s",
    r"pps|packets?[-_ ]?(rate|per[-_ ]?sec\w*)": "packets/s",
    r"(bytes?|octets?)[-_ ]?(rate|per[-_ ]?sec\w*)": "bytes/s",
    r"percent|pct|util\w*": "%",
    r"celsius|temperature|temp": "°C",
    r"(milliseconds?|msecs?|ms)": "ms",
    r"(seconds?|secs?|\(s\)|duration|uptime)": "s",
    r"bytes?|octets?|memory": "bytes",
    r"pkts?|packets?": "packets",
    r"segs?|segments?": "segments",
    r"errors?": "errors",
    r"drops?|discards?": "drops",
    r"routes?": "routes",
    r"neighbou?rs?": "neighbours",
    r"prefix(es)?": "prefixes",
}
_RELATIVE = re.compile(
    r"(^|[^a-z])(rel|relative|ratio|share|frac|fraction|percent|pct|util\w*)($|[^a-z])"
)
_RATE = re.compile(r"(^|[^a-z])(rate|bps|kbps|mbps|pps|persec\w*|per[-_ ]?sec\w*|/s)($|[^a-z])")


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a table, as the training rows show them."""

    kinds: dict[str, Kind]  # of every column that is a field, rates of clocks last
    dropped: dict[str, str]  # for every column that is no field, the reason
    clocks: tuple[Clock, ...]  # columns whose rates are fields in their place


@dataclass(frozen=True, slots=True)
class Inference:
    """The record schema, and for every column that is no field the reason."""

    fields: tuple[Field, ...]
    dropped: Mapping[str, str]


def infer_fields(train: pl.DataFrame, recipe: Recipe, is_sample: bool = False) -> Inference:
    """Infer the schema from training rows: choose the columns, then describe them."""
    columns = choose_columns(train, recipe, is_sample)
    rows = with_rates(train, columns.clocks, recipe.series, recipe.time)
    return Inference(describe_fields(rows, columns.kinds, recipe), columns.dropped)


def choose_columns(train: pl.DataFrame, recipe: Recipe, is_sample: bool = False) -> Columns:
    """Choose the columns that are fields, from the training rows alone.

    A clock is replaced by its increase per second if the recipe has a time column, which
    `clocks.with_rates` computes; otherwise, where the rows are a sample, and where the table has a
    column of that name already, it is left out.

    Raises:
        RecipeError: a field is missing in every row, an option names no column, or no field is
            left.
    """
    _check_names(train, recipe)
    labels, is_good = train[recipe.label], train[recipe.label] == recipe.good
    columns = _cleaned(train.drop(recipe.label, *{*recipe.ignore, *recipe.context}))
    splits = [recipe.split, *(backtest.split for backtest in recipe.backtests)]
    split_by = {name for split in splits for name in (split.column, split.within)}
    _check_values(columns.select(name for name in recipe.keep))
    kinds: dict[str, Kind] = {}
    dropped = dict.fromkeys(recipe.context, "says when, where or in which event")
    dropped |= dict.fromkeys(recipe.ignore, "ignored, as asked")
    first_of: dict[bytes, str] = {}
    for column in columns:
        reason = None
        if column.name not in recipe.keep:
            reason = "the rows are split by it" if column.name in split_by else None
            reason = reason or _reason_to_drop(column, labels, is_good) or _twin(column, first_of)
        if reason:
            dropped[column.name] = reason
        elif bad := unusable_character(column.name):
            raise RecipeError(
                f"the name of column {column.name!r} has the character {bad!r}, which none of a "
                "field may have: rename it, or leave it out with --ignore"
            )
        else:
            kinds[column.name] = override_of(column.name, recipe).kind or _kind(column)
    replaced = []
    for clock in _clocks(train, kinds, recipe):
        del kinds[clock.name]
        has_rate = clock.rate in train.columns
        dropped[clock.name] = _why_no_field(clock, recipe, is_sample, has_rate)
        if recipe.time and clock.becomes_rate and not is_sample and not has_rate:
            kinds[clock.rate] = "rate"
            replaced.append(clock)
    if not kinds:
        raise RecipeError("no column is left to be a field; name those you mean with --keep COLUMN")
    return Columns(kinds, dropped, tuple(replaced))


def _clocks(train: pl.DataFrame, kinds: Mapping[str, Kind], recipe: Recipe) -> tuple[Clock, ...]:
    coded = ("boolean", "category")
    names = [n for n, kind in kinds.items() if kind not in coded and n not in recipe.keep]
    numbers = [name for name in names if train[name].dtype.is_numeric()]
    is_good = train[recipe.label] == recipe.good
    return tuple(find_clocks(train, numbers, recipe.series, recipe.time, is_good))


def _why_no_field(clock: Clock, recipe: Recipe, is_sample: bool, has_rate: bool) -> str:
    reason = f"a clock: it {clock.reason}, so its value tells the time of recording"
    if not clock.becomes_rate:
        return f"{reason}; --keep if it is a measurement"
    if has_rate:
        return f"{reason}; its rate is there already, {clock.rate}"
    if is_sample:
        return f"{reason}; a rate needs the rows between those taken: put it into the table"
    if recipe.time:
        return f"{reason}; its increase per second is a field, {clock.rate}"
    return f"{reason}; name the time column (--time) for its rate, or --keep it"


def describe_fields(
    rows: pl.DataFrame, kinds: Mapping[str, Kind], recipe: Recipe
) -> tuple[Field, ...]:
    """Describe fields as the rows show them: unit, categories, typical value, may it be missing."""
    is_good = rows[recipe.label] == recipe.good
    table = _cleaned(rows.select(*kinds))
    return tuple(
        _field(table[name], kind, is_good, override_of(name, recipe))
        for name, kind in kinds.items()
    )


def _cleaned(columns: pl.DataFrame) -> pl.DataFrame:
    """Return the columns with null for what the service treats as missing, and text as text."""
    columns = columns.with_columns((cs.categorical() | cs.enum()).cast(pl.String))
    finite = pl.when(cs.float().abs() <= LARGEST).then(cs.float())
    return columns.with_columns(finite, cs.string().replace("", None))


def _check_values(columns: pl.DataFrame) -> None:
    empty = [column.name for column in columns if column.null_count() == len(column)]
    if empty:
        flags = " ".join(f"--ignore {name!r}" for name in empty[:5])
        more = f" (and {len(empty) - 5} more)" if len(empty) > 5 else ""
        raise RecipeError(
            f"no training row has a value of {empty[0]!r}: leave out with {flags}{more}"
        )


def _check_names(train: pl.DataFrame, recipe: Recipe) -> None:
    for name in (*recipe.ignore, *recipe.keep, *recipe.fields, *recipe.context):
        clock = name.removesuffix(RATE_SUFFIX)  # its rate may be described
        matches = name in recipe.fields and (
            clock in train.columns or fnmatch.filter(train.columns, name)
        )
        if name not in train.columns and not matches:
            raise RecipeError(f"the table has no column {name!r} to ignore, keep or describe")
    if long := [name for name in train.columns if len(name) > LONGEST_NAME]:
        raise RecipeError(f"a column's name has {len(long[0])} characters, at most 200 are taken")
    if twice := [name for name in train.columns if re.fullmatch(r".*_duplicated_\d+", name)]:
        name = twice[0].rsplit("_duplicated_", 1)[0]
        raise RecipeError(f"two columns are called {name!r}; rename one")
    if recipe.label in recipe.keep:
        raise RecipeError(f"{recipe.label!r} is the label column and cannot be kept as a field")
    if both := {*recipe.ignore, *recipe.context} & set(recipe.keep):
        raise RecipeError(f"{min(both)!r} cannot be both ignored and kept")


def _reason_to_drop(column: pl.Series, labels: pl.Series, is_good: pl.Series) -> str | None:
    words, text, distinct = _words(column.name), column.dtype == pl.String, column.n_unique()
    if column.null_count() == len(column):
        return "no training row has a value"
    if not _is_plain(column):
        return "its values are neither numbers, booleans nor text"
    if not column.name.strip():
        return "it has no name: a row index?"
    if column.dtype.is_temporal() or _TIME.search(words) or _is_epoch(column):
        return "a time; keep it with --keep if it is a measurement"
    if text and distinct == 1:
        return "constant in the training rows"
    whole = column.dtype.is_integer()
    if (
        _IDENTIFIER.search(words)
        or (whole and (_is_name(words) or _counts_rows(column)))
        or (text and (distinct > _MANY or _names_a_thing(words, distinct)))
    ):
        return "an identifier; keep it with --keep if it is a measurement"
    if column.filter(is_good).is_null().all():
        return "missing in all good traffic: a note on faults; keep it with --keep if it is a field"
    if _tells_label(column, labels):
        return "a second label: it settles the label, or is settled by it; --keep if it is a field"
    return None


def _names_a_thing(words: str, distinct: int) -> bool:
    """Return whether text is the name of a thing: event_device, but not link_up of few values."""
    match = _NAME.search(words)
    if match is None:
        return False
    last = re.findall(r"[a-z]+", words)[-1]
    return distinct > _FEW or _is_name(last) or match[2] in ("run", "campaign", "event", "incident")


def is_named_as_no_field(name: str) -> bool:
    """Return whether a column's name alone says that it is an identifier or a time."""
    words = _words(name)
    return bool(_IDENTIFIER.search(words) or _TIME.search(words)) or _is_name(words)


def _is_name(words: str) -> bool:
    """Return whether the whole name is that of a thing: device, but not device_errors."""
    match = _NAME.search(words)
    return match is not None and match[0] == words


def _counts_rows(column: pl.Series) -> bool:
    """Return whether a number counts the rows up or down, but for rows that are not there.

    A counter of traffic only grows, too, but by other steps each time.
    """
    steps = column.cast(pl.Float64).diff().drop_nulls()
    if len(steps) <= _FEW or not ((steps > 0).all() or (steps < 0).all()):
        return False
    return steps.n_unique() <= len(steps) / 4


def _is_epoch(column: pl.Series) -> bool:
    """Return whether all values are times of 2001 to 2039 since 1970, in s, ms, us or ns."""
    if not column.dtype.is_numeric() or column.n_unique() < _FEW:
        return False
    numbers = column.cast(pl.Float64)
    return any(numbers.is_between(1e9 * scale, 2.2e9 * scale).all() for scale in (1, 1e3, 1e6, 1e9))


def _is_plain(column: pl.Series) -> bool:
    kind = column.dtype
    return kind.is_numeric() or kind.is_temporal() or kind in (pl.Boolean, pl.String)


def _words(name: str) -> str:
    """Return a name in lower case, with camelCase split."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _tells_label(column: pl.Series, labels: pl.Series) -> bool:
    """Return whether the column looks like the label under another name.

    A status may determine one class (a port that is down). Only a label determines three or more
    with a handful of values, or is text that the label determines.
    """
    frame = pl.DataFrame({"value": column, "label": labels})
    classes, distinct, text = labels.n_unique(), column.n_unique(), column.dtype == pl.String
    if text and column.null_count() == 0:
        per_label = frame.group_by("label").agg(pl.col("value").n_unique())["value"]
        if per_label.max() == 1:
            return True
    if classes < 3 or distinct < classes or (not text and distinct > 4 * classes):
        return False
    per_value = frame.group_by("value").agg(pl.col("label").n_unique())["label"]
    return per_value.max() == 1


def _twin(column: pl.Series, first_of: dict[bytes, str]) -> str | None:
    """Return the reason to drop a column that equals an earlier one, and remember the others."""
    # A number that never moved may move in a fault not seen yet; all such columns are equal.
    if column.drop_nulls().n_unique() == 1:
        return None
    values = column if column.dtype == pl.String else column.cast(pl.Float64)
    first = first_of.setdefault(values.hash().to_numpy().tobytes(), column.name)
    return None if first == column.name else f"equal to {first!r} in every training row"


def _field(column: pl.Series, kind: Kind, is_good: pl.Series, override: FieldOverride) -> Field:
    column = _as_kind(column, kind)
    typical = column.filter(is_good).drop_nulls()
    values: dict[str, object] = {}
    if kind == "category":
        counts = column.drop_nulls().alias("value").value_counts(name="rows")
        if counts.is_empty():  # but rows of a class that is carried may have some
            raise RecipeError(
                f"no training row of a class that is fitted has a value of {column.name!r}: leave "
                f"out with --ignore {column.name!r}"
            )
        values["categories"] = tuple(sorted(counts["value"]))
        # Values seen once predict values never seen (Good and Turing's estimate).
        values["open"] = bool(counts["rows"].min() == 1)
        values["typical"] = typical.mode().sort().first()
    elif len(typical):
        values["typical"] = bool(typical.median()) if kind == "boolean" else typical.median()
    missing = column.null_count()
    if override.required and missing:
        raise RecipeError(
            f"field {column.name!r} is missing in {missing} training rows: it cannot be required"
        )
    required = missing == 0 if override.required is None else override.required
    unit = override.unit or _unit(column.name, kind)
    if kind not in ("boolean", "category"):
        values["spread"] = _spread(typical.to_numpy()) if len(typical) else None
        values["relative"] = _is_relative(column.name, unit, override)
    return Field.model_validate(
        {"name": column.name, "kind": kind, "unit": unit, "required": required, **values}
    )


def _spread(good: Numbers) -> float:
    """Return the spread of good traffic; 0 only if it never moves: its labels are known."""
    return level_of(good).spread or float(good.std())


def _is_relative(name: str, unit: str, override: FieldOverride) -> bool:
    """Return whether a number is one of its own network already: a share, a ratio to a baseline."""
    if override.relative is not None:
        return override.relative
    return unit == "%" or _RELATIVE.search(_words(name)) is not None


def _as_kind(column: pl.Series, kind: Kind) -> pl.Series:
    """Return the column as text or float64, or raise RecipeError."""
    try:
        values = column.cast(pl.String if kind == "category" else pl.Float64)
    except pl.exceptions.PolarsError as error:
        raise RecipeError(f"column {column.name!r} is not a {kind} in every row") from error
    if kind == "boolean" and not values.drop_nulls().is_in([0.0, 1.0]).all():
        raise RecipeError(f"column {column.name!r} is not a boolean in every row")
    return values


def override_of(name: str, recipe: Recipe) -> FieldOverride:
    """Return what the recipe says about a field, by its name or the first pattern it matches.

    The rate of a clock is described by what is known about the clock.
    """
    overrides = recipe.fields
    if name in overrides:
        return overrides[name]
    if name.endswith(RATE_SUFFIX):
        clock = name.removesuffix(RATE_SUFFIX)
        unit = override_of(clock, recipe).unit or _unit(clock, "gauge")
        return FieldOverride(kind="rate", unit=f"{unit}/s")
    matches = (override for p, override in overrides.items() if fnmatch.fnmatchcase(name, p))
    return next(matches, FieldOverride())


def text_columns(names: Iterable[str], recipe: Recipe) -> frozenset[str]:
    """Return the columns that the recipe takes as text, whatever their cells look like."""
    categories = (n for n in names if override_of(n, recipe).kind == "category")
    return frozenset({recipe.label, *categories})


def kept_as_text(recipe: Recipe) -> frozenset[str]:
    """Return the columns, or patterns of them, whose cells are names whatever they look like."""
    splits = [recipe.split, *(backtest.split for backtest in recipe.backtests)]
    groups = {split.column for split in splits if split.by in ("group", "column")}
    named = {*recipe.series, *recipe.sites, *recipe.event, *recipe.leave_out, *groups}
    categories = {n for n, override in recipe.fields.items() if override.kind == "category"}
    times = {recipe.time, *(split.column for split in splits if split.by == "time")}
    return frozenset(filter(None, {recipe.label, *named, *categories} - times))


def with_units(recipe: Recipe, units: Mapping[str, str]) -> Recipe:
    """Return the recipe with these units of columns, where it gives none."""
    given = {name: override_of(name, recipe) for name in units}
    found = {
        name: override.model_copy(update={"unit": override.unit or units[name]})
        for name, override in given.items()
    }
    return recipe.model_copy(update={"fields": {**recipe.fields, **found}})


def _kind(column: pl.Series) -> Kind:
    if column.dtype == pl.String or not _is_plain(column):
        return "category"
    if column.dtype == pl.Boolean:
        return "boolean"
    if column.name.endswith("_total"):  # Prometheus' way to name a counter
        return "counter"
    return "rate" if _RATE.search(_words(column.name)) else "gauge"


def _unit(name: str, kind: Kind) -> str:
    if kind in ("boolean", "category"):
        return "1"
    words = _words(name)
    for pattern, unit in _UNITS.items():
        if re.search(rf"(^|[^a-z])({pattern})($|[^a-z])", words):
            return unit + ("/s" if kind == "rate" and not unit.endswith(("/s", "%")) else "")
    return "1"
