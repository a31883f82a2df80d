"""Take a bounded number of rows of a table: by class, by series or event, evenly in time.

A Parquet file is read in batches, twice: first the columns that rows are chosen by, then the
chosen rows. So 10 million rows need no more memory than the index of them, 18 bytes a row, and the
rows that are taken.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import polars.selectors as cs
import pyarrow.parquet as pq

from models.names import folded
from training.dataset.labels import trimmed
from training.dataset.times import seconds_of
from training.recipe import Recipe

CELLS = 12_500_000
"""Cells of the largest table that is taken whole unless a number of rows is asked for: training
takes less than 4 GiB with so many, three processes that fit at the same time included."""
_BATCH = 65_536
_BUFFER = 1 << 20  # Bytes of a column that are read at a time; without, a row group's all at once
_EVENLY = 0.5
"""Share of the rows that all classes get alike, as far as they have as many. The rest goes by
proportion."""

Numbers = npt.NDArray[np.int64]
Frames = Callable[[Sequence[str]], Iterator[pl.DataFrame]]
"""Gives some columns of a table in batches, as often as it is asked."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How many rows to take, and what they are chosen by; columns may be missing in the table."""

    rows: int | None  # None: as many as have `CELLS` cells
    label: str
    left_out: tuple[str, ...]  # labels of rows that nothing is learned from
    groups: tuple[str, ...]  # columns whose values together name a group
    time: str | None
    seed: int

    @classmethod
    def of(cls, recipe: Recipe) -> "Plan":
        """Return the plan of a recipe; what names series, events and parts names groups."""
        splits = [recipe.split, *(backtest.split for backtest in recipe.backtests)]
        by_time = [split.column for split in splits if split.by == "time"]
        time = next(filter(None, (recipe.time, *by_time)), None)
        parts = [split.column for split in splits if split.by in ("column", "group")]
        within = [split.within for split in splits]
        groups = dict.fromkeys(filter(None, (*recipe.context, *parts, *within)))
        return cls(
            recipe.rows,
            recipe.label,
            recipe.drop_labels,
            tuple(name for name in groups if name != time),
            time,
            recipe.fit.seed,
        )

    def most(self, columns: int) -> int:
        """Return the most rows to take of a table with so many columns."""
        return self.rows or CELLS // max(columns, 1)


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Which rows of a table were taken."""

    rows: Numbers  # int64 [n], their numbers, ascending
    of: int  # rows of the table
    classes: Mapping[str, tuple[int, int]]  # by label, the rows taken and those of the table

    def note(self, path: Path) -> str:
        """Return what was taken as a sentence."""
        return (
            f"{len(self.rows):,} of {self.of:,} rows of {path.name} were taken (--rows), of every "
            "class, series and event, evenly in time, and of rare classes more: accuracy, "
            "precision, episodes and delays are those of the rows taken"
        )

    def weight(self, label: str) -> float:
        """Return how many rows of the table each row of a class stands for."""
        # Spellings that were merged are one class.
        found = [counts for name, counts in self.classes.items() if folded(name) == folded(label)]
        taken, of = (sum(counts) for counts in zip(*found, strict=True)) if found else (0, 0)
        return of / taken if taken else 1.0


def sample_parquet(path: Path, plan: Plan) -> tuple[pl.DataFrame, Sample] | None:
    """Return the rows of a Parquet file that a plan takes, or None if it takes all of them."""
    with pq.ParquetFile(path, buffer_size=_BUFFER) as file:
        names, count = file.schema_arrow.names, file.metadata.num_rows
        if count <= plan.most(len(names)):
            return None

        def frames(columns: Sequence[str]) -> Iterator[pl.DataFrame]:
            for batch in file.iter_batches(_BATCH, columns=columns, use_threads=False):
                frame = pl.DataFrame(pl.from_arrow(batch)).select(columns)
                # Codes of a dictionary mean something else in each batch.
                yield frame.with_columns((cs.categorical() | cs.enum()).cast(pl.String))

        sample = choose(frames, names, count, plan)
        pieces, begin = [], 0
        for frame in frames(names):
            first, last = np.searchsorted(sample.rows, (begin, begin + len(frame)))
            pieces.append(frame[sample.rows[first:last] - begin])
            begin += len(frame)
    return pl.concat(pieces, rechunk=True), sample


def sample_frame(table: pl.DataFrame, plan: Plan) -> tuple[pl.DataFrame, Sample] | None:
    """Return the rows that a plan takes of a table in memory, or None if it takes all of them."""
    if plan.rows is None or len(table) <= plan.rows:
        return None
    sample = choose(lambda names: iter([table.select(names)]), table.columns, len(table), plan)
    return table[sample.rows], sample


def choose(frames: Frames, names: Sequence[str], count: int, plan: Plan) -> Sample:
    """Choose rows.

    Half of them are shared out to the classes alike, where a class gives no more than it has, and
    the rest by their size; within a class each group gets a row and the rest by its size; within a
    group rows lie evenly in time, or in their order without times. The same rows in the same order
    give the same choice, in whatever batches they come.

    Args:
        frames: gives columns of the table in batches.
        names: of all columns.
        count: of rows, more than are to be taken.
        plan: what to take.
    """
    labels, classes, groups, times = _index(frames, names, count, plan)
    random = np.random.default_rng(plan.seed)
    sizes = np.bincount(classes[classes >= 0], minlength=len(labels))
    # A label to leave out has to be known by a row.
    kept = np.array([label not in plan.left_out for label in labels], dtype=np.bool_)
    quotas = np.where(kept, 0, np.minimum(sizes, 1))
    rows = min(plan.most(len(names)), int(sizes[kept].sum()))
    least = np.minimum(sizes[kept], int(_EVENLY * rows / max(kept.sum(), 1)))
    quotas[kept] = _shared_out(sizes[kept], least, rows, random)
    taken = [
        _spread(np.flatnonzero(classes == c), groups, times, int(quota), random)
        for c, quota in enumerate(quotas)
    ]
    by_class = {label: (int(quotas[c]), int(sizes[c])) for c, label in enumerate(labels) if kept[c]}
    none = np.empty(0, dtype=np.int64)  # where no row has a label
    return Sample(np.sort(np.concatenate([none, *taken])), count, by_class)


def _index(
    frames: Frames, names: Sequence[str], count: int, plan: Plan
) -> tuple[list[str], npt.NDArray[np.int32], npt.NDArray[np.uint64], npt.NDArray[np.float64]]:
    """Return the labels, and for every row its label (-1: none), group and time in seconds."""
    known: dict[str, int] = {} if plan.label in names else {"": 0}
    classes = np.zeros(count, dtype=np.int32)
    groups, times = np.zeros(count, dtype=np.uint64), np.zeros(count)
    by = [name for name in plan.groups if name in names]
    wanted = dict.fromkeys((*by, plan.label, *filter(None, [plan.time])))
    used = [name for name in wanted if name in names]
    begin = 0
    for frame in frames(used) if used else ():
        rows = slice(begin, begin + len(frame))
        begin += len(frame)
        if plan.label in frame.columns:
            labels = trimmed(frame[plan.label])
            for label in labels.drop_nulls().unique(maintain_order=True):
                known.setdefault(label, len(known))
            numbers = labels.replace_strict(known, default=-1, return_dtype=pl.Int32)
            classes[rows] = numbers.fill_null(-1).to_numpy()
        if by:
            groups[rows] = frame.select(by).hash_rows(seed=0).to_numpy()
        if plan.time in frame.columns:
            at = seconds_of(frame[str(plan.time)]).fill_null(float("nan"))
            times[rows] = at.to_numpy()
    return [*known], classes, groups, times


def _shared_out(sizes: Numbers, least: Numbers, total: int, random: np.random.Generator) -> Numbers:
    """Share a total out: to each the least, and the rest by what each then has left."""
    left = sizes - least
    exact = least + left * ((total - least.sum()) / max(left.sum(), 1))
    shares = np.minimum(np.floor(exact), sizes).astype(np.int64)
    # The largest remainders are rounded up; of equal ones, some at random.
    order = np.lexsort((random.random(len(sizes)), shares - exact))
    shares[order[: max(total - int(shares.sum()), 0)]] += 1
    rounded: Numbers = np.minimum(shares, sizes)
    return rounded


def _spread(
    rows: Numbers,
    groups: npt.NDArray[np.uint64],
    times: npt.NDArray[np.float64],
    quota: int,
    random: np.random.Generator,
) -> Numbers:
    """Take rows of every group, evenly in the order of time."""
    if quota >= len(rows):
        return rows
    rows = rows[np.lexsort((times[rows], groups[rows]))]
    starts = np.flatnonzero(np.diff(groups[rows], prepend=~groups[rows[:1]]))
    sizes = np.diff(starts, append=len(rows))
    least = np.full(len(sizes), int(len(sizes) <= quota))
    shares = _shared_out(sizes, least, quota, random)
    place = np.arange(shares.sum()) - np.repeat(np.cumsum(shares) - shares, shares)
    offset = np.repeat(random.random(len(shares)), shares)
    step = np.repeat(sizes / np.maximum(shares, 1), shares)
    within = np.floor((place + offset) * step).astype(np.int64)
    taken: Numbers = rows[np.repeat(starts, shares) + within]
    return taken
