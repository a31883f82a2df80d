"""The state machine: judged records in, changes of incidents out. It has no clock of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import msgspec

from service.incidents.correlation import Correlation, Patience
from service.incidents.hysteresis import Hysteresis, KeyState
from service.incidents.incident import Change, Incident, Judged
from service.incidents.roles import Roles

__all__ = ["Engine"]

_SILENT_RECORDS = 3
"""Records that do not come of a key that is silent."""
_LEAST_SECONDS = 1.0
"""Between two looks at what time alone does."""


@dataclass(slots=True)
class _Snapshot:
    states: dict[str, KeyState]
    incidents: dict[str, Incident]
    where: dict[str, str]
    now: float
    dropped: int
    late: int


_snapshot = msgspec.msgpack.Decoder(_Snapshot)


class Engine:
    """Turns verdicts into incidents; the same records give the same changes and ids.

    Args:
        roles: of the labels; may be set anew when a model is swapped or a class enrolled.
        hysteresis: of the states of keys.
        patience: of incidents.

    Attributes:
        states: of keys that are or were in trouble a moment ago.
        now: time of the latest record.
        late: records that came after a later one of their key, and were left out.
    """

    def __init__(
        self,
        roles: Roles,
        hysteresis: Hysteresis | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.hysteresis = hysteresis or Hysteresis()
        self._correlation = Correlation(roles, patience or Patience())
        self._rules = self.hysteresis, self._correlation.patience
        self.states: dict[str, KeyState] = {}
        self.now = -math.inf
        self.late = 0
        self._due_at = math.inf

    @property
    def roles(self) -> Roles:
        """Roles of the labels."""
        return self._correlation.roles

    @roles.setter
    def roles(self, roles: Roles) -> None:
        self._correlation.roles = roles

    @property
    def incidents(self) -> dict[str, Incident]:
        """Incidents that are not closed, by id; those still pending too."""
        return self._correlation.incidents

    @property
    def dropped(self) -> int:
        """Incidents that ended before there was anything to tell."""
        return self._correlation.dropped

    def expect(self, seconds: float) -> None:
        """Take it that a record of each key comes every so many seconds.

        A key that was forgotten between two of its records would never be in trouble, and an
        incident would be stale before it can change.
        """
        hysteresis, patience = self._rules
        least = _SILENT_RECORDS * seconds
        forget, stale = max(hysteresis.forget_seconds, least), max(patience.stale_seconds, least)
        self.hysteresis = replace(hysteresis, forget_seconds=forget)
        self._correlation.patience = replace(patience, stale_seconds=stale)

    def observe(self, judged: Judged) -> list[Change]:
        """Take judged records, and return what they change, in order."""
        changes: list[Change] = []
        good, states, skipped = self.roles.good, self.states, judged.skipped
        rows = zip(judged.keys, judged.labels, judged.times.tolist(), strict=True)
        for row, (key, label, time) in enumerate(rows):
            if skipped is not None and skipped[row]:
                continue
            self.now = max(self.now, time)
            if self.now >= self._due_at:
                changes += self._correlation.pass_time(self.now, self._is_bad)
                self._plan()
            is_good = label in good
            if is_good and key not in states:
                continue  # nearly every record
            for change in self._step(judged, row, "" if is_good else label, time):
                changes.append(change)
                self._expect(change.incident)
            if waiting := self._correlation.waiting(key):
                self._expect(waiting)
        return changes

    def close(self, id_: str, time: float, note: str) -> Change:
        """Close an incident by hand."""
        return self._correlation.close(self.incidents[id_], time, note)

    def set_back(self, now: float) -> None:
        """Go on from an earlier time, as the clock was wrong: nothing that is known is later."""
        self.now = min(self.now, now)
        for state in self.states.values():
            state.time, state.closed = min(state.time, now), min(state.closed, now)
            state.since = min(state.since, now)
        for incident in self.incidents.values():
            incident.changed = min(incident.changed, now)
            if incident.status == "pending":
                incident.first, incident.last = min(incident.first, now), min(incident.last, now)
        self._plan()

    def snapshot(self) -> bytes:
        """Return all of the state."""
        correlation = self._correlation
        return msgspec.msgpack.encode(
            _Snapshot(
                self.states,
                correlation.incidents,
                correlation.where,
                self.now,
                correlation.dropped,
                self.late,
            )
        )

    def restore(self, snapshot: bytes) -> None:
        """Take the state of a snapshot.

        Raises:
            ValueError: it is none.
        """
        try:
            state = _snapshot.decode(snapshot)
        except msgspec.MsgspecError as error:
            raise ValueError(f"no snapshot of incidents: {error}") from error
        correlation = self._correlation
        self.states, self.now, self.late = state.states, state.now, state.late
        correlation.incidents, correlation.where = state.incidents, state.where
        correlation.dropped = state.dropped
        self._plan()

    def _step(self, judged: Judged, row: int, label: str, time: float) -> Iterator[Change]:
        key, rule = judged.keys[row], self.hysteresis
        state = self.states.get(key)
        if state is None:
            state = self.states[key] = KeyState()
        if time < state.time:
            self.late += 1
            return
        match state.step(label, time, rule):
            case "opened" | "changed":
                yield from self._correlation.enter(judged, row, state.label, state.since)
            case "closed":
                yield from self._correlation.leave(key, time)
        if label and state.label:
            yield from self._correlation.bad(judged, row, label)
            yield from self._settle(state, key, time)
        elif state.is_over(rule):
            del self.states[key]

    def _settle(self, state: KeyState, key: str, time: float) -> Iterator[Change]:
        """Declare a trouble that has stood for long, of a class that cannot, the new normal."""
        stood = time - state.since >= self._correlation.patience.settle_seconds
        if stood and not state.renewed and not self.roles[state.label].lasting:
            state.renewed = True
            yield from self._correlation.renew(key, time)

    def _is_bad(self, key: str) -> bool:
        """Return whether the last record of a key was bad."""
        state = self.states.get(key)
        return state is not None and bool(state.label) and not state.clean

    def _expect(self, incident: Incident) -> None:
        self._due_at = min(self._due_at, self._correlation.due_at(incident, self.now))

    def _plan(self) -> None:
        """Note when time does something next, or earlier: to what changes it does so later."""
        self._due_at = math.inf
        for incident in self.incidents.values():
            self._expect(incident)
        # There may be thousands, each with a time of its own.
        self._due_at = max(self._due_at, self.now + _LEAST_SECONDS)
