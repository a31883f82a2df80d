"""What a model would mean to those who operate a network: false alarms, and events found in time.

An *alarm* is a verdict that is not good traffic; unknown is one. A *series* is the sequence of
records of one device in one run. An *episode* is one or more alarms of a series with no more than
`gap` seconds between two of them, or twice the usual interval of the series where that is longer.

**False alarms** are alarms on good records. They are counted as records, as a share of the good
records, and as episodes: those of good records alone, over the time in which good records were
observed. A record stands for the time to the next one of its series, at most `LONGEST` usual
intervals, and the last of a series for one. The usual interval is the median of the series.

**Events** are injected faults or outages. An event's records are the faulty ones of its name; it
begins in a series with the first of them there. It is found in a series when an episode begins with
one of its records there: an episode that ran on from before does not count, nor does one that
begins later. It is found when it is in any series. The delay is the time from its first record in
any series to the beginning of the first such episode: 0 if the first record raises the alarm. It is
named when, from then on, a record of it has the right class as verdict. No verdict is ever adjusted
for its neighbours (no *point adjustment*).

Where an event begins in a series within a gap of another one's records, the other's alarm is on
already: there it is found only by its name, when an episode of alarms of its class begins. It is
not judged there if the other is of its class too: nobody could tell them apart.

Who alarms often enough finds events without looking at them. `by_chance` says how many, on average,
if episodes came at the rate of the false ones, whatever the records hold.

Without times, episodes are alarms on neighbouring records of a series, and there are no delays and
no rates per day.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from training.dataset.dataset import Labels
from training.evaluation.timeline import joined, parts

GAP = 60.0
"""Seconds without an alarm that may lie within one episode."""
LONGEST = 3
"""Usual intervals that a record may stand for: more is a gap in the records."""
MOST = 100
"""Series with figures of their own, those with the largest share of false alarms."""
ALL = "all records"
"""Name of the one series where these are not known."""
_DAY = 86_400
_SURE = 1.959964  # Standard deviations within which a normal variable is in 95 % of cases
_COUNTS = (
    (~pl.col("fault")).sum().alias("good"),
    (pl.col("alarm") & ~pl.col("fault")).sum().alias("alarms"),
    pl.col("begins_false").sum().alias("episodes"),
    pl.col("stands_for").filter(~pl.col("fault")).sum().alias("seconds"),
)


@dataclass(frozen=True, slots=True)
class FalseAlarms:
    """Alarms on good records."""

    good: int  # number of good records
    alarms: int  # how many of them raised an alarm
    share: float | None  # alarms over good records; None without any
    episodes: int | None  # None without series and times
    device_days: float | None  # days in which good records were observed, over all series
    episodes_per_device_day: float | None


@dataclass(frozen=True, slots=True)
class Found:
    """Which of a number of events were found; times are in seconds."""

    total: int  # number of events that can be judged
    unjudged: int  # number of further ones, which follow closely on another of their class
    found: int
    share: float | None  # found over total; None without any
    # where the share of all such events lies with 95 % confidence, if these are independent
    interval: tuple[float, float]
    by_chance: float | None  # how many alarms as frequent as the false ones would find on average
    named: int  # how many were found and named right
    running: int  # how many were not found although an alarm was on, as it had begun before
    delay: tuple[float, float] | None  # median and 90th percentile from beginning to alarm
    naming_delay: tuple[float, float] | None  # the same to the first verdict with the right class


@dataclass(frozen=True, slots=True)
class Operations:
    """False alarms and events found on some records."""

    gap: float  # seconds within an episode
    false_alarms: FalseAlarms
    series: dict[str, FalseAlarms]  # by series, the largest share first, at most MOST
    records: int
    series_seen: int | None  # number of series; None if these are not known
    values: dict[str, int]  # number of values of each column that names a series
    device_days: float | None  # days in which records of any kind were observed, over all series
    events: Found | None  # None if events are not known
    event_series: Found | None  # the same by event and series
    by_class: dict[str, Found]  # the same by the class of its first record
    faults_without_event: int  # number of faulty records that belong to no event
    missing: tuple[Literal["time", "series", "event"], ...]  # what nothing is known of


def measure_operations(
    labels: Labels,
    verdicts: Labels,
    classes: Sequence[str],
    records: pl.DataFrame,
    gap: float = GAP,
) -> Operations:
    """Count false alarms and events found; the module says how.

    Takes labels and verdicts int64 [n], 0 for good traffic, the index of another class, or, as
    verdict, any other number for unknown. `records`, [n], may have `time`, `series` and `event`, as
    `timeline` returns them. Their order matters only where there are no times.
    """
    known = set(records.columns)
    frame = in_order(labels, verdicts, records, gap)
    pairs = _pairs(frame)
    false_alarms = _false_alarms(frame.select(_COUNTS).row(0, named=True), known)
    rate = false_alarms.episodes_per_device_day
    series = frame.group_by("series", maintain_order=True).agg(_COUNTS).filter(pl.col("good") > 0)
    share = pl.col("alarms") / pl.col("good")
    worst = series.sort(share, "alarms", "series", descending=[True, True, False])
    by_label = pairs.sort("label").group_by("label", maintain_order=True)
    return Operations(
        gap=gap,
        false_alarms=false_alarms,
        series={
            row["series"]: _false_alarms(row, known)
            for row in worst.head(MOST if "series" in known else 0).iter_rows(named=True)
        },
        records=len(labels),
        series_seen=frame["series"].n_unique() if "series" in known else None,
        values=_values(records),
        device_days=float(frame["stands_for"].sum()) / _DAY if "time" in known else None,
        events=_found(_by_event(pairs), rate, known) if "event" in known else None,
        event_series=_found(pairs, rate, known) if {"event", "series"} <= known else None,
        by_class={str(classes[label]): _found(rows, rate, known) for (label,), rows in by_label},
        faults_without_event=len(frame.filter("fault", pl.col("event").is_null()))
        if "event" in known
        else 0,
        missing=tuple(name for name in ("time", "series", "event") if name not in known),
    )


def interval(found: int, total: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a share (E. B. Wilson, 1927)."""
    if not total:
        return 0.0, 1.0
    share, spread = found / total, _SURE**2 / total
    middle, half = share + spread / 2, math.sqrt(spread * (share * (1 - share) + spread / 4))
    low, high = (middle - half) / (1 + spread), (middle + half) / (1 + spread)
    return (low if found else 0.0), (high if found < total else 1.0)


