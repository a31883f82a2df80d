"""A broker for tests, consumers in threads, partitions fed by hand, and incidents in memory."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

import pytest
from confluent_kafka import Producer

from benchmarks.stream.broker import Broker, BrokerError
from benchmarks.stream.points import Sent, make_topic
from benchmarks.stream.trial import read
from service.classes.database import Store
from service.ingest.receivers import RECEIVERS
from service.observability.counters import Counters
from service.runtime.incidents import Incidents, roles_of
from service.settings import Settings
from service.stream.consumer import StreamConsumer
from service.stream.log import Log, Topics
from service.stream.partition import Output, Partition
from service.stream.rules import Rules
from service.stream.work import Options

__all__ = ["Stream", "broker_running", "bytes_of", "incidents_of", "take"]

_names = count()


class Stream:
    """A topic of two partitions, and consumers of it that share a database."""

    def __init__(self, brokers: str, settings: Settings, rules: Rules, folder: Path) -> None:
        self.brokers, self.settings, self.rules = brokers, settings, rules
        self.name = f"stream{next(_names)}"
        self.points, self.topics = (
            f"{self.name}.points",
            Topics((f"{self.name}.points",), self.name),
        )
        self.url = f"sqlite:///{folder / self.name}.sqlite"
        make_topic(brokers, self.points, 2)
        self.producer = Producer({"bootstrap.servers": brokers})

    def send(self, messages: Sequence[Sent]) -> None:
        for each in messages:
            self.put(each.value, each.device, each.time)
        self.producer.flush()

    def put(
        self,
        value: bytes,
        device: str,
        at: float,
        headers: dict[str, str | bytes | None] | None = None,
    ) -> None:
        partition = 0 if device == "leaf1" else 1
        self.producer.produce(
            *(self.points, value, device.encode(), partition),
            timestamp=round(at * 1000),
            headers=headers,
        )

    @contextmanager
    def consumer(self, idle: float = 1.0) -> Iterator[StreamConsumer]:
        """A consumer that works meanwhile; it must end without an error."""
        stop, failed = threading.Event(), []
        log = Log(
            {
                "bootstrap.servers": self.brokers,
                "session.timeout.ms": "6000",
                "heartbeat.interval.ms": "500",
                "topic.metadata.refresh.interval.ms": "1000",
            },
            self.name,
            stop,
        )
        with closing(Store(self.url)) as store:
            store.prepare()
            options = Options(self.topics, self.name, idle=idle, checkpoint=0.5)
            consumer = StreamConsumer(log, store, self.rules, self.settings, options, stop)

            def run() -> None:
                try:
                    consumer.run()
                except BaseException as error:
                    failed.append(error)

            thread = threading.Thread(target=run)
            thread.start()
            try:
                yield consumer
            finally:
                stop.set()
                thread.join(60)
        if failed:
            raise failed[0]

    def verdicts(self) -> dict[str, list[bytes]]:
        found: dict[str, list[bytes]] = {}
        for key, value in read(self.brokers, self.topics.verdicts):
            found.setdefault(key, []).append(value)
        return found

    def incidents(self) -> list[tuple[str, str]]:
        """Ids of incidents, and what was told of them."""
        messages = read(self.brokers, self.topics.incidents)
        return [(key, json.loads(value)["event"]) for key, value in messages]


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
    incidents.serve(roles_of(rules.enrolment))
    return incidents
