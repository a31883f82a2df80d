"""Where partitions begin and end, as a log tells."""

from __future__ import annotations

import threading
from contextlib import closing

from confluent_kafka import TopicPartition

from service.stream.log import Log
from service.stream.offsets import waiting
from tests.support.consuming import Stream
from tests.support.running import eventually


def test_what_waits_is_told_once_the_log_has_answered(stream: Stream) -> None:
    for at in range(7):
        stream.put(b"%d" % at, "leaf1", 1000 + at)
    stream.producer.flush()
    log = Log({"bootstrap.servers": stream.brokers}, stream.name, threading.Event())
    source = f"{stream.points}/0"
    with closing(log.consumer()) as consumer:
        consumer.assign([TopicPartition(stream.points, 0, 0)])
        assert waiting(consumer, source, 0) is None

        message = eventually(lambda: consumer.poll(0.1), seconds=30)

        assert message.value() == b"0"
        assert waiting(consumer, source, 1) == 6
        assert waiting(consumer, source, 7) == 0
