"""What became of metric points since the process began, as `/ingest/status` tells it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from models.telemetry.assembler import Assembler

__all__ = ["MAX_LISTED", "Latest", "ReceiverCounts", "status_document"]

MAX_LISTED: Final = 1000
"""Keys of a status."""


@dataclass(slots=True)
class ReceiverCounts:
    """Of one wire format, since the start.

    Attributes:
        bodies: that were taken.
        points: in them.
        rejected: samples that could not be used, by reason.
        refused: bodies that were refused, by reason.
    """

    bodies: int = 0
    points: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)

    def document(self) -> dict[str, Any]:
        """Return the counts in builtin types."""
        return {
            "bodies": self.bodies,
            "points": self.points,
            "rejected": dict(self.rejected),
            "refused": dict(self.refused),
        }


@dataclass(frozen=True, slots=True)
class Latest:
    """The latest record of a key.

    Attributes:
        time: of the record, seconds since the Unix epoch.
        label: its verdict.
    """

    time: float
    label: str


def status_document(
    counts: Mapping[str, ReceiverCounts],
    assembler: Assembler | None,
    last: Mapping[str, Latest],
    queued: int,
) -> dict[str, Any]:
    """Return the status in builtin types.

    Args:
        counts: by name of the receiver.
        assembler: None until there is one.
        last: the latest record of each key.
        queued: points that wait.
    """
    known = [*dict(last).items()]
    latest = sorted(known, key=lambda item: -item[1].time)[:MAX_LISTED]
    return {
        "mapping": None if assembler is None else assembler.mapping.name,
        "queued": queued,
        "receivers": {
            name: each.document() for name, each in counts.items() if each.bodies or each.refused
        },
        "points": {} if assembler is None else asdict(assembler.counts),
        "keys": 0 if assembler is None else len(assembler.keys),
        "latest": [{"key": key} | asdict(one) for key, one in latest],
        "findings": [] if assembler is None else assembler.findings(),
    }
