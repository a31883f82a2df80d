"""Offsets of partitions: whether messages come again, were deleted unread, and how many wait."""

from __future__ import annotations

import logging
from contextlib import suppress

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from service.stream.log import StreamError

__all__ = ["check_kept", "check_place", "waiting"]

_ANSWER_SECONDS = 10.0

log = logging.getLogger(__name__)


def check_place(message: Message, expected: int) -> None:
    """Raise StreamError if a message comes again: offsets have begun anew."""
    if (message.offset() or 0) < expected:
        raise StreamError(
            f"topic {message.topic()!r} was made anew since this group read it: take another "
            "--group, or delete its checkpoints"
        )


def check_kept(consumer: Consumer, place: TopicPartition) -> None:
    """Say so if messages were deleted before they were read."""
    with suppress(KafkaException):
        first, _ = consumer.get_watermark_offsets(place, timeout=_ANSWER_SECONDS)
        if first > place.offset:
            where = {"topic": place.topic, "partition": place.partition}
            lost = {"messages": first - place.offset}
            log.error("messages were deleted before they were read", extra=where | lost)


def waiting(consumer: Consumer, source: str, position: int) -> int | None:
    """Return how many messages of a partition wait, None before the log has told.

    It asks nobody: each answer of the log with messages says where the partition ends.

    Args:
        consumer: that has the partition.
        source: topic and number of the partition.
        position: offset of the next message.
    """
    topic, _, number = source.rpartition("/")
    with suppress(KafkaException):
        _, end = consumer.get_watermark_offsets(TopicPartition(topic, int(number)), cached=True)
        if end >= 0:
            return max(end - position, 0)
    return None
