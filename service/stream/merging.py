"""Judged records of all partitions become incidents, in an order that no race can change.

Each partition says up to which time it is complete. What is before that time in all of them is
sorted by its stamps and goes to the engine: so who read which partition, and when, changes nothing.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Collection

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.schema import Matrix, Value
from service.formats.arrow_writer import to_stream
from service.incidents.incident import Change, Judged
from service.incidents.storage import Checkpoint
from service.runtime.incidents import Incidents
from service.runtime.judging import evidence_of, record_of
from service.stream.judged import ROWS, Batch, Place
from service.stream.rules import Rules

__all__ = ["Merger"]

_ORDER = [("stamp", "ascending"), ("time", "ascending"), ("key", "ascending")]


class _State(msgspec.Struct):
    watermarks: dict[str, float]
    places: dict[str, Place]
    rows: bytes


class Merger:
    """Holds judged records until no earlier one can come.

    Args:
        incidents: that they become.
        rules: to follow.
        sources: all partitions; it waits for each of them.

    Attributes:
        incidents: as given.
    """

    def __init__(self, incidents: Incidents, rules: Rules, sources: Collection[str]) -> None:
        self.incidents, self._rules, self._sources = incidents, rules, sources
        self._watermarks: dict[str, float] = {}
        self._places: dict[str, Place] = {}
        self._held: list[pa.Table] = []
        self._released = -math.inf

    def take(self, batch: Batch) -> None:
        """Hold the records of a batch, unless they came before."""
        source, place = batch.source, batch.place
        if place is not None:
            if place <= self._places.get(source, (-1, 0, 0)):
                return
            self._places[source] = place
            # Not every checkpoint has what a silent partition told: its next owner may fall behind.
            stamps = pc.max_element_wise(batch.rows["stamp"], self._watermark(source))
            self._held.append(batch.rows.set_column(0, ROWS.field("stamp"), stamps))
        self._watermarks[source] = max(batch.watermark, self._watermark(source))

    def release(self) -> list[Change]:
        """Return what the records change that no earlier one can come before.

        Without such records, too, what somebody has closed in another process comes with it.
        """
        return self.incidents.observe(self._judged(self._due()))

    def checkpoint(self, name: str, position: int) -> bool:
        """Keep the state and that of the incidents; return whether it is kept."""
        state = _State(self._watermarks, self._places, to_stream(self._table()))
        return self.incidents.checkpoint(Checkpoint(name, position, msgspec.msgpack.encode(state)))

    def resume(self, name: str) -> int | None:
        """Take up the state of a checkpoint; return its position, None if there is none.

        Raises:
            AwayError: the database is away.
        """
        # Two processes may own the partition for a moment, and must not both tell.
        found = self.incidents.resume(name, f"{name} {secrets.token_hex(4)}")
        if found is None:
            return None
        state = msgspec.msgpack.decode(found.document, type=_State)
        self._watermarks, self._places = state.watermarks, state.places
        with pa.ipc.open_stream(state.rows) as reader:
            self._held = [reader.read_all()]
        return found.position

    def _due(self) -> pa.Table:
        """Return the rows that no earlier one can come before, in their order."""
        horizon = min(map(self._watermark, self._sources))
        if horizon <= self._released:
            return ROWS.empty_table()
        self._released = horizon
        held = self._table()
        due = pc.less(held["stamp"], horizon)
        self._held = [held.filter(pc.invert(due))]
        return held.filter(due).sort_by(_ORDER)

    def _watermark(self, source: str) -> float:
        return self._watermarks.get(source, -math.inf)

    def _table(self) -> pa.Table:
        return pa.concat_tables([ROWS.empty_table(), *self._held])

    def _judged(self, rows: pa.Table) -> Judged:
        served = self._rules.served
        schema, dimensions = served.model.schema, served.model.manifest.dimensions
        records = [_numbers(data, len(schema.fields)) for data in rows["record"].to_pylist()]
        embeddings = np.zeros((len(rows), dimensions), np.float32)
        for row, data in enumerate(rows["embedding"].to_pylist()):
            if (point := _numbers(data, dimensions)) is not None:
                embeddings[row] = point

        def evidence(row: int) -> list[dict[str, object]]:
            numbers = records[row]
            return [] if numbers is None else evidence_of(served, numbers[None])

        def record(row: int) -> dict[str, Value]:
            numbers = records[row]
            return {} if numbers is None else record_of(schema, numbers)

        return Judged(
            rows["time"].to_numpy(),
            rows["key"].to_pylist(),
            rows["label"].to_pylist(),
            embeddings,
            None,
            evidence,
            record,
        )


def _numbers(data: bytes | None, size: int) -> Matrix | None:
    """Return numbers of a bad record; None of a good one, or of a bundle of other fields."""
    if data is None or len(data) != 4 * size:
        return None
    return np.frombuffer(data, np.float32)
