"""A partition of points: its messages become records of its keys, and verdicts on them.

All of it is a function of the messages and their time stamps. The clock on the wall is looked at
only when the partition is silent, and what that does is in the checkpoint before it is done.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from models import Decisions
from models.schema import Matrix
from models.telemetry.assembler import Assembler
from models.telemetry.points import Points
from models.telemetry.records import Records
from models.telemetry.snapshot import SnapshotError
from service.incidents.engine import Engine
from service.incidents.incident import Judged
from service.ingest.receivers import Receiver
from service.runtime.judging import judge, judge_assembled, key_of
from service.stream.judged import Batch, Place, rows_of
from service.stream.records import read_records
from service.stream.rules import Rules

__all__ = ["KeyVerdict", "Output", "Partition"]


class KeyVerdict(msgspec.Struct, omit_defaults=True, gc=False):
    """What the model says of a record, as consumers of the topic of verdicts get it.

    Attributes:
        key: what the record is of.
        time: of the record, seconds since the Unix epoch; with `key` it names the verdict.
        label: class that accepts the record, or `unknown`.
        good: whether it is good traffic.
        distance: to the nearest class, 0..1.
        confidence: calibrated probability of that class.
        bundle: version of the bundle.
        revision: of the enrolled classes.
        nearest: class, if the label is `unknown`.
        learning: whether the record is of a learning period, and counts as nothing.
        insufficient: whether it has too few values, and counts as nothing.
    """

    key: str
    time: float
    label: str
    good: bool
    distance: float
    confidence: float
    bundle: str
    revision: int
    nearest: str | None = None
    learning: bool = False
    insufficient: bool = False

    @property
    def id(self) -> str:
        """The same whenever the same record comes again."""
        return f"{self.key} {self.time!r}"


@dataclass(frozen=True, slots=True)
class Output:
    """What is to be written of the records that were completed.

    Attributes:
        verdicts: on each.
        batches: the same for incidents.
    """

    verdicts: list[KeyVerdict]
    batches: list[Batch]


class _State(msgspec.Struct):
    newest: float
    arrived: float
    floor: float
    tick: float | None
    assembler: bytes
    ticked: tuple[int, int] = (-1, 0)


class Partition:
    """The state of all keys of a partition.

    Args:
        source: topic and number of the partition.
        rules: to follow.

    Attributes:
        source: as given.
        assembler: of its keys.
        refused: why the state of a checkpoint could not be taken up; None if it could.
    """

    def __init__(self, source: str, rules: Rules) -> None:
        self.source, self._rules = source, rules
        self.assembler = Assembler(rules.mapping)
        self.assembler.judge_by(self._is_good)
        # Each key is in one partition, so whose level is learned again is decided here.
        self._engine = Engine(rules.roles, rules.hysteresis, rules.patience)
        self._engine.expect(rules.mapping.interval)
        self._newest = self._arrived = self._floor = -math.inf
        self._until = -math.inf  # when all that waits now is complete
        self._ticked = -1, 0  # offset of the last tick, and how many batches those at it made
        self.refused: str | None = None

    @property
    def watermark(self) -> float:
        """Time, in seconds, before which no stamp of its records to come is."""
        return max(self._newest - self._rules.delay, self._floor)

    def take(self, receiver: Receiver, body: bytes, offset: int, arrived: float) -> Output:
        """Take a message.

        Args:
            receiver: of its format.
            body: of it.
            offset: of it.
            arrived: its time stamp, seconds since the Unix epoch.

        Raises:
            MalformedInputError: it cannot be decoded; no record comes of it.
        """
        before = self.watermark
        decoded = receiver.decode(body, self.assembler.series, round(arrived * 1e9))
        self._arrived = max(self._arrived, arrived)
        records = self.assembler.add(decoded.points, arrived)
        self._until = self.assembler.now + self._rules.mapping.wait
        self._newest = max(self._newest, self._newest_of(decoded.points))
        return self._judged(records, before, (offset, 1, 0))

    def take_records(self, body: bytes, offset: int, arrived: float) -> Output:
        """Take a message of records that were made already.

        Raises:
            MalformedInputError: it cannot be read; no verdict comes of it.
        """
        before, rules = self.watermark, self._rules
        made = read_records(body, rules.served, rules.mapping, arrived)
        decisions, judged = judge(rules.served, made.times, made.keys, made.matrix)
        self._newest = max(self._newest, float(made.times.max()))
        return self._output(judged, made.matrix, decisions, before, (offset, 1, 0))

    def is_due(self, now: float) -> bool:
        """Return whether a tick may complete records, so that a checkpoint has to say so before.

        Args:
            now: the time of day.
        """
        return self.assembler.now < min(now, self._until)

    def tick(self, now: float, offset: int) -> Output:
        """Complete the records that have waited long enough, since the partition is silent.

        Args:
            now: the time of day.
            offset: of the next message.
        """
        before = self.watermark
        self._floor = max(self._floor, now - self._rules.delay)
        if not self.is_due(now):
            return Output([], [])  # no checkpoint has it: what comes later must not depend on it
        records = self.assembler.advance(now)
        # Clocks differ, so the records of a silence may take several ticks.
        last, made = self._ticked
        first = made if last == offset else 0
        output = self._judged(records, before, (offset, 0, first))
        self._ticked = offset, first + len(output.batches)
        return output

    def told(self) -> Batch:
        """Return a batch without records, which says how far the partition has come."""
        version = self._rules.served.version
        return Batch(self.source, None, self.watermark, version, Batch.nothing())

    def snapshot(self, tick: float | None = None) -> tuple[bytes, bytes]:
        """Return the state, and that of its engine, as bytes.

        Args:
            tick: time of a tick that is about to come.
        """
        state = _State(
            *(self._newest, self._arrived, self._floor, tick),
            self.assembler.snapshot(),
            self._ticked,
        )
        return msgspec.msgpack.encode(state), self._engine.snapshot()

    def restore(self, document: bytes, engine: bytes, offset: int) -> Output:
        """Take up the state of a snapshot; return what a tick that it knows of completes.

        Args:
            document: state.
            engine: that of its engine.
            offset: of the next message.
        """
        try:
            state = msgspec.msgpack.decode(document, type=_State)
            assembler = Assembler.restore(self._rules.mapping, state.assembler)
            self._engine.restore(engine)
        except (msgspec.MsgspecError, SnapshotError, ValueError) as error:
            self.refused = str(error)
            return Output([], [])
        assembler.judge_by(self._is_good)
        self.assembler = assembler
        self._newest, self._arrived, self._floor = state.newest, state.arrived, state.floor
        self._until, self._ticked = assembler.now + self._rules.mapping.wait, state.ticked
        return Output([], []) if state.tick is None else self.tick(state.tick, offset)

    def _newest_of(self, points: Points) -> float:
        """Return the latest time of points that are not misdated, seconds."""
        rules = self._rules.mapping
        if rules.clock == "arrival":
            return self._arrived if len(points) else -math.inf
        ahead = round(min(self._arrived + rules.ahead, 9e9) * 1e9)
        times = points.times[(points.series >= 0) & (points.times <= ahead)]
        return float(times.max()) / 1e9 if len(times) else -math.inf

    def _judged(self, records: Records, before: float, place: Place) -> Output:
        if not len(records):
            return Output([], [])
        rules, slots = self._rules, records.keys.tolist()
        keys = [key_of(self.assembler.key(slot)) for slot in slots]
        _, judged, taken = judge_assembled(rules.served, rules.columns, records, keys)
        renewed = {c.key for c in self._engine.observe(judged) if c.kind == "renewed"}
        if renewed:
            self.assembler.renew({s for s, key in zip(slots, keys, strict=True) if key in renewed})
        output = self._output(judged, taken.matrix, taken.decisions, before, place)
        usable = records.sufficient if taken.usable is None else taken.usable
        for row in np.flatnonzero(records.learning | ~usable).tolist():
            output.verdicts[row].learning = bool(records.learning[row])
            output.verdicts[row].insufficient = not usable[row]
        return output

    def _output(
        self, judged: Judged, matrix: Matrix, decisions: Decisions, before: float, place: Place
    ) -> Output:
        """Return what is to be written of judged records."""
        served = self._rules.served
        rows = rows_of(judged, matrix, ~served.model.are_good(decisions), before)
        batch = Batch(self.source, place, self.watermark, served.version, rows)
        verdicts = [
            KeyVerdict(
                *(key, time, label, good, distance, confidence),
                served.version,
                served.revision,
                nearest,
            )
            for key, time, (label, good, distance, confidence, nearest, _) in zip(
                judged.keys,
                judged.times.tolist(),
                served.model.verdicts(decisions, lambda *each: each),
                strict=True,
            )
        ]
        return Output(verdicts, [*batch.parts(before)])

    def _is_good(self, records: Records) -> NDArray[np.bool_]:
        return self._rules.columns.are_good(records, self._rules.served.model)
