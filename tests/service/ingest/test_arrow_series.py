from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pytest

from models.telemetry.points import Series, SeriesTable
from service.formats.errors import MalformedInputError
from service.ingest.arrow_series import RowSeries


class Slots:
    """Gives ids in turn."""

    def __init__(self) -> None:
        self.placed: list[Series] = []

    def place(self, series: Series) -> int:
        self.placed.append(series)
        return len(self.placed) - 1


def batch(metrics: list[str | None], ports: pa.Array) -> pa.RecordBatch:
    return pa.record_batch({"metric": pa.array(metrics, pa.string()), "port": ports})


def test_a_series_is_placed_once_however_many_rows_and_batches_it_has() -> None:
    slots, reasons = Slots(), Counter[str]()
    identify = RowSeries("metric", ["port"], SeriesTable(slots), reasons)
    rows = batch(["a", "b", "a", "a"], pa.array(["1", "1", None, "1"]))
    for _ in range(2):
        ids, named = identify(rows)
        assert ids.tolist() == [ids[0], ids[1], ids[2], ids[0]]
        assert named.all()
    assert len(slots.placed) == len(set(ids.tolist())) == 3
    assert Series("a", {}) in slots.placed
    assert not reasons


def test_rows_without_a_name_are_counted() -> None:
    reasons = Counter[str]()
    identify = RowSeries("metric", ["port"], SeriesTable(Slots()), reasons)
    _, named = identify(batch(["a", None, "", "a"], pa.array(["1"] * 4)))
    assert named.tolist() == [True, False, False, True]
    assert reasons == {"series without a name": 2}


def test_a_dictionary_that_changes_between_batches_is_read_anew() -> None:
    slots = Slots()
    identify = RowSeries("metric", ["port"], SeriesTable(slots), Counter())
    for port in ("1", "2", "1"):
        identify(batch(["a"], pa.array([port]).dictionary_encode()))
    assert [dict(series.tags) for series in slots.placed] == [{"port": "1"}, {"port": "2"}]


def test_an_index_beyond_its_dictionary_is_malformed() -> None:
    identify = RowSeries("metric", ["port"], SeriesTable(Slots()), Counter())
    wrong = pa.DictionaryArray.from_arrays(pa.array([5], pa.int8()), pa.array(["1"]), safe=False)
    with pytest.raises(MalformedInputError, match="refers to texts"):
        identify(batch(["a"], wrong))
