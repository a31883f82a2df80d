"""Samples of Prometheus' remote write: a value and a time in milliseconds, as protobuf.

Nearly all samples have one of two shapes. Those are only cut out of the body, and decoded all at
once at the end.
"""

from __future__ import annotations

import struct
from collections import Counter
from typing import Final

import numpy as np

from models.telemetry.points import Points
from service.ingest.decoded import BAD_TIME, Decoded
from service.ingest.wire import MAX_PARTS, fields, signed, too_many, varint

__all__ = ["HEAD", "SIZE", "ZERO", "ZERO_HEAD", "ZERO_SIZE", "Samples"]

SIZE: Final = 18
HEAD: Final = b"\x12\x10\x09"
"""How a sample begins whose value is not 0 and whose time takes six bytes: 1971 to 2109."""
ZERO_SIZE: Final = 9
ZERO_HEAD: Final = b"\x12\x07\x10"
"""The same with the value 0, which protobuf leaves out ..."""
ZERO: Final = b"\x12\x10\x09" + bytes(8) + b"\x10"
"""... and what makes one of the first shape of it, in the place of its head."""
_ODD: Final = ZERO + b"\x80\x80\x80\x80\x80\x00"
_NANOSECONDS = 1_000_000
_DIGITS = np.left_shift(1, 7 * np.arange(6), dtype=np.int64)


class Samples:
    """Samples on their way into columns.

    Attributes:
        series: id of each sample's series.
        cuts: the bytes of all samples, of the first shape, in any pieces.
        reasons: why others could not be used, with how many of them.
    """

    def __init__(self) -> None:
        self.series: list[int] = []
        self.cuts: list[bytes] = []
        self.reasons: Counter[str] = Counter()
        self._odd: dict[int, tuple[float, int]] = {}

    def reject(self, reason: str, samples: int = 1) -> None:
        """Count samples that cannot be used."""
        if samples:
            self.reasons[reason] += samples

    def add(self, series: int, data: bytes, start: int, end: int) -> None:
        """Add a sample of any shape, which lies between two places.

        Raises:
            MalformedInputError: it is no sample, or one too many.
        """
        if len(self._odd) >= MAX_PARTS:
            raise too_many()
        value, time = _parsed(data, start, end)
        self._odd[len(self.series)] = value, time
        self.series.append(series)
        self.cuts.append(_ODD)

    def decoded(self) -> Decoded:
        """Return the points, without those whose time is no int64 of nanoseconds."""
        data = b"".join(self.cuts)
        cuts = np.frombuffer(data, np.uint8).reshape(-1, SIZE)
        values = cuts[:, 3:11].copy().view("<f8").reshape(-1)
        digits = cuts[:, 12:]
        times = (digits & 0x7F).astype(np.int64) @ _DIGITS
        shaped = (cuts[:, 11] == 0x10) & (digits[:, :5] >= 0x80).all(1) & (digits[:, 5] < 0x80)
        for row in np.flatnonzero(~shaped).tolist():
            self._odd[row] = _parsed(data, row * SIZE + 2, (row + 1) * SIZE)
        kept = np.ones(len(cuts), np.bool_)
        for row, (value, time) in self._odd.items():
            kept[row] = abs(time * _NANOSECONDS) < 1 << 63
            values[row], times[row] = value, time if kept[row] else 0
        times *= _NANOSECONDS
        points = Points(np.array(self.series, np.int32), times, values)
        if not kept.all():
            self.reasons[BAD_TIME] += int((~kept).sum())
            points = Points(points.series[kept], times[kept], values[kept])
        return Decoded(points, self.reasons)


def _parsed(data: bytes, start: int, end: int) -> tuple[float, int]:
    value, time = 0.0, 0
    for tag, at, stop in fields(data, start, end):
        if tag == 0x09:
            (value,) = struct.unpack_from("<d", data, at)
        elif tag == 0x10:
            time = signed(varint(data, at, stop)[0])
    return value, time
