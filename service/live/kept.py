"""What the live page keeps of records and devices, behind one lock."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from operator import attrgetter

import numpy as np
import numpy.typing as npt

from models import Decisions, Model
from models.schema import Matrix
from service.live.devices import Devices
from service.live.records import Batch, Indices, Ring
from service.live.responses import DeviceRecord, LiveDevice, LiveRecord, State
from service.live.scene import Scene
from service.live.verdicts import STATES, Verdicts

__all__ = ["Kept", "Taken"]

_EMBEDDED_AT_ONCE = 500
_NONE = np.empty(0, np.int64)
_NAMES: tuple[State, ...] = (*STATES, "silent")
_FAULT, _UNKNOWN = STATES.index("fault"), STATES.index("unknown")


@dataclass(frozen=True, slots=True, eq=False)
class Taken:
    """Judged records, as they were taken.

    Attributes:
        model: that judged them.
        keys: of their devices; empty of records that named none.
        times: seconds since the epoch: float64 [n].
        matrix: float32 [n, fields].
        decisions: of the model.
        learning: bool [n], records of which their device still learns its baseline; None if it
            knows no devices.
        usable: bool [n], records with enough values; likewise.
    """

    model: Model
    keys: Sequence[str]
    times: npt.NDArray[np.float64]
    matrix: Matrix
    decisions: Decisions
    learning: npt.NDArray[np.bool_] | None = None
    usable: npt.NDArray[np.bool_] | None = None

    @classmethod
    def joined(cls, parts: Sequence[Taken]) -> list[Taken]:
        """Return the records of all parts, those of one model together."""
        joined = []
        for model, group in groupby(parts, key=attrgetter("model")):
            some = [*group]
            joined.append(
                cls(
                    model,
                    [*chain.from_iterable(part.keys for part in some)],
                    np.concatenate([part.times for part in some]),
                    np.concatenate([part.matrix for part in some]),
                    Decisions.concatenate([part.decisions for part in some]),
                    _all([part.learning for part in some]),
                    _all([part.usable for part in some]),
                )
            )
        return joined

    def states(self, good: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
        """Return indices into `STATES`: uint8 [n]."""
        states = np.where(self.decisions.accepted, np.where(good, 0, _FAULT), _UNKNOWN)
        if self.learning is not None:
            states[self.learning] = STATES.index("learning")
        if self.usable is not None:
            states[~self.usable] = STATES.index("insufficient")
        return states.astype(np.uint8)


class Kept:
    """Records and devices, and the scene that they are drawn in; any thread may call.

    Args:
        max_devices: that are kept.

    Attributes:
        scene: of the model that is served; None until there is one.
    """

    def __init__(self, max_devices: int) -> None:
        self.scene: Scene | None = None
        self._ring, self._devices, self._verdicts = Ring(), Devices(max_devices), Verdicts()
        self._lock = threading.Lock()
        self._placing = threading.Lock()

    @property
    def devices(self) -> int:
        """How many devices are kept."""
        return len(self._devices.slots)

    def serve(self, scene: Scene) -> None:
        """Draw in another scene; records of another bundle are forgotten."""
        with self._lock:
            before, self.scene = self.scene, scene
            if before is None or before.served.version != scene.served.version:
                self._ring.clear(len(scene.served.model.schema))
            else:
                self._ring.forget_positions()

    def add(self, taken: Taken, now: float) -> Indices:
        """Keep records, and return their numbers; none of another bundle than is served.

        Args:
            taken: the records.
            now: seconds since the epoch.
        """
        model, decisions = taken.model, taken.decisions
        good, labels = model.are_good(decisions), model.labels(decisions)
        states = taken.states(good)
        with self._lock:
            scene = self.scene
            if scene is None or scene.served.version != model.manifest.version:
                return _NONE
            codes = self._verdicts.codes(labels, good.tolist(), scene.severities)
            keys: Sequence[str | None] = taken.keys or [None] * len(labels)
            batch = Batch(keys, taken.times, taken.matrix, codes, states, decisions)
            numbers = self._ring.add(batch)
            if taken.keys:
                self._devices.add(batch, numbers, now)
            return self._ring.kept(numbers)

    def choose(self, numbers: Indices, most: int) -> Indices:
        """Choose records to draw: bad ones first, the others at equal steps."""
        with self._lock:
            numbers = self._ring.kept(numbers)
            states = self._ring.states(numbers)
        numbers = numbers[states <= _UNKNOWN]
        bad = states[states <= _UNKNOWN] != 0
        chosen = _thinned(numbers[bad], most)
        others = _thinned(numbers[~bad], most - len(chosen))
        return np.sort(np.concatenate([chosen, others]))

    def latest(self, limit: int) -> list[LiveRecord]:
        """Return the latest records that are kept, oldest first."""
        with self._lock:
            numbers = self._ring.latest(limit)
        return self.records(self.choose(numbers, limit))

    def records(self, numbers: Indices) -> list[LiveRecord]:
        """Return those of some records that are kept, with their positions."""
        self._place(numbers)
        with self._lock:
            numbers = self._ring.kept(numbers)
            unplaced = self._ring.unplaced(numbers)  # the scene has changed just now
            rows = self._ring.rows(numbers[~np.isin(numbers, unplaced)])
            verdicts = [self._verdicts[row[3]] for row in rows]
        return [
            LiveRecord(
                n=n,
                key=key,
                time=time,
                label=verdict.label,
                good=verdict.good,
                distance=distance,
                confidence=confidence,
                position=position,
            )
            for (n, key, time, _, distance, confidence, position), verdict in zip(
                rows, verdicts, strict=True
            )
        ]

    def matrix(self, numbers: Iterable[int]) -> tuple[Scene, Matrix] | None:
        """Return those of some records that are kept: float32 [n, fields], with their scene."""
        with self._lock:
            kept = self._ring.kept(np.array([*numbers], np.int64))
            if self.scene is None or not len(kept):
                return None
            return self.scene, self._ring.matrix(kept)

    def known(self, incidents: Mapping[str, str], key: str | None = None) -> list[LiveDevice]:
        """Return all devices, or one.

        Args:
            incidents: id of the open one that a key takes part in.
            key: of the only one that is wanted; none are returned if it is not kept.
        """
        with self._lock:
            keys = [*self._devices.slots] if key is None else [key]
            return self._described([k for k in keys if k in self._devices.slots], incidents)

    def changed(
        self, incidents: Mapping[str, str], moved: set[str], before: float
    ) -> list[LiveDevice]:
        """Return devices that have changed since they were returned here last.

        Args:
            incidents: id of the open one that a key takes part in.
            moved: keys that take part in another one.
            before: what was seen last before this time is silent.
        """
        with self._lock:
            self._devices.mark_silent(before)
            self._devices.mark(moved)
            return self._described(self._devices.take_changed(1000, 200), incidents)

    def mark_silent(self, before: float) -> None:
        """Mark devices as silent that were seen last before a time."""
        with self._lock:
            self._devices.mark_silent(before)

    def history(self, key: str) -> list[DeviceRecord]:
        """Return the records of a device's last hour, oldest first."""
        with self._lock:
            if key not in self._devices.slots:
                return []
            rows = self._devices.history(key)
            verdicts = {code: self._verdicts[code] for code in np.unique(rows["code"]).tolist()}
        return [
            DeviceRecord(
                n=n,
                time=round(time, 3),
                label=verdicts[code].label,
                good=verdicts[code].good,
                state=_NAMES[state],
                distance=round(distance, 5),
                confidence=round(confidence, 3),
            )
            for n, time, code, state, distance, confidence in rows.tolist()
        ]

    def _place(self, numbers: Indices) -> None:
        """Embed records that have no position yet."""
        with self._placing:  # or two who ask for the same would embed it twice
            with self._lock:
                scene = self.scene
                numbers = self._ring.unplaced(self._ring.kept(numbers))
                matrix = self._ring.matrix(numbers)
            if scene is None or not len(numbers):
                return
            parts = range(0, len(matrix), _EMBEDDED_AT_ONCE)
            positions = np.concatenate(
                [scene.positions(matrix[at : at + _EMBEDDED_AT_ONCE]) for at in parts]
            )
            with self._lock:
                if self.scene is scene:
                    self._ring.place(numbers, positions)

    def _described(self, keys: list[str], incidents: Mapping[str, str]) -> list[LiveDevice]:
        devices = []
        for key, code, state, since, time, distance, confidence in self._devices.rows(keys):
            verdict, name = self._verdicts[code], _NAMES[state]
            says_nothing = name in ("learning", "insufficient")
            devices.append(
                LiveDevice(
                    key=key,
                    label=verdict.label,
                    good=verdict.good,
                    severity=None if says_nothing else verdict.severity,
                    state=name,
                    since=since,
                    time=time,
                    distance=distance,
                    confidence=confidence,
                    incident=incidents.get(key),
                )
            )
        return devices


def _all(masks: Sequence[npt.NDArray[np.bool_] | None]) -> npt.NDArray[np.bool_] | None:
    given = [mask for mask in masks if mask is not None]
    return np.concatenate(given) if given else None


def _thinned(numbers: Indices, most: int) -> Indices:
    """Return some of the numbers, at equal steps."""
    if len(numbers) <= most:
        return numbers
    return numbers[np.linspace(0, len(numbers) - 1, max(most, 0)).astype(np.int64)]
