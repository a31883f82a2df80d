"""Ids of series."""

from __future__ import annotations

import numpy as np

from models.telemetry.points import UNMAPPED, Series, SeriesTable


class Counting:
    """Gives ids in turn to series called `known`, and none to others."""

    def __init__(self) -> None:
        self.placed: list[Series] = []

    def place(self, series: Series) -> int:
        self.placed.append(series)
        return len(self.placed) - 1 if series.name == "known" else UNMAPPED


def test_a_series_is_placed_once_and_then_looked_up() -> None:
    table = SeriesTable(Counting())
    assert table.add(b"a", Series("known", {"port": "1"})) == 0
    assert table.ids == {b"a": 0}


def test_tokens_of_foreign_series_do_not_grow_without_bound() -> None:
    table = SeriesTable(Counting(), max_foreign=10)
    table.add(b"ours", Series("known", {}))
    for number in range(1000):
        assert table.add(number, Series("other", {})) == UNMAPPED
    assert len(table.ids) <= 11
    assert table.ids[b"ours"] == 0


def test_the_text_of_a_state_is_asked_for_once() -> None:
    asked: list[tuple[str, str]] = []

    def state_of(metric: str, text: str) -> float:
        asked.append((metric, text))
        return {"up": 1.0}.get(text, float("nan"))

    table = SeriesTable(Counting(), state_of)
    assert [table.state("port", text) for text in ("up", "up")] == [1.0, 1.0]
    assert np.isnan([table.state("port", text) for text in ("down", "down")]).all()
    assert asked == [("port", "up"), ("port", "down")]
    assert np.isnan(SeriesTable(Counting()).state("port", "up"))
