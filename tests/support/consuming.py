"""A broker for tests, partitions that are fed by hand, and incidents in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.stream.broker import Broker, BrokerError
from benchmarks.stream.points import Sent
from service.ingest.receivers import RECEIVERS
from service.observability.counters import Counters
from service.runtime.incidents import Incidents
from service.settings import Settings
from service.stream.partition import Output, Partition
from service.stream.rules import Rules

__all__ = ["broker_running", "bytes_of", "incidents_of", "take"]


@contextmanager
def broker_running(folder: Path) -> Iterator[Broker]:
    """A broker that runs meanwhile; the test is skipped where none is installed."""
    try:
        broker = Broker(folder)
    except BrokerError as error:
        pytest.skip(str(error))
    with broker:
        yield broker


def take(partition: Partition, message: Sent, offset: int) -> Output:
    """Give a partition a message, with the time of its points as its stamp."""
    return partition.take(RECEIVERS["telegraf"], message.value, offset, message.time)


def bytes_of(output: Output) -> tuple[list[object], list[bytes]]:
    """All that an output says, to be compared."""
    return [*output.verdicts], [batch.to_bytes() for batch in output.batches]


def incidents_of(settings: Settings, rules: Rules) -> Incidents:
    """Incidents in memory, with the roles of the rules."""
    incidents = Incidents(settings, Counters())
    incidents.serve(rules.enrolment)
    return incidents
