"""Incidents beside what was injected, matched one to one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from benchmarks.incidents.runs import Event, Run
from service.incidents.engine import Engine
from service.incidents.hysteresis import Hysteresis
from service.incidents.incident import Incident
from service.incidents.roles import Roles

WINDOW = 240.0
"""Seconds after its injection in which an incident may be an event's."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the incidents of a run are worth.

    Attributes:
        run: that was replayed.
        opened: incidents, as they were told first.
        matches: of each event, the number of its incident, or None.
        bad: verdicts that were not good.
    """

    run: Run
    opened: list[Incident]
    matches: list[int | None]
    bad: int

    @property
    def delays(self) -> list[float]:
        """Seconds from each event that was found to the first word of its incident."""
        pairs = zip(self.run.events, self.matches, strict=True)
        return [_told(self.opened[m]) - event.start for event, m in pairs if m is not None]

    @property
    def false(self) -> list[Incident]:
        """Incidents that are no event's."""
        return [each for i, each in enumerate(self.opened) if i not in self.matches]

    @property
    def outside(self) -> int:
        """How many of these began outside the window of every event."""
        starts = [event.start for event in self.run.events]
        return sum(
            not any(0 <= _told(each) - start <= WINDOW for start in starts) for each in self.false
        )


def replay(run: Run, roles: Roles, hysteresis: Hysteresis) -> Outcome:
    """Turn a run's verdicts into incidents, and match these to its events."""
    engine = Engine(roles, hysteresis)
    changes = engine.observe(run.judged)
    opened = [change.incident for change in changes if change.kind == "opened"]
    bad = sum(label not in roles.good for label in run.judged.labels)
    return Outcome(run, opened, matched(run.events, opened), bad)


def matched(events: list[Event], incidents: list[Incident]) -> list[int | None]:
    """Give events their incidents, as many as possible, and among these ways the earliest.

    An incident can be an event's if it names its cause and a root of it, and is told in its window.
    """
    cost = np.full((len(events), len(incidents)), 1e9)
    for row, event in enumerate(events):
        for column, incident in enumerate(incidents):
            delay = _told(incident) - event.start
            right = incident.label == event.cause and incident.root in event.roots
            if right and 0 <= delay <= WINDOW:
                cost[row, column] = delay
    found: list[int | None] = [None] * len(events)
    for row, column in zip(*linear_sum_assignment(cost), strict=True):
        if cost[row, column] <= WINDOW:
            found[row] = int(column)
    return found


def _told(incident: Incident) -> float:
    if incident.told is None:
        raise ValueError(f"incident {incident.id} was never told")
    return incident.told
