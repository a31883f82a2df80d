"""Draw what was true and what was said of every series, over time."""

from collections.abc import Sequence

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from models.names import UNKNOWN
from training.dataset.dataset import Labels
from training.evaluation.operations import ALL, GAP, in_order
from training.evaluation.timeline import joined, parts
from training.reports.figures import colour_of, plain, png

_MOST = 60  # Series that are drawn: those with most faulty records and alarms
_PANELS = 8  # Panels that are drawn, in the same way
_LONGEST = 40  # Characters of a name that is drawn: its last ones
_GOOD, _FAULT = 0.13, 0.3  # Opacity of the bands that show what was true
_LEAST = 0.0015  # Share of the axis that a bar takes at least, to be seen
_UNITS = (("days", 86_400, 3 * 86_400), ("hours", 3_600, 3 * 3_600), ("minutes", 60, 0))


def timeline_figure(
    labels: Labels, verdicts: Labels, classes: Sequence[str], records: pl.DataFrame
) -> bytes:
    """Draw a line for each series: pale bands for what was true, solid bars for alarms.

    Takes what `measure_operations` takes; `records` has times.
    """
    frame = in_order(labels, verdicts, records, GAP)
    panels = _panels(frame, records)
    rows = [len(devices) for _, devices in panels]
    size = 9, 1.4 + 0.45 * len(rows) + 0.19 * sum(rows)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(rows), 1, squeeze=False, height_ratios=[n + 1 for n in rows])
    for place, (title, devices) in zip(axes[:, 0], panels, strict=True):
        _draw(place, title, devices, frame, len(classes))
    shown = sorted({*frame["label"].unique(), *frame["verdict"].unique()} - {0})
    names = {c: _short(classes[c]) if c < len(classes) else UNKNOWN for c in shown}
    handles = [
        Patch(
            color=colour_of(0), alpha=_GOOD, lw=0, label=f"{_short(classes[0])} (blank: no record)"
        ),
        Patch(color="#777777", alpha=_FAULT, lw=0, label="pale and wide: a fault"),
        Patch(color="#777777", lw=0, label="solid and narrow: an alarm"),
        *(Patch(color=_colour(c, len(classes)), lw=0, label=name) for c, name in names.items()),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    title, known = "Faults and alarms on the test rows", frame["series"].n_unique()
    if sum(rows) < known:
        title += f", the busiest {sum(rows)} of {known:,} series"
    figure.suptitle(f"{title} (an alarm without a fault is a false one)")
    return png(figure)


def _panels(frame: pl.DataFrame, records: pl.DataFrame) -> list[tuple[str, dict[str, str]]]:
    """Return panels of series to draw: a title, and the series with their names on the axis.

    Series that overlap in time share a panel, such as the devices of a run; what is equal in all of
    their names is in the title.
    """
    spans = frame.group_by("series").agg(
        pl.min("at"),
        pl.max("at").alias("end"),
        busy=(pl.col("fault") | pl.col("alarm")).sum(),
    )
    drawn = spans.sort("busy", "series", descending=[True, False]).head(_MOST).sort("at", "series")
    apart = pl.col("at") > pl.col("end").cum_max().shift(1)
    drawn = drawn.with_columns(panel=apart.fill_null(value=False).cum_sum())
    busiest = drawn.group_by("panel").agg(pl.sum("busy")).sort("busy", "panel", descending=True)
    drawn = drawn.filter(pl.col("panel").is_in([*busiest["panel"].head(_PANELS)]))
    names = parts(records["series"]) if "series" in records else pl.DataFrame({"series": [ALL]})
    names = names.unique().sort(pl.all())
    series, panels = joined(names, "series"), []
    for of_panel in drawn.partition_by("panel", maintain_order=True):
        here = series.is_in([*of_panel["series"]])
        shown = names.filter(here)
        same = [name for name in shown.columns[:-1] if shown[name].n_unique() == 1]
        labels = joined(shown.drop(same), "labels")
        title = ", ".join(shown[name][0] for name in same)
        panels.append((title, dict(zip(series.filter(here), labels, strict=True))))
    return panels


def _draw(
    axes: Axes, title: str, devices: dict[str, str], frame: pl.DataFrame, classes: int
) -> None:
    frame = frame.filter(pl.col("series").is_in([*devices]))
    frame = frame.with_columns(at=pl.col("at") - pl.col("at").min())
    span = float((frame["at"] + frame["stands_for"]).to_numpy().max()) or 1.0
    unit, seconds, _ = next(each for each in _UNITS if span >= each[2])
    for row, series in enumerate(devices):
        of_series = frame.filter(pl.col("series") == series)
        for column, height in (("label", 0.9), ("verdict", 0.46)):
            for value, bars in _bars(of_series, column, _LEAST * span).items():
                truth = _FAULT if value else _GOOD
                axes.broken_barh(
                    [(begin / seconds, width / seconds) for begin, width in bars],
                    (row - height / 2, height),
                    color=_colour(value, classes),
                    alpha=truth if column == "label" else float(value > 0),
                    lw=0,
                )
    names = [_short(name) for name in devices.values()]
    axes.set_yticks(range(len(devices)), names, fontsize=8)
    axes.set(ylim=(len(devices) - 0.4, -0.6), xlim=(0, span / seconds))
    axes.set_title(_short(title), loc="left", fontsize=10)
    axes.set_xlabel(unit, fontsize=8, loc="right", labelpad=0)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", alpha=0.3)


def _bars(records: pl.DataFrame, column: str, least: float) -> dict[int, list[tuple[float, float]]]:
    """Return begin and width of the stretches of one value each."""
    end = pl.col("at") + pl.col("stands_for")
    stretches = (
        records.with_columns(end=end)
        .with_columns(hole=(pl.col("at") > pl.col("end").shift(1)).fill_null(value=False))
        .group_by(pl.struct(column, pl.col("hole").cum_sum()).rle_id(), maintain_order=True)
        .agg(pl.first(column).alias("value"), pl.first("at"), pl.last("end"))
    )
    bars: dict[int, list[tuple[float, float]]] = {}
    for _, value, at, until in stretches.iter_rows():
        bars.setdefault(value, []).append((at, max(until - at, least)))
    return bars


def _colour(index: int, classes: int) -> str:
    return colour_of(index) if index < classes else "#000000"


def _short(name: str) -> str:
    return plain(name if len(name) <= _LONGEST else "..." + name[3 - _LONGEST :])
