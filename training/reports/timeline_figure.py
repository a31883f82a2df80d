"""Draw what was true and what was said of every series, over time."""

from collections.abc import Sequence

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from models.bundle import UNKNOWN
from training.dataset.dataset import Labels
from training.evaluation.operations import GAP, in_order
from training.evaluation.timeline import joined, parts
from training.reports.figures import colour_of, png

_MOST = 60  # Series that are drawn: those with most faulty records and alarms
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
    rows = [len(devices) for devices in panels.values()]
    size = 9, 1.4 + 0.45 * len(rows) + 0.19 * sum(rows)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(rows), 1, squeeze=False, height_ratios=[n + 1 for n in rows])
    for place, (title, devices) in zip(axes[:, 0], panels.items(), strict=True):
        _draw(place, title, devices, frame, len(classes))
    shown = sorted({*frame["label"].unique(), *frame["verdict"].unique()} - {0})
    names = {c: classes[c] if c < len(classes) else UNKNOWN for c in shown}
    handles = [
        Patch(color=colour_of(0), alpha=_GOOD, lw=0, label=f"{classes[0]} (blank: no record)"),
        Patch(color="#777777", alpha=_FAULT, lw=0, label="pale and wide: a fault"),
        Patch(color="#777777", lw=0, label="solid and narrow: an alarm"),
        *(Patch(color=_colour(c, len(classes)), lw=0, label=name) for c, name in names.items()),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle("Faults and alarms on the test rows (an alarm without a fault is a false one)")
    return png(figure)


def _panels(frame: pl.DataFrame, records: pl.DataFrame) -> dict[str, dict[str, str]]:
    """Return, by panel, the series to draw, with their name on the axis.

    A panel holds the series that are equal in all columns but the last: the devices of a run.
    """
    if "series" not in records:
        return {"": {"": "all records"}}
    busy = frame.group_by("series").agg(busy=(pl.col("fault") | pl.col("alarm")).sum())
    drawn = {*busy.sort("busy", "series", descending=[True, False])["series"].head(_MOST)}
    columns = parts(records["series"]).unique().sort(pl.all())
    panels: dict[str, dict[str, str]] = {}
    for series, values in zip(joined(columns, "series"), columns.iter_rows(), strict=True):
        if series in drawn:
            panels.setdefault(", ".join(values[:-1]), {})[series] = values[-1]
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
    axes.set_yticks(range(len(devices)), devices.values(), fontsize=8)
    axes.set(ylim=(len(devices) - 0.4, -0.6), xlim=(0, span / seconds))
    axes.set_title(title, loc="left", fontsize=10)
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
