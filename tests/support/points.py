"""Points as rows that read well, and a table that remembers every series."""

from __future__ import annotations

import math
from pathlib import Path

from models.telemetry.points import Series, SeriesTable
from service.ingest.decoded import Decoded, Decoder

__all__ = ["NOW", "Receiving", "recorded"]

NOW = 1_795_000_000_000_000_000
_BODIES = Path(__file__).parents[1] / "service/ingest/bodies"


def recorded(name: str) -> bytes:
    """Return a body that a real client sent."""
    return (_BODIES / name).read_bytes()


class Receiving:
    """A decoder with a table of its own, which gives ids in turn.

    Attributes:
        placed: all series, by their id.
    """

    def __init__(self, decode: Decoder) -> None:
        self._decode = decode
        self.placed: list[Series] = []
        self.table = SeriesTable(self, self._state_of)

    def _state_of(self, metric: str, text: str) -> float:
        return (
            {"up": 1.0, 'not "here"': 2.0}.get(text, math.nan) if "-state" in metric else math.nan
        )

    def place(self, series: Series) -> int:
        """Return the next id."""
        self.placed.append(series)
        return len(self.placed) - 1

    def decode(self, body: bytes) -> Decoded:
        """Decode a body that comes at `NOW`."""
        return self._decode(body, self.table, NOW)

    def rows(self, body: bytes) -> list[tuple[str, dict[str, str], int, float]]:
        """Return the name, tags, time and value of each point of a body."""
        points = self.decode(body).points
        columns = (points.series.tolist(), points.times.tolist(), points.values.tolist())
        return [
            (self.placed[number].name, dict(self.placed[number].tags), time, value)
            for number, time, value in zip(*columns, strict=True)
        ]
