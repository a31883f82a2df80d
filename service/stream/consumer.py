"""The consumer: one of several processes that share the partitions of a group.

A partition of points has one owner at a time, which takes it up at its last checkpoint in the
database, works on its messages again from there, and writes the same verdicts under the same ids.
Whoever owns the one partition of judged records makes incidents of them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from models import UNKNOWN
from service.classes.database import Store
from service.classes.entities import AwayError
from service.formats.errors import MalformedInputError
from service.ingest.receivers import RECEIVERS
from service.observability.counters import Counters
from service.runtime.incidents import Incidents, roles_of
from service.settings import Settings
from service.stream.checkpoints import Checkpoints
from service.stream.judged import Batch
from service.stream.log import Log, StreamError
from service.stream.merging import Merger
from service.stream.offsets import check_kept, check_place, waiting
from service.stream.outlet import Outlet
from service.stream.partition import Output, Partition
from service.stream.records import RECORDS
from service.stream.rules import Rules
from service.stream.work import Judging, Options, Owned, Totals

__all__ = ["FORMAT", "StreamConsumer"]

FORMAT = "faultcube-format"
"""Header of a message that says its format."""
_POLL_SECONDS = 0.1
_TELL_SECONDS = 1.0
"""Between two batches of a partition that say only how far it has come."""

log = logging.getLogger(__name__)


class StreamConsumer:
    """Reads points, and writes verdicts and incidents, until it is told to stop.

    Args:
        log_: that it reads and writes.
        store: database of checkpoints and incidents.
        rules: for all partitions.
        settings: of incidents and of who is told of them.
        options: of it.
        stop: set when the process is to end.
        clock: the time of day, seconds since the Unix epoch.

    Attributes:
        totals: what it has done.
    """

    def __init__(
        self,
        log_: Log,
        store: Store,
        rules: Rules,
        settings: Settings,
        options: Options,
        stop: threading.Event,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._log, self._store, self._rules, self._settings = log_, store, rules, settings
        self._options, self._stop, self._clock = options, stop, clock
        self._checkpoints = Checkpoints(store, options.group, stop, clock)
        self.totals = Totals(verdicts=dict.fromkeys([*rules.served.model.names, UNKNOWN], 0))
        self._sources: list[str] = []
        self._owned: dict[str, Owned] = {}
        self._judging: Judging | None = None
        self._last_tick = self._told = self._kept = time.monotonic()
        self._has_failed = False

    def places(self) -> dict[str, Owned | Judging]:
        """Return the partitions that it has now, by name; any thread may call it."""
        judging = self._judging
        return {**self._owned} if judging is None else {**self._owned, judging.source: judging}

    def run(self) -> None:
        """Work until it is stopped; then keep the state and leave the group.

        Raises:
            StreamError: the log or the database cannot be used.
            StoppedError: it was stopped before the log was there.
        """
        topics = self._options.topics
        known = self._log.prepare(topics)
        self._sources = [f"{name}/{at}" for name in topics.points for at in range(known[name])]
        self._writer, consumer = self._log.writer(), self._log.consumer()
        self._outlet = Outlet(self._writer, topics, known[topics.verdicts])
        consumer.subscribe(
            [*topics.points, topics.judged],
            on_assign=self._assigned,
            on_revoke=self._revoked,
            on_lost=self._lost,
        )
        try:
            while not self._stop.is_set():
                message = consumer.poll(_POLL_SECONDS)
                if message is not None:
                    self._take(message)
                self._tick(consumer)
        except BaseException as error:
            self._has_failed = True
            if isinstance(error, AwayError):
                raise StreamError(f"the database is away: {error}") from error
            raise
        finally:
            consumer.close()  # gives the partitions back, which keeps their state
            log.info("stopped", extra=asdict(self.totals))

    def _take(self, message: Message) -> None:
        if (error := message.error()) is not None:
            self._take_error(error, message)
            return
        self._log.answered()
        topic, offset = str(message.topic()), message.offset() or 0
        place = {"topic": topic, "partition": message.partition(), "offset": offset}
        try:
            if topic == self._options.topics.judged:
                self._take_judged(message, offset)
            else:
                self._take_points(message, f"{topic}/{message.partition()}", offset)
        except MalformedInputError as refused:
            self.totals.refused += 1
            log.warning("message refused", extra={**place, "reason": str(refused)})

    def _take_error(self, error: KafkaError, message: Message) -> None:
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - so it is named
            owned = self._owned.get(f"{message.topic()}/{message.partition()}")
            if owned is not None:
                owned.is_at_end = True
                owned.next = max(owned.next, message.offset() or 0)
        elif error.fatal():
            raise StreamError(f"the log: {error.str()}")
        else:
            log.warning("the log reports", extra={"reason": error.str()})

    def _take_points(self, message: Message, source: str, offset: int) -> None:
        owned = self._owned.get(source)
        if owned is None:
            return
        check_place(message, owned.next)
        owned.next, owned.seen = offset + 1, time.monotonic()
        owned.is_at_end = False
        self.totals.messages += 1
        headers = dict(message.headers() or [])
        given = headers.get(FORMAT) or self._options.receiver
        name = given if isinstance(given, str) else given.decode("utf-8", "replace")
        body, (_, stamp), partition = message.value() or b"", message.timestamp(), owned.partition
        if name == RECORDS:
            output = partition.take_records(body, offset, stamp / 1000)
        elif (receiver := RECEIVERS.get(name)) is not None:
            before = partition.assembler.counts.points
            output = partition.take(receiver, body, offset, stamp / 1000)
            self.totals.points += partition.assembler.counts.points - before
        else:
            raise MalformedInputError(f"There is no format {name[:100]!r}.")
        self._write(owned, output)

    def _take_judged(self, message: Message, offset: int) -> None:
        judging = self._judging
        if judging is not None:
            check_place(message, judging.next)
            judging.next = offset + 1
            judging.merger.take(Batch.read(message.value() or b""))

    def _write(self, owned: Owned, output: Output) -> None:
        self._outlet.write(owned.partition.source, output)
        if output.batches:
            owned.told = output.batches[-1].watermark
        self.totals.records += len(output.verdicts)
        for verdict in output.verdicts:
            self.totals.verdicts[verdict.label] += 1

    def _tick(self, consumer: Consumer) -> None:
        """Do what is due by the clock."""
        now = time.monotonic()
        if now - self._last_tick < _POLL_SECONDS:
            return
        self._last_tick = now
        self._writer.serve()
        self._release()
        if now - self._told >= _TELL_SECONDS:
            self._told = now
            for owned in self._owned.values():
                self._look_after(owned, now)
            for source, place in self.places().items():
                place.waiting = waiting(consumer, source, place.next)
        if now - self._kept >= self._options.checkpoint:
            self._kept = now
            self._keep(consumer)

    def _release(self) -> None:
        """Write the changes of incidents that are known by now."""
        if self._judging is not None:
            changes = self._judging.merger.release()
            self._outlet.write_changes(changes)
            self.totals.changes += len(changes)

    def _look_after(self, owned: Owned, now: float) -> None:
        """Complete the records of a partition that is silent, and tell how far it has come."""
        partition, idle = owned.partition, max(self._options.idle, self._rules.mapping.wait)
        if owned.is_at_end and now - owned.seen >= idle:
            moment = self._clock()
            # What the clock completes is completed at the same place by whoever comes after.
            if partition.is_due(moment) and not (
                self._writer.flush() and self._keep_partition(owned, tick=moment)
            ):
                return
            self._write(owned, partition.tick(moment, owned.next))
        if partition.watermark > owned.told:
            owned.told = partition.watermark
            self._outlet.tell(partition.told())

    def _keep(self, consumer: Consumer) -> None:
        """Keep the state of all that is owned, and tell the group how far it is kept."""
        self._release()  # the checkpoint before may have found what somebody closed
        if not self._writer.flush():
            log.warning("no checkpoint", extra={"reason": "messages wait for the log"})
            return
        kept = []
        for source, owned in self._owned.items():
            if self._keep_partition(owned):
                topic, _, number = source.rpartition("/")
                kept.append(TopicPartition(topic, int(number), owned.next))
        judging, topic = self._judging, self._options.topics.judged
        name = self._checkpoints.name(f"{topic}/0")
        if judging is not None and judging.merger.checkpoint(name, judging.next):
            judging.kept = time.monotonic()
            kept.append(TopicPartition(topic, 0, judging.next))
        if kept:
            with suppress(KafkaException):  # the database has it; the group is told for its sake
                consumer.commit(offsets=kept, asynchronous=False)

    def _keep_partition(self, owned: Owned, tick: float | None = None) -> bool:
        document, engine = owned.partition.snapshot(tick)
        source = owned.partition.source
        is_kept = self._checkpoints.keep(source, owned.next, document, engine)
        if is_kept:
            owned.kept = time.monotonic()
        return is_kept

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for each in partitions:
            source = f"{each.topic}/{each.partition}"
            is_judged = each.topic == self._options.topics.judged
            position = self._take_up_judged(source) if is_judged else self._take_up(source)
            if position is not None:
                each.offset = position
                check_kept(consumer, each)
        consumer.assign(partitions)
        names = sorted(f"{each.topic}/{each.partition}" for each in partitions)
        log.info("partitions taken", extra={"partitions": names})

    def _revoked(self, consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        if not self._has_failed:
            self._keep(consumer)
        self._let_go()

    def _lost(self, _consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        log.warning("partitions lost", extra={"reason": "the group has not heard of this process"})
        self._let_go()

    def _let_go(self) -> None:
        self._owned.clear()
        if self._judging is not None:
            self._judging.stop.set()
            self._judging = None

    def _take_up(self, source: str) -> int | None:
        """Take up a partition of points; return the offset to read from, None for the group's."""
        partition = Partition(source, self._rules)
        owned = self._owned[source] = Owned(partition, 0, time.monotonic())
        found = self._checkpoints.find(source)
        if found is None:
            return None
        checkpoint, engine = found
        owned.next = checkpoint.position
        output = partition.restore(checkpoint.document, engine, checkpoint.position)
        if partition.refused:
            why = {"partition": source, "reason": partition.refused}
            log.warning("state not restored, baselines are learned anew", extra=why)
        self._write(owned, output)
        return checkpoint.position

    def _take_up_judged(self, source: str) -> int | None:
        incidents = Incidents(self._settings, Counters(), self._clock)
        incidents.open(self._store)
        incidents.serve(roles_of(self._rules.enrolment))
        incidents.expect(self._rules.mapping.interval)
        merger = Merger(incidents, self._rules, self._sources)
        name = self._checkpoints.name(source)
        position = self._checkpoints.with_retries(lambda: merger.resume(name))
        self._judging = Judging(source, merger, position or 0)
        threading.Thread(target=incidents.run, args=[self._judging.stop], daemon=True).start()
        return position
