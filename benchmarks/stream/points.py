"""Recorded points as messages: one for a device and a time, as a collector writes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pyarrow.parquet
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from models.telemetry.mapping import Mapping

__all__ = ["EXCERPT", "MAPPING", "Filled", "Sent", "make_topic", "messages", "send"]

EXCERPT = Path("training/data/cisco-iosxr/excerpt.parquet")
MAPPING = Path("training/data/cisco-iosxr/mapping.toml")
_QUEUED = 1000


@dataclass(frozen=True, slots=True)
class Sent:
    """A message.

    Attributes:
        device: its key.
        time: of its points, seconds.
        points: how many.
        value: Telegraf's JSON.
    """

    device: str
    time: float
    points: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Filled:
    """A topic that was filled: how many messages, and points in them."""

    messages: int
    points: int


def messages(table: Path, copies: int = 1) -> Iterator[Sent]:
    """Yield the messages of a wide table, in the order of time.

    Args:
        table: Parquet, a row for a time and device, as the mapping of the shipped model reads it.
        copies: of each device, under names of their own.
    """
    mapping = Mapping.read(MAPPING)
    patterns = {rule.metric for rule in mapping.fields}
    rows = pyarrow.parquet.read_table(table).sort_by([("time", "ascending")])
    columns = []
    for name in rows.column_names:
        metric, tags = mapping.wide.series_of(name)
        if metric in patterns:
            columns.append((metric, tags, rows[name].to_pylist()))
    devices, times = rows["device"].to_pylist(), rows["time"].to_pylist()
    for row, (device, time) in enumerate(zip(devices, times, strict=True)):
        for copy in range(copies):
            name = f"{device}-{copy}" if copy else device
            metrics = [
                {
                    "name": metric,
                    "tags": {"device": name, **tags},
                    "fields": {"value": values[row]},
                    "timestamp": round(time * 1000),
                }
                for metric, tags, values in columns
                if values[row] is not None
            ]
            yield Sent(name, time, len(metrics), msgspec.json.encode({"metrics": metrics}))


def make_topic(brokers: str, topic: str, partitions: int) -> None:
    """Make a topic that keeps all of its messages."""
    admin = AdminClient({"bootstrap.servers": brokers})  # it must outlive the answer
    new = NewTopic(topic, partitions, 1, config={"retention.ms": "-1"})
    [made] = admin.create_topics([new]).values()
    made.result(30)


def send(brokers: str, topic: str, table: Path, partitions: int, copies: int = 1) -> Filled:
    """Make a topic and fill it.

    The time stamp of a message is the time of its points, as if it had been sent then.
    """
    make_topic(brokers, topic, partitions)
    settings = {"bootstrap.servers": brokers, "compression.type": "lz4", "linger.ms": "20"}
    producer, points = Producer({**settings}), 0
    number = 0
    for message in messages(table, copies):
        stamp = round(message.time * 1000)
        producer.produce(topic, message.value, message.device.encode(), timestamp=stamp)
        number, points = number + 1, points + message.points
        while len(producer) > _QUEUED:
            producer.poll(0.1)
    producer.flush()
    return Filled(number, points)