def in_order(labels: Labels, verdicts: Labels, records: pl.DataFrame, gap: float) -> pl.DataFrame:
    """Return the records by series and time, with where episodes begin and what they stand for.

    Without times, `at` is the place of a record in its series, and only neighbours are an episode.
    """
    at, usual = pl.col("at"), pl.col("usual")
    fault, alarm = pl.col("fault"), pl.col("alarm")
    frame = pl.DataFrame({"label": labels, "verdict": verdicts}).with_columns(
        (pl.col("label") != 0).alias("fault"),
        (pl.col("verdict") != 0).alias("alarm"),
        at=records["time"] if "time" in records else pl.lit(None, pl.Float64),
        series=joined(parts(records["series"]), "series") if "series" in records else pl.lit(ALL),
        event=records["event"] if "event" in records else pl.lit(None, pl.String),
    )
    if "time" in records:
        frame = frame.sort("series", "at", "label", "verdict", "event")
        step = (at.shift(-1) - at).over("series")
    else:
        frame = frame.sort("series", maintain_order=True)
        frame = frame.with_columns(at=pl.int_range(pl.len()).over("series").cast(pl.Float64))
        step, gap = pl.lit(None, pl.Float64), 1.0
    median = pl.col("step").filter(pl.col("step") > 0).median()
    return (
        frame.with_columns(step=step)
        .with_columns(usual=pl.coalesce(median.over("series"), median, 0.0))
        .with_columns(
            stands_for=pl.min_horizontal(pl.col("step").fill_null(usual), LONGEST * usual),
            gap=pl.max_horizontal(pl.lit(gap), 2 * usual),
        )
        .with_columns(
            begins=alarm & ~_follows(alarm, "series"),
            begins_false=alarm & ~fault & ~_follows(alarm & ~fault, "series"),
            begins_named=alarm & ~_follows(alarm, "series", "verdict"),
            close=_follows(fault, "series"),
            same=_follows(fault, "series", "label"),
        )
    )


