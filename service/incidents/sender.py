"""The thread that tells targets of incidents, and tries again until they have taken it."""

from __future__ import annotations

import logging
import math
import random
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.classes.entities import AwayError
from service.incidents.delivery import DeliveryError, RefusedError, Target
from service.incidents.incident import Incident
from service.incidents.storage import Storage

__all__ = ["Sender"]

log = logging.getLogger(__name__)

_POLL_SECONDS, _LOOK_SECONDS = 0.1, 1.0
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 60.0
_TURN_SECONDS = 5.0
"""Then the next target has its turn: one that is slow must not let another's alerts expire."""
_TELL_SECONDS = 30.0
"""For so long at least a process alone tells a target, unless it goes on."""


@dataclass(slots=True)
class _Turn:
    """When a target is tried next, and how long the wait after another failure would be."""

    target: Target
    next: float = 0.0
    wait: float = _FIRST_WAIT
    waiting: int = 0
    until: float = 0.0
    """Nobody else tells the target before."""
    is_elsewhere: bool = False
    """Whether another process told the target when it was looked last."""
    told: tuple[list[Incident], float] | None = None
    """What the target was told, and when, until the storage knows."""


class Sender:
    """Tells targets of what the storage has for them.

    Args:
        storage: of incidents, and of what their targets know.
        targets: to tell.
        count: called with a target's name, "sent" or "failed", and how many incidents.
        clock: the time of day, in seconds since the epoch.
        jitter: returns a number in 0..1, so that many senders do not come at once.

    Attributes:
        owner: of the targets that it tells, of which it is the only one; the same after a restart.
    """

    def __init__(
        self,
        storage: Storage,
        targets: Sequence[Target],
        count: Callable[[str, str, int], None] = lambda *_: None,
        clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._storage, self._count, self._clock, self._jitter = storage, count, clock, jitter
        self.owner = secrets.token_hex(8)
        self._turns = [_Turn(target) for target in targets]
        self._woken = threading.Event()

    @property
    def names(self) -> list[str]:
        """Names of the targets."""
        return [turn.target.name for turn in self._turns]

    @property
    def waiting(self) -> int:
        """Incidents with a change that a target had not been told of, when it was looked."""
        return sum(turn.waiting for turn in self._turns)

    def wake(self) -> None:
        """Say that there is something new."""
        self._woken.set()

    def run(self, stop: threading.Event) -> None:
        """Tell targets until `stop` is set."""
        looked = -math.inf
        while not stop.wait(_POLL_SECONDS):
            if not self._woken.is_set() and abs(self._clock() - looked) < _LOOK_SECONDS:
                continue
            self._woken.clear()
            looked = self._clock()
            for turn in self._turns:
                try:
                    self._take(turn)
                except AwayError as error:
                    log.warning("alerts wait", extra={"reason": str(error)})
                except Exception:  # whatever it is, the next alert must go out
                    log.exception("alerts not sent")
                    self._postpone(turn)

    def step(self) -> None:
        """Tell every target whose turn it is what it has to be told."""
        for turn in self._turns:
            self._take(turn)

    def _take(self, turn: _Turn) -> None:
        target, now = turn.target, self._clock()
        resend = None if target.resend_seconds is None else now - target.resend_seconds
        # What is further ahead than anything waits was said by a clock that has been set back.
        while now >= turn.next or turn.next > now + _LONGEST_WAIT:
            if abs(self._clock() - now) > _TURN_SECONDS:
                self._woken.set()  # there may be more, but others wait
                break
            self._note(turn)
            dues = self._storage.due(target.name, resend, target.batch, now)
            if not dues or not self._acquire_lease(turn):
                break
            told = [due for due in dues if due.incident.status != "closed" or due.tried]
            new = [due.incident for due in told if not due.tried]
            try:
                if new:
                    self._storage.tried(target.name, new, now)
                if told:
                    target.deliver(told)
                self._count(target.name, "sent", len(told))
            except DeliveryError as error:
                self._count(target.name, "failed", len(told))
                log.warning("alert delayed", extra={"target": target.name, "reason": str(error)})
                if new and not error.taken:
                    self._storage.tried(target.name, new, 0.0)
                self._postpone(turn)
                break
            except RefusedError as error:
                self._count(target.name, "failed", len(told))
                log.warning("alert refused", extra={"target": target.name, "reason": str(error)})
            turn.told = [due.incident for due in dues], now
            self._note(turn)
            turn.wait = _FIRST_WAIT
        turn.waiting = 0 if turn.is_elsewhere else self._storage.waiting(target.name)

    def _note(self, turn: _Turn) -> None:
        """Note what a target was told; where that fails, it is not told again for that."""
        if turn.told is not None:
            self._storage.sent(turn.target.name, *turn.told)
            turn.told = None

    def _acquire_lease(self, turn: _Turn) -> bool:
        """Return whether no other process tells a target: it could overtake this one."""
        now, seconds = self._clock(), max(_TELL_SECONDS, 2 * turn.target.longest_seconds)
        if not seconds / 2 <= turn.until - now <= seconds:
            until = now + seconds
            may = self._storage.acquire_lease(turn.target.name, self.owner, now, until)
            turn.until, turn.is_elsewhere = until if may else 0.0, not may
        return not turn.is_elsewhere

    def _postpone(self, turn: _Turn) -> None:
        turn.next = self._clock() + turn.wait * (0.5 + self._jitter() / 2)
        turn.wait = min(2 * turn.wait, _LONGEST_WAIT)
