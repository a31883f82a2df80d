"""What a consumer is told, what it owns, and what it has done."""

from __future__ import annotations

import threading
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
    """

    topics: Topics
    group: str
    receiver: str = "telegraf"
    idle: float = 30.0
    checkpoint: float = 30.0


@dataclass(slots=True)
class Totals:
    """What a process has done.

    Attributes:
        messages: that were read.
        points: of them.
        refused: messages that could not be decoded.
        records: that were judged.
        changes: of incidents.
    """

    messages: int = 0
    points: int = 0
    refused: int = 0
    records: int = 0
    changes: int = 0


@dataclass(slots=True)
class Owned:
    """A partition of points that this process owns.

    Attributes:
        partition: its state.
        next: offset of the next message.
        seen: monotonic time of its latest message.
        is_at_end: whether all messages were read.
        is_silent: whether its records were completed because no message came.
        told: the watermark that was told last.
    """

    partition: Partition
    next: int
    seen: float
    is_at_end: bool = False
    is_silent: bool = False
    told: float = float("-inf")


@dataclass(slots=True)
class Judging:
    """The partition of judged records, if this process owns it."""

    merger: Merger
    next: int
    stop: threading.Event = field(default_factory=threading.Event)
