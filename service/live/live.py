"""The live page's own thread: it takes what the service decides, keeps some, and tells viewers.

Requests and ingestion only append to a queue. Everything else happens here, twice a second:
records are kept, a sample of them is embedded and drawn while somebody looks, and events go out.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

import msgspec
import numpy as np

from models import Decisions, Model
from models.schema import Matrix
from service.classes.enrolment import Enrolment
from service.live import detail
from service.live.devices import KEPT_SECONDS
from service.live.hub import Event, Hub
from service.live.kept import Kept, Taken
from service.live.rates import Rates
from service.live.records import Indices
from service.live.responses import (
    DeviceDetail,
    Devices,
    DriftHistory,
    DriftNow,
    Health,
    HealthNow,
    LiveRecordDetail,
    LiveRecords,
    SceneShown,
)
from service.live.scene import Scene
from service.observability.counters import Counters
from service.observability.drift import Drifts
from service.scoring.scored import Scored
from service.scoring.served_model import ServedModel

__all__ = ["Live", "LiveSources"]

log = logging.getLogger(__name__)

T = TypeVar("T")
_Offer = tuple[Model, Matrix, Decisions, float]

_TICK_SECONDS: Final = 0.5
"""Each viewer is written to once in a tick, which takes from requests: see `benchmarks.live`."""
_HEALTH_EVERY, _HISTORY_EVERY, _DRIFT_EVERY = 4, 10, 120
"""In ticks."""
_SAMPLE: Final = 100
"""Records that are drawn in a tick, at most: 200 a second; 400 cost more than 3 % of requests."""
_ROWS: Final = 8
"""Of a chunk, at most: one large request must not hide all others."""
_HISTORY: Final = 180
_DRIFT_HISTORY: Final = 1440
_MAX_WAITING: Final = 10_000
"""Batches of records, and changes of incidents, that wait; beyond it the oldest go."""
_SILENT_INTERVALS, _SILENT_SECONDS = 3, 30.0
"""Without a record for so long, a device is silent."""


@dataclass(frozen=True, slots=True)
class LiveSources:
    """What the live page asks of the service.

    Attributes:
        incidents: returns the id of the open incident that each key takes part in.
        interval: returns the seconds between two records of a device, at least.
        keys: returns how many devices ingestion knows.
        requests: returns how many requests wait.
        points: returns how many metric points wait.
        drift: returns how many records were compared, and their drift unless they are too few.
        store: returns where things are kept, and whether that can be reached.
        alone: whether this process is all of the service.
    """

    incidents: Callable[[], Mapping[str, str]]
    interval: Callable[[], float]
    keys: Callable[[], int]
    requests: Callable[[], int]
    points: Callable[[], int]
    drift: Callable[[], tuple[int, Drifts | None]]
    store: Callable[[], Literal["memory", "ok", "away"]]
    alone: bool


class Live:
    """What the live page shows, and whom it tells.

    Args:
        around: the rest of the service.
        counters: of the process.
        viewers: how many there may be.
        devices: how many are kept.
        clock: seconds since the epoch.

    Attributes:
        hub: of the viewers.
        room: how many more records of requests are wanted now; 0 while nobody looks.
    """

    def __init__(
        self,
        around: LiveSources,
        counters: Counters,
        *,
        viewers: int,
        devices: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.hub, self.room = Hub(viewers), 0
        self._around, self._counters, self._clock = around, counters, clock
        self._kept = Kept(devices)
        self._rates = Rates(counters)
        self._health: deque[HealthNow] = deque(maxlen=_HISTORY)
        self._drift: deque[DriftNow] = deque(maxlen=_DRIFT_HISTORY)
        self._offered: deque[_Offer] = deque(maxlen=_SAMPLE)
        self._keyed: deque[Taken] = deque(maxlen=_MAX_WAITING)
        self._told: deque[Event] = deque(maxlen=_MAX_WAITING)
        self._next: tuple[ServedModel, Enrolment] | None = None
        self._following = threading.Lock()
        self._shown: Scene | None = None
        self._answered = counters.records
        self._members: Mapping[str, str] = {}
        self._ticks = 0

    def serve(self, served: ServedModel, enrolment: Enrolment) -> None:
        """Draw what another model decides, from the next tick on."""
        self._next = served, enrolment

    def offer(self, model: Model, scored: Scored) -> None:
        """Take a few records of a chunk; called on the event loop, while there is room."""
        matrix, decisions = scored.matrix, scored.decisions
        if len(matrix) > _ROWS:
            rows = slice(None, None, -(-len(matrix) // _ROWS))
            matrix, decisions = matrix[rows].copy(), decisions[rows]  # or all would be held
        self._offered.append((model, matrix, decisions, self._clock()))
        self.room -= len(matrix)

    def take(self, keyed: Taken) -> None:
        """Take records of devices; called by ingestion."""
        self._keyed.append(keyed)

    def tell_incident(self, id_: str, status: str, kind: str) -> None:
        """Tell viewers that an incident has changed; from any thread."""
        self._told.append(Event("incident", {"id": id_, "status": status, "kind": kind}))

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set."""
        while not stop.wait(_TICK_SECONDS):
            try:
                self.step()
            except Exception:  # whatever it is, what comes next is shown
                log.exception("the live page failed")

    def step(self) -> None:
        """Keep what came since the last step, and tell viewers of it."""
        scene, now = self._followed(), self._clock()
        keyed = [self._kept.add(taken, now) for taken in Taken.joined(_drained(self._keyed))]
        offered = [_taken(*offer) for offer in _drained(self._offered)]
        sampled = [self._kept.add(taken, now) for taken in Taken.joined(offered)]
        watched = self.hub.watched
        self.room = _SAMPLE if watched else 0
        told = _drained(self._told)
        answered, self._answered = self._counters.records - self._answered, self._counters.records
        events = self._scene_events(scene) + told
        if watched:
            events += self._record_events([*keyed, *sampled], answered + sum(map(len, keyed)))
            events += self._regular_events()
            self.hub.publish(events)
        if self._ticks % _HISTORY_EVERY == 0:
            self._health.append(self.health_now())
        # Not at once: a look takes what was sampled, and there is nothing yet.
        if (self._ticks + 1) % _DRIFT_EVERY == 0 and (drift := self._drift_now()).mean is not None:
            self._drift.append(drift)
        self._ticks += 1

    def scene(self) -> SceneShown | None:
        """Return the model that is served, as it is drawn; None if there is none."""
        scene = self._followed()
        if scene is None:
            return None
        served = scene.served
        return SceneShown(
            bundle=served.bundle,
            revision=served.revision,
            dimensions=served.model.manifest.dimensions,
            axes=scene.projection.axes,
            classes=scene.classes,
            fields=scene.fields(),
        )

    def devices(self) -> Devices:
        """Return all devices that are kept."""
        self._kept.mark_silent(self._silent_before())
        devices = self._kept.known(self._around.incidents())
        total = max(self._around.keys(), len(devices))
        return Devices(time=self._clock(), kept_seconds=KEPT_SECONDS, devices=devices, total=total)

    def device(self, key: str) -> DeviceDetail | None:
        """Return a device with its last hour; None if it is not kept."""
        return detail.device(self._kept, key, self._around.incidents())

    def records(self, limit: int) -> LiveRecords:
        """Return the latest records."""
        return LiveRecords(records=self._kept.latest(limit))

    def record(self, number: int) -> LiveRecordDetail | None:
        """Return a record with its explanation; None if it is not kept."""
        return detail.record(self._kept, number)

    def health(self) -> Health:
        """Return how the service fares, and fared."""
        now = self.health_now()
        return Health(**msgspec.structs.asdict(now), history=[*self._health.copy()])

    def health_now(self) -> HealthNow:
        """Return how the service fares."""
        speed, around = self._rates.look(), self._around
        return HealthNow(
            time=round(self._clock(), 3),
            records_per_second=speed.records,
            points_per_second=speed.points,
            requests_per_second=speed.requests,
            queue_requests=around.requests(),
            queue_points=around.points(),
            p50_ms=speed.p50,
            p99_ms=speed.p99,
            viewers=self.hub.viewers,
            store=around.store(),
            ready=self._next is not None,
            alone=around.alone,
        )

    def drift(self) -> DriftHistory:
        """Return how far traffic is from the calibration records, and was."""
        now = self._drift_now()
        return DriftHistory(**msgspec.structs.asdict(now), history=[*self._drift.copy()])

    def _drift_now(self) -> DriftNow:
        records, found = self._around.drift()
        mean, largest = (None, None) if found is None else (found.mean, found.largest)
        return DriftNow(time=round(self._clock(), 3), records=records, mean=mean, largest=largest)

    def _followed(self) -> Scene | None:
        """Return the scene of the model that is served now, which is made if it is another one."""
        with self._following:
            scene, following = self._kept.scene, self._next
            if following is not None and (scene is None or scene.served is not following[0]):
                scene = Scene.of(*following)
                self._kept.serve(scene)
            return scene

    def _scene_events(self, scene: Scene | None) -> list[Event]:
        before, self._shown = self._shown, scene
        if scene is None or scene is before:
            return []
        served = scene.served
        if before is not None and served.version != before.served.version:
            self._drift.clear()
        return [Event("model", {"version": served.version, "revision": served.revision})]

    def _record_events(self, numbers: list[Indices], came: int) -> list[Event]:
        """Tell of some of the records that came, of so many."""
        new = np.concatenate([*numbers, np.empty(0, np.int64)]).astype(np.int64)
        records = self._kept.records(self._kept.choose(new, _SAMPLE))
        if not records and not came:
            return []
        left_out = max(came - len(records), 0)
        return [Event("records", {"records": records, "left_out": left_out})]

    def _regular_events(self) -> list[Event]:
        events = []
        if self._kept.devices:
            before, self._members = self._members, self._around.incidents()
            moved = {key for key, _ in before.items() ^ self._members.items()}
            changed = self._kept.changed(self._members, moved, self._silent_before())
            if changed:
                events.append(Event("devices", {"devices": changed}))
        if self._ticks % _HEALTH_EVERY == 0:
            events.append(Event("health", self.health_now()))
        return events

    def _silent_before(self) -> float:
        intervals = _SILENT_INTERVALS * self._around.interval()
        return self._clock() - max(intervals, _SILENT_SECONDS)


def _taken(model: Model, matrix: Matrix, decisions: Decisions, time: float) -> Taken:
    return Taken(model, (), np.full(len(matrix), time), matrix, decisions)


def _drained(waiting: deque[T]) -> list[T]:
    """Take all that waits; others may add meanwhile."""
    return [waiting.popleft() for _ in range(len(waiting))]
