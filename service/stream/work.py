"""What a consumer is told, what it owns, and what it has done."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from service.stream.log import Topics
from service.stream.merging import Merger
from service.stream.partition import Partition

__all__ = ["Judging", "Options", "Owned", "Totals"]


@dataclass(frozen=True, slots=True)
class Options:
    """How a consumer works.

    Attributes:
        topics: that it reads and writes.
        group: of the processes that share the partitions; it names their checkpoints.
        receiver: format of messages that have no header.
        idle: seconds without a message after which a partition is silent.
        checkpoint: seconds between two checkpoints.
        metrics: address, HOST:PORT, where they are exposed; None for nowhere.
    """

    topics: Topics
    group: str
    receiver: str = "telegraf"
    idle: float = 30.0
    checkpoint: float = 30.0
    metrics: str | None = None


@dataclass(slots=True)
class Totals:
    """What a process has done.

    Attributes:
        messages: that were read.
        points: of them.
        refused: messages that could not be decoded.
        records: that were judged.
        changes: of incidents.
        verdicts: on the records, by label.
    """

    messages: int = 0
    points: int = 0
    refused: int = 0
    records: int = 0
    changes: int = 0
    verdicts: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Owned:
    """A partition of points that this process owns.

    Attributes:
        partition: its state.
        next: offset of the next message.
        seen: monotonic time of its latest message.
        is_at_end: whether all messages were read.
        told: the watermark that was told last.
        waiting: messages that were not read yet; None before the log has told.
        kept: monotonic time of its latest checkpoint, or when it was taken up.
    """

    partition: Partition
    next: int
    seen: float
    is_at_end: bool = False
    told: float = float("-inf")
    waiting: int | None = None
    kept: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class Judging:
    """The partition of judged records, if this process owns it.

    Attributes:
        source: topic and number of the partition.
        merger: its state.
        next: as of `Owned`.
        stop: set when it is given back.
        waiting: as of `Owned`.
        kept: as of `Owned`.
    """

    source: str
    merger: Merger
    next: int
    stop: threading.Event = field(default_factory=threading.Event)
    waiting: int | None = None
    kept: float = field(default_factory=time.monotonic)
