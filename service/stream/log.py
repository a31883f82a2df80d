"""The log: its settings, its topics, and how messages are written to it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

__all__ = ["Log", "StoppedError", "StreamError", "Topics", "Writer", "read_properties"]

_DAYS: Final = 86_400_000
"""In milliseconds."""
_FLUSH_SECONDS: Final = 10.0
_ANSWER_SECONDS: Final = 5.0
_LONGEST_WAIT: Final = 30.0
_QUIET_SECONDS: Final = 15.0
"""Without a failure, until a log that was away is there again: it is tried every ten."""

log = logging.getLogger(__name__)


class StreamError(Exception):
    """The log cannot be used; one line that says why and what to change."""


class StoppedError(Exception):
    """The process is to end, while the log is away."""


def read_properties(path: Path) -> dict[str, str]:
    """Read settings of librdkafka: lines `name=value`, comments after `#`.

    Raises:
        StreamError: it cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StreamError(f"{path} cannot be read: {error}") from error
    found = {}
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.lstrip().startswith("#"):
            name, equals, value = line.partition("=")
            if not equals:
                raise StreamError(f"{path}, line {number}: expected name=value")
            found[name.strip()] = value.strip()
    return found


@dataclass(frozen=True, slots=True)
class Topics:
    """Names of the topics.

    Attributes:
        points: that are read.
        prefix: of the others.
    """

    points: tuple[str, ...]
    prefix: str

    @property
    def verdicts(self) -> str:
        """Of verdicts: one message a record."""
        return f"{self.prefix}.verdicts"

    @property
    def judged(self) -> str:
        """Of batches of judged records, in one partition, which incidents are made of."""
        return f"{self.prefix}.judged"

    @property
    def incidents(self) -> str:
        """Of changes of incidents."""
        return f"{self.prefix}.incidents"


class Log:
    """A Kafka-compatible log.

    Args:
        properties: of librdkafka, with `bootstrap.servers`.
        group: of consumers.
        stop: set when the process is to end.
    """

    def __init__(self, properties: Mapping[str, str], group: str, stop: threading.Event) -> None:
        self._properties, self._group, self._stop = dict(properties), group, stop
        self._is_away, self._failed = False, 0.0

    def prepare(self, topics: Topics) -> dict[str, int]:
        """Make the topics that are missing; return how many partitions each topic has.

        Waits for a log that is away.

        Raises:
            StreamError: there is no topic of points, or the others cannot be made.
            StoppedError: the process is to end.
        """
        admin: AdminClient = self._client(AdminClient)
        known = self._partitions(admin)
        for name in topics.points:
            if not known.get(name):
                raise StreamError(
                    f"there is no topic {name!r}: make it, with as many partitions as may ever be "
                    "read side by side, and have the producer set the device as key"
                )
        most = max(known[name] for name in topics.points)
        wanted = [
            _topic(topics.verdicts, most, {"retention.ms": str(7 * _DAYS)}),
            _topic(topics.judged, 1, {"retention.ms": str(7 * _DAYS)}),
            _topic(topics.incidents, 1, {"cleanup.policy": "compact"}),
        ]
        missing = [topic for topic in wanted if not known.get(topic.topic)]
        if missing:
            for name, future in admin.create_topics(missing).items():
                try:
                    future.result(_LONGEST_WAIT)
                except KafkaException as error:
                    if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                        reason = error.args[0].str()
                        raise StreamError(f"topic {name!r} cannot be made: {reason}") from error
        if known.get(topics.judged, 1) != 1:
            raise StreamError(f"topic {topics.judged!r} must have one partition")
        return known | {topic.topic: topic.num_partitions for topic in missing}

    def consumer(self) -> Consumer:
        """Return a consumer whose offsets are committed by hand."""
        consumer: Consumer = self._client(
            Consumer,
            {
                "group.id": self._group,
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                # All partitions are given back and out again: each has one owner at any time.
                "partition.assignment.strategy": "roundrobin",
            },
        )
        return consumer

    def writer(self) -> Writer:
        """Return a writer."""
        return Writer(lambda more: self._client(Producer, more), self._stop)

    def answered(self) -> None:
        """Note that the log is there; a message may have been fetched before it went."""
        if self._is_away and time.monotonic() - self._failed > _QUIET_SECONDS:
            self._is_away = False
            log.info("the log answers again")

    def _partitions(self, admin: AdminClient) -> dict[str, int]:
        wait = 1.0
        while True:
            try:
                found = admin.list_topics(timeout=_ANSWER_SECONDS)
            except KafkaException as error:
                if not error.args[0].retriable() and not _is_away(error.args[0]):
                    raise StreamError(f"the log: {error.args[0].str()}") from error
                self._say_away(error.args[0])
                if self._stop.wait(wait):
                    raise StoppedError from error
                wait = min(2 * wait, _LONGEST_WAIT)
                continue
            return {name: len(topic.partitions) for name, topic in found.topics.items()}

    def _client(self, kind: Callable[..., Any], more: Mapping[str, object] | None = None) -> Any:
        try:
            return kind(
                {**self._properties, **(more or {}), "error_cb": self._on_error, "logger": _quiet}
            )
        except (KafkaException, ValueError, TypeError) as error:
            raise StreamError(f"a setting of the log is wrong: {error}") from error

    def _on_error(self, error: KafkaError) -> None:
        if _is_away(error):
            self._say_away(error)

    def _say_away(self, error: KafkaError) -> None:
        self._failed = time.monotonic()
        if not self._is_away:
            self._is_away = True
            log.warning("the log is away, and is tried again", extra={"reason": error.str()})


