"""Trials: consumers of one group as processes, and what they wrote."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

__all__ = ["SESSION_SECONDS", "Comparison", "Outcome", "Trial", "compared", "read"]

_POLL = 0.2
SESSION_SECONDS = 6
"""After which a silent consumer has left the group."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a trial wrote.

    Attributes:
        verdicts: values by id, each value once for every message that had it.
        incidents: values by incident and sequence number, likewise.
    """

    verdicts: Mapping[str, Sequence[bytes]]
    incidents: Mapping[tuple[str, int], Sequence[bytes]]

    @property
    def latest(self) -> dict[str, dict[str, object]]:
        """Each incident as it was at last."""
        found = {}
        for (id_, _), values in sorted(self.incidents.items()):
            found[id_] = json.loads(values[-1])["incident"]
        return found


@dataclass(frozen=True, slots=True)
class Comparison:
    """A trial beside one that nothing disturbed.

    Attributes:
        lost: verdicts that it has not.
        more: verdicts that only it has.
        repeated: messages of verdicts that came again, with the same content.
        different: verdicts with another content, or with two.
        are_incidents_equal: whether all changes of incidents are the same, to the byte.
    """

    lost: int
    more: int
    repeated: int
    different: int
    are_incidents_equal: bool


def compared(trial: Outcome, undisturbed: Outcome) -> Comparison:
    """Compare a trial with an undisturbed one."""
    ours, wanted = trial.verdicts, undisturbed.verdicts
    sets = {id_: set(values) for id_, values in ours.items()}
    return Comparison(
        len(wanted.keys() - ours.keys()),
        len(ours.keys() - wanted.keys()),
        sum(len(values) - 1 for values in ours.values()),
        sum(sets[id_] != set(wanted[id_]) for id_ in ours.keys() & wanted.keys()),
        {key: set(values) for key, values in trial.incidents.items()}
        == {key: set(values) for key, values in undisturbed.incidents.items()},
    )


@dataclass(slots=True)
class Trial:
    """Consumers of one group.

    Attributes:
        brokers: of the log.
        topic: of points.
        folder: for their database and what they say.
        name: of the group, and of the topics that they write.
        idle: seconds after which a partition is silent.
        processes: that were started.
    """

    brokers: str
    topic: str
    folder: Path
    name: str
    idle: float = 3.0
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> subprocess.Popen[bytes]:
        """Start one more consumer."""
        config = self.folder / "client.properties"
        config.write_text(
            f"session.timeout.ms={SESSION_SECONDS * 1000}\nheartbeat.interval.ms=1000\n"
            "topic.metadata.refresh.interval.ms=2000\n"
        )
        url = f"sqlite:///{self.folder / self.name}.sqlite"
        output = self.folder / f"{self.name}-{len(self.processes)}.log"
        with output.open("wb") as target:
            process = subprocess.Popen(  # noqa: S603 - our own command
                [
                    *(Path(sys.executable).parent / "faultcube", "consume", self.topic),
                    *("--brokers", self.brokers, "--config", config, "--group", self.name),
                    *("--prefix", self.name, "--idle", str(self.idle), "--checkpoint", "1"),
                ],
                env={**os.environ, "FAULTCUBE_DATABASE_URL": url, "FAULTCUBE_LOG_FORMAT": "json"},
                stdin=subprocess.DEVNULL,
                stderr=target,
            )
        self.processes.append(process)
        return process

    def said(self, number: int) -> str:
        """Return what a consumer wrote on stderr."""
        return (self.folder / f"{self.name}-{number}.log").read_text()

    def written(self) -> int:
        """Return how many messages of verdicts there are."""
        return sum(_ends(self.brokers, f"{self.name}.verdicts").values())

    def wait_for(self, verdicts: int, seconds: float) -> None:
        """Wait until there are so many messages of verdicts."""
        end = time.monotonic() + seconds
        while self.written() < verdicts:
            self._check(end)
            time.sleep(_POLL)

    def settle(self, seconds: float) -> None:
        """Wait until nothing more is written, though a partition may wait for another owner."""
        end, quiet = time.monotonic() + seconds, SESSION_SECONDS + 2 * self.idle + 4
        seen, changed = (-1, -1), time.monotonic()
        while time.monotonic() - changed < quiet:
            self._check(end)
            now = self.written(), sum(_ends(self.brokers, f"{self.name}.incidents").values())
            if now != seen:
                seen, changed = now, time.monotonic()
            time.sleep(_POLL)

    def stop(self) -> list[int]:
        """End all in good order; return their exit statuses."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        return [process.wait(60) for process in self.processes]

    def outcome(self) -> Outcome:
        """Read all that was written."""
        verdicts: dict[str, list[bytes]] = {}
        for key, value in read(self.brokers, f"{self.name}.verdicts"):
            verdicts.setdefault(key, []).append(value)
        incidents: dict[tuple[str, int], list[bytes]] = {}
        for key, value in read(self.brokers, f"{self.name}.incidents"):
            sequence = json.loads(value)["incident"]["sequence"]
            incidents.setdefault((key, sequence), []).append(value)
        return Outcome(verdicts, incidents)

    def _check(self, end: float) -> None:
        for number, process in enumerate(self.processes):
            if process.poll() not in (None, -signal.SIGKILL):
                raise RuntimeError(f"a consumer ended: {self.said(number)}")
        if time.monotonic() > end:
            raise TimeoutError(f"{self.name}: {self.written()} verdicts so far")


def read(brokers: str, topic: str) -> list[tuple[str, bytes]]:
    """Return keys and values of all messages of a topic."""
    found: list[tuple[str, bytes]] = []
    consumer = _consumer(brokers, {"enable.partition.eof": True})
    try:
        waiting = {*consumer.list_topics(timeout=10).topics[topic].partitions}
        consumer.assign([TopicPartition(topic, each, OFFSET_BEGINNING) for each in waiting])
        while waiting:
            for message in consumer.consume(1000, 1.0):
                if message.error() is None:
                    found.append(((message.key() or b"").decode(), message.value() or b""))
                else:
                    waiting.discard(message.partition())
    finally:
        consumer.close()
    return found


def _ends(brokers: str, topic: str) -> dict[int, int]:
    """Return the offset of the next message, by partition; nothing if there is no such topic."""
    consumer = _consumer(brokers)
    try:
        known = consumer.list_topics(timeout=10).topics.get(topic)
        if known is None:
            return {}
        return {
            partition: consumer.get_watermark_offsets(TopicPartition(topic, partition), 10)[1]
            for partition in known.partitions
        }
    finally:
        consumer.close()


def _consumer(brokers: str, more: Mapping[str, bool] | None = None) -> Consumer:
    settings = {"bootstrap.servers": brokers, "group.id": "trial", "enable.auto.commit": False}
    return Consumer({**settings, **(more or {})})