def _follows(marked: pl.Expr, *within: str) -> pl.Expr:
    """Mark the records that follow within a gap on a marked one that is equal in `within`."""
    before = pl.when(marked).then("at").shift(1).forward_fill().over(within)
    return (pl.col("at") - before <= pl.col("gap")).fill_null(value=False)


def _false_alarms(counts: dict[str, Any], known: Collection[str]) -> FalseAlarms:
    good, alarms, episodes = counts["good"], counts["alarms"], counts["episodes"]
    days = counts["seconds"] / _DAY if "time" in known else None
    return FalseAlarms(
        good=good,
        alarms=alarms,
        share=alarms / good if good else None,
        episodes=episodes if {"series", "time"} & set(known) else None,
        device_days=days,
        episodes_per_device_day=episodes / days if days else None,
    )


def _values(records: pl.DataFrame) -> dict[str, int]:
    of = parts(records["series"]) if "series" in records else pl.DataFrame()
    return {column.name: column.n_unique() for column in of}


def _pairs(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a row for each event and series.

    `label` of its first record, `begin`, `alarm` and `named` (seconds, the last two null if it
    never was), `on` (there was an alarm), `seconds` (that its records stand for), `judged`.
    """
    at, right = pl.col("at"), pl.col("verdict") == pl.col("label")
    begins = pl.when("close").then(pl.col("begins_named") & right).otherwise("begins")
    begun = (pl.col("begins").cum_sum() > 0).over("event", "series")
    return (
        frame.filter("fault", pl.col("event").is_not_null())
        .with_columns(pl.col("close", "same").first().over("event", "series"))
        .with_columns(begins=begins)
        .with_columns(right=begun & right)
        .group_by("event", "series", maintain_order=True)
        .agg(
            pl.first("label"),
            begin=at.first(),
            alarm=at.filter("begins").first(),
            named=at.filter("right").first(),
            on=pl.col("alarm").any(),
            seconds=pl.col("stands_for").sum(),
            judged=~pl.first("same"),
        )
    )


def _by_event(pairs: pl.DataFrame) -> pl.DataFrame:
    """Return a row for each event, with what `_pairs` says of the series in which it is judged."""
    judged = [pl.col(name).filter("judged") for name in ("begin", "alarm", "named")]
    return pairs.group_by("event", maintain_order=True).agg(
        *(times.min() for times in judged),
        pl.col("on").filter("judged").any(),
        pl.col("seconds").filter("judged").sum(),
        pl.col("judged").any(),
    )


def _found(events: pl.DataFrame, rate: float | None, known: Collection[str]) -> Found:
    """Count what `_pairs` or `_by_event` returns; `rate` is of false episodes a device and day."""
    judged = events.filter("judged")
    total, found = len(judged), judged["alarm"].count()
    return Found(
        total=total,
        unjudged=len(events) - total,
        found=found,
        share=found / total if total else None,
        interval=interval(found, total),
        by_chance=None
        if rate is None
        else float(-np.expm1(-rate * judged["seconds"].to_numpy() / _DAY).sum()),
        named=judged["named"].count(),
        running=len(judged.filter("on", pl.col("alarm").is_null())),
        delay=_delay(judged["alarm"] - judged["begin"]) if "time" in known else None,
        naming_delay=_delay(judged["named"] - judged["begin"]) if "time" in known else None,
    )


def _delay(delays: pl.Series) -> tuple[float, float] | None:
    known = delays.drop_nulls().to_numpy()
    if not len(known):
        return None
    median, high = np.quantile(known, [0.5, 0.9])
    return float(median), float(high)
