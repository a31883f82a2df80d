"""From verdicts to the state of a key: one odd one opens nothing, one good one closes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from models import UNKNOWN

__all__ = ["Hysteresis", "KeyState", "Transition"]

Transition = Literal["opened", "changed", "closed"]

_MOST_FLAPS = 3


@dataclass(frozen=True, slots=True)
class Hysteresis:
    """When the state of a key changes.

    Attributes:
        open_records: of the last `window` records that must have one bad label for it to open.
        window: records that are looked at.
        close_records: good records in a row that close.
        least_seconds: between the first and the last bad record, before a state opens.
        flap_seconds: a state that opens again within this time of its close is flapping; with each
            time it needs as many good records more, four times as many at most.
        forget_seconds: a key that was silent for so long starts anew.
    """

    open_records: int = 2
    window: int = 3
    close_records: int = 4
    least_seconds: float = 0
    flap_seconds: float = 60
    forget_seconds: float = 300


@dataclass(slots=True)
class KeyState:
    """The state of a key.

    Attributes:
        label: of the state; empty while it is closed.
        since: time of the first bad record of the unbroken trouble.
        time: of the last record.
        recent: labels of the last records, empty ones for good records.
        clean: good records since the last bad one.
        flaps: how often it opened again shortly after its close.
        closed: when it was closed last.
        renewed: whether this trouble was declared the key's new normal.
    """

    label: str = ""
    since: float = 0
    time: float = float("-inf")
    recent: list[str] = field(default_factory=list)
    clean: int = 0
    flaps: int = 0
    closed: float = float("-inf")
    renewed: bool = False

    def step(self, label: str, time: float, rule: Hysteresis) -> Transition | None:
        """Take the next record of the key, and say what it changes.

        Args:
            label: of the record; empty if it is good.
            time: of the record, seconds; not before that of the last one.
            rule: to follow.
        """
        if time - self.time > rule.forget_seconds:
            self.recent, self.clean = [], 0
        self.time = time
        if label and not any(self.recent) and not self.label:
            self.since = time
        self.recent = [*self.recent, label][-rule.window :]
        if not label:
            return self._clean(time, rule)
        self.clean = 0
        now = self._leading(rule)
        if not now or now == self.label or time - self.since < rule.least_seconds:
            return None
        opened = not self.label
        if opened:
            flapping = time - self.closed <= rule.flap_seconds
            self.flaps = min(self.flaps + 1, _MOST_FLAPS) if flapping else 0
        self.label = now
        return "opened" if opened else "changed"

    def is_over(self, rule: Hysteresis) -> bool:
        """Whether nothing of the state is needed any more."""
        quiet = not self.label and not any(self.recent)
        return quiet and self.time - self.closed > rule.flap_seconds

    def _leading(self, rule: Hysteresis) -> str:
        """Return the label that has enough of the last records; the present one if it has.

        Records that are all bad, each in another way, are unknown together.
        """
        enough = [
            label
            for label in dict.fromkeys(reversed(self.recent))
            if label and self.recent.count(label) >= rule.open_records
        ]
        if enough:
            return self.label if self.label in enough else enough[0]
        all_bad = len(self.recent) == rule.window and all(self.recent)
        return UNKNOWN if all_bad and not self.label else ""

    def _clean(self, time: float, rule: Hysteresis) -> Transition | None:
        self.clean += 1
        if not self.label or self.clean < rule.close_records * (1 + self.flaps):
            return None
        self.label, self.closed, self.renewed = "", time, False
        self.recent = []
        return "closed"
