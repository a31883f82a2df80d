from __future__ import annotations

import io
from typing import Any

import matplotlib.image
import numpy as np
import polars as pl
import pytest

from training.evaluation.operations import in_order
from training.evaluation.timeline import timeline
from training.reports.timeline_figure import _bars, _panels, timeline_figure

CLASSES = ("good", "slow", "lossy")
COLOURS = {"slow": (0xD6, 0x27, 0x28), "lossy": (0xFF, 0x7F, 0x0E), "unknown": (0, 0, 0)}


def records(devices: int = 2, count: int = 20, step: float = 10) -> pl.DataFrame:
    table = pl.DataFrame(
        {
            "run": ["a" if device % 2 else "b" for device in range(devices) for _ in range(count)],
            "device": [f"r{device:02}" for device in range(devices) for _ in range(count)],
            "at": [step * place for _ in range(devices) for place in range(count)],
        }
    )
    return timeline(table, "at", ["run", "device"])


def drawn(labels: Any, verdicts: Any, frame: pl.DataFrame) -> np.ndarray[Any, np.dtype[np.uint8]]:
    png = timeline_figure(np.array(labels), np.array(verdicts), CLASSES, frame)
    image = matplotlib.image.imread(io.BytesIO(png))[..., :3]
    return np.round(image * 255).astype(np.uint8)


def shown(image: np.ndarray[Any, np.dtype[np.uint8]], name: str) -> int:
    """How many pixels above the legend have the solid colour of a class."""
    return int((image[:-110] == COLOURS[name]).all(axis=-1).sum())


def test_alarms_are_solid_and_faults_alone_are_pale() -> None:
    labels, quiet = [0] * 10 + [1] * 5 + [0] * 25, [0] * 40
    missed = drawn(labels, quiet, records())
    found = drawn(labels, labels, records())
    false = drawn(quiet, [0] * 30 + [2] * 5 + [0] * 5, records())
    assert shown(missed, "slow") == shown(missed, "lossy") == 0
    assert shown(found, "slow") > 500
    assert shown(false, "lossy") > 500
    assert shown(false, "slow") == 0
    assert not np.array_equal(missed, drawn(quiet, quiet, records()))


def test_one_alarm_among_thousands_of_records_is_still_seen() -> None:
    labels = [0] * 40_000
    verdicts = labels.copy()
    verdicts[777] = 1
    assert shown(drawn(labels, verdicts, records(1, 40_000)), "slow") >= 5


def test_series_that_overlap_in_time_share_a_panel() -> None:
    frame = records(4)
    later = pl.col("time") + 1000 * (pl.col("series").struct.field("run") == "b")
    labels = np.zeros(80, dtype=np.int64)

    def panels(frame: pl.DataFrame) -> list[tuple[str, dict[str, str]]]:
        return _panels(in_order(labels, labels, frame, 60), frame)

    assert panels(frame.with_columns(later)) == [
        ("a", {"a / r01": "r01", "a / r03": "r03"}),
        ("b", {"b / r00": "r00", "b / r02": "r02"}),
    ]
    together = ["a / r01", "a / r03", "b / r00", "b / r02"]
    assert panels(frame) == [("", dict(zip(together, together, strict=True)))]
    assert panels(frame.drop("series")) == [("", {"all records": "all records"})]


def test_of_very_many_series_the_busiest_are_drawn() -> None:
    frame, labels = records(100, 3), np.zeros(300, dtype=np.int64)
    labels[-3:] = 1
    [(_, devices)] = _panels(in_order(labels, labels, frame, 60), frame)
    assert len(devices) == 60
    assert "a / r99" in devices


def test_of_very_many_runs_the_busiest_are_drawn() -> None:
    frame, labels = records(20, 3), np.zeros(60, dtype=np.int64)
    labels[-3:] = 1
    place = pl.int_range(pl.len()) // 3
    frame = frame.with_columns(pl.col("time") + 1000 * place)
    panels = _panels(in_order(labels, labels, frame, 60), frame)
    assert len(panels) == 8
    assert panels[-1] == ("a", {"a / r19": "r19"})
    assert timeline_figure(labels, labels, CLASSES, frame)


def test_a_hole_in_the_records_ends_a_bar() -> None:
    times = pl.DataFrame({"time": [0.0, 10, 20, 100, 110]})
    labels = np.array([1, 1, 1, 1, 1])
    bars = _bars(in_order(labels, labels, times, 60), "label", least=1)
    assert bars == {1: [(0, 50), (100, 20)]}


@pytest.mark.parametrize("step", [1e-3, 1.0, 3600.0])
def test_any_span_of_time_can_be_drawn(step: float) -> None:
    assert drawn([0] * 20, [0] * 19 + [3], records(1, step=step)).size
    assert drawn([1], [0], records(1, 1)).size
    assert drawn([0] * 20, [0] * 20, records(1, step=step).drop("series")).size


def test_names_with_any_characters_can_be_drawn() -> None:
    names = ["a$b{$c", "$", "y_2^$x$", "long " * 60]
    table = pl.DataFrame({"at": range(4), "run": names[::-1], "device": names})
    frame = timeline(table, "at", ["run", "device"])
    labels = np.arange(4)
    assert timeline_figure(labels, labels, names, frame)