class Writer:
    """Writes messages, in their order.

    Args:
        make: returns a producer with more settings.
        stop: set when the process is to end.
    """

    def __init__(
        self, make: Callable[[Mapping[str, object]], Producer], stop: threading.Event
    ) -> None:
        self._stop = stop
        self._failed: KafkaError | None = None
        self._producer = make(
            {
                "enable.idempotence": True,
                "compression.type": "lz4",
                "linger.ms": 20,
                "message.timeout.ms": 0,  # a log that is away is waited for
                "delivery.report.only.error": True,
                "on_delivery": self._delivered,
            }
        )

    def write(
        self,
        topic: str,
        key: str,
        value: bytes,
        partition: int = 0,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        """Queue a message; while the queue is full, wait.

        Raises:
            StreamError: an earlier one can never be written.
            StoppedError: the process is to end, and the log is away.
        """
        while True:
            try:
                self._producer.produce(
                    topic, value, key.encode(), partition, headers=[*headers] or None
                )
            except BufferError:
                self._producer.poll(0.1)
                if self._stop.is_set():
                    raise StoppedError from None
            except KafkaException as error:
                if error.args[0].code() != KafkaError.MSG_SIZE_TOO_LARGE:
                    raise
                # It would never be written, and whoever takes over would fail at it again.
                extra = {"topic": topic, "key": key, "bytes": len(value)}
                log.error("a message is too large for the log, and left out", extra=extra)  # noqa: TRY400
                return
            else:
                return

    def serve(self) -> None:
        """Look at what became of messages.

        Raises:
            StreamError: one can never be written.
        """
        self._producer.poll(0)
        if self._failed is not None:
            raise StreamError(f"the log takes no message: {self._failed.str()}")

    def flush(self) -> bool:
        """Return whether all that was queued is written."""
        return not self._producer.flush(_FLUSH_SECONDS) and self._failed is None

    def _delivered(self, error: KafkaError | None, _message: object) -> None:
        self._failed = self._failed or error


def _topic(name: str, partitions: int, settings: dict[str, str]) -> NewTopic:
    return NewTopic(name, partitions, -1, config=settings)  # replicated as the log's setting says


def _is_away(error: KafkaError) -> bool:
    return error.code() in (
        KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001 - so these are named
        KafkaError._TRANSPORT,  # noqa: SLF001
        KafkaError._RESOLVE,  # noqa: SLF001
        KafkaError._TIMED_OUT,  # noqa: SLF001
    )


_quiet = logging.getLogger(f"{__name__}.librdkafka")
_quiet.setLevel(logging.CRITICAL + 1)  # it repeats each attempt
