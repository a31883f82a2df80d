from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from service.classes.database import Store
from service.classes.entities import AwayError
from service.incidents.delivery import DeliveryError, RefusedError
from service.incidents.engine import Engine
from service.incidents.memory import MemoryStore
from service.incidents.sender import Sender
from service.incidents.storage import Due, Storage, Written
from service.incidents.store import IncidentStore
from tests.support.incidents import ROLES, drawn

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


class Ear:
    """A target that keeps what it is told, and fails as often as it is asked to."""

    name = "ear"
    batch = 2
    resend_seconds: float | None = 60.0
    longest_seconds = 1.0

    def __init__(self) -> None:
        self.heard: list[tuple[str, int]] = []
        self.errors: list[BaseException] = []

    def deliver(self, dues: Sequence[Due]) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.heard += [(due.incident.status, due.incident.sequence) for due in dues]


class Desk:
    """A sender with a clock of its own."""

    def __init__(self, storage: Storage | None = None) -> None:
        self.ear, self.storage, self.engine = Ear(), storage or MemoryStore(), Engine(ROLES)
        self.now, self.start = 1e6, 1000.0
        self.counts: list[tuple[str, int]] = []
        self.sender = Sender(
            self.storage,
            [self.ear],
            count=lambda _target, what, number: self.counts.append((what, number)),
            clock=lambda: self.now,
            jitter=lambda: 1.0,
        )

    def happen(self, **pictures: str) -> None:
        changes = self.engine.observe(drawn(self.start, **pictures))
        self.start += 5 * max(map(len, pictures.values()))
        self.storage.commit(Written(NOON, changes, self.sender.names))


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_an_incident_is_told_again_while_it_is_open_and_its_close_once(desk: Desk) -> None:
    desk.happen(a="CC")
    for seconds in (0, 1, 58, 2, 60, 1):
        desk.now += seconds
        desk.sender.step()
    assert desk.ear.heard == [("open", 1)] * 3
    desk.happen(a="....")
    for _ in range(3):
        desk.now += 100
        desk.sender.step()
    assert desk.ear.heard[3:] == [("closed", 2)]
    assert desk.sender.waiting == 0


def test_a_target_that_is_slow_does_not_keep_another_from_its_turn(desk: Desk) -> None:
    heard_at: list[float] = []

    class Slow(Ear):
        name, batch = "slow", 1

        def deliver(self, dues: Sequence[Due]) -> None:
            del dues
            desk.now += 3

    class Quick(Ear):
        name = "quick"

        def deliver(self, dues: Sequence[Due]) -> None:
            del dues
            heard_at.append(desk.now)

    slow, quick = Slow(), Quick()
    sender = Sender(desk.storage, [slow, quick], clock=lambda: desk.now, jitter=lambda: 1.0)
    desk.sender = sender
    desk.happen(**{f"k{number}": "XX" for number in range(100)})
    begin = desk.now
    for _ in range(40):
        sender.step()
    assert heard_at[0] - begin < 10
    gaps = [after - before for before, after in pairwise(heard_at)]
    assert max(gaps) < 60 + 10
    assert sender._woken.is_set()


def test_a_close_of_what_was_never_told_is_never_told(desk: Desk) -> None:
    desk.happen(a="CC")
    desk.happen(a="....")
    desk.sender.step()
    assert desk.ear.heard == []
    assert desk.storage.due("ear", 1e9, 10) == []


@pytest.mark.parametrize(
    ("error", "heard"),
    [
        (KeyboardInterrupt(), [("closed", 2)]),  # as if it was killed
        (DeliveryError("no answer", taken=True), [("closed", 2)]),
        (DeliveryError("nobody there"), []),
    ],
)
def test_the_close_of_what_may_have_been_told_is_told(
    desk: Desk, error: BaseException, heard: list[tuple[str, int]]
) -> None:
    desk.happen(a="CC")
    desk.ear.errors = [error]
    with suppress(KeyboardInterrupt):
        desk.sender.step()
    desk.happen(a="....")
    desk.now += 10
    desk.sender.step()
    assert desk.ear.heard == heard
    assert desk.storage.due("ear", 1e9, 10) == []


def test_what_was_told_is_not_told_again_because_it_could_not_be_noted(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.happen(a="CC")
    sent, errors = desk.storage.sent, [AwayError("away")] * 2

    def failing(*arguments: Any) -> None:
        if errors:
            raise errors.pop(0)
        sent(*arguments)

    monkeypatch.setattr(desk.storage, "sent", failing)
    for _ in range(4):
        with suppress(AwayError):
            desk.sender.step()
        desk.now += 1
    assert desk.ear.heard == [("open", 1)]
    assert not errors
    assert desk.sender.waiting == 0


def test_what_waits_for_a_target_that_is_away_is_counted_all_the_while(desk: Desk) -> None:
    desk.happen(a="CC")
    desk.ear.errors = [DeliveryError("away")] * 20
    waiting = set()
    for _ in range(300):
        desk.sender.step()
        waiting.add(desk.sender.waiting)
        desk.now += 1
    assert waiting == {1}


def test_a_target_that_may_take_long_is_told_by_nobody_else_meanwhile(tmp_path: Path) -> None:
    with closing(Store(f"sqlite:///{tmp_path / 'classes.sqlite'}")) as store:
        store.prepare()
        desks = [Desk(IncidentStore(store)) for _ in range(2)]
        for desk in desks:
            desk.ear.longest_seconds = 100.0
        desks[0].happen(a="CC", b="XX", c="FF")
        desks[0].sender.step()
        desks[0].happen(d="CC")
        desks[1].now += 99
        desks[1].sender.step()
        assert desks[1].ear.heard == []


def test_a_target_that_is_away_is_tried_later_and_later_and_loses_nothing(desk: Desk) -> None:
    desk.happen(a="CC", b="XX", c="FF")
    desk.ear.errors = [DeliveryError("away")] * 4
    tried = []
    for _ in range(200):
        before = len(desk.counts)
        desk.sender.step()
        if len(desk.counts) > before:
            tried.append(desk.now - 1e6)
        desk.now += 0.5
    assert tried[:5] == [0, 1, 3, 7, 15]
    assert desk.ear.heard[:3] == [("open", 1)] * 3
    assert desk.counts[:4] == [("failed", 2)] * 4


def test_what_a_target_will_never_take_does_not_stand_in_the_way(desk: Desk) -> None:
    desk.happen(a="CC", b="XX", c="FF")
    desk.ear.errors = [RefusedError("bad")]
    desk.sender.step()
    assert desk.ear.heard == [("open", 1)]
    assert desk.counts == [("failed", 2), ("sent", 1)]


def test_the_thread_goes_on_whatever_happens(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    desk.happen(a="CC")
    due, errors = desk.storage.due, [AwayError("away"), ValueError("a defect")]

    def failing(*arguments: Any) -> list[Due]:
        desk.now += 10
        if errors:
            raise errors.pop(0)
        return due(*arguments)

    monkeypatch.setattr(desk.storage, "due", failing)
    stop = threading.Event()
    thread = threading.Thread(target=desk.sender.run, args=[stop])
    thread.start()
    while not desk.ear.heard and thread.is_alive():
        desk.sender.wake()
        desk.now += 1
        stop.wait(0.01)
    stop.set()
    thread.join()
    assert desk.ear.heard[0] == ("open", 1)
    assert {"alerts wait", "alerts not sent"} <= {record.message for record in caplog.records}


def test_a_clock_that_was_set_back_keeps_nobody_from_being_told(desk: Desk) -> None:
    desk.happen(a="CC")
    desk.sender.step()
    desk.ear.errors = [DeliveryError("no answer")]
    desk.happen(b="XX")
    desk.sender.step()
    desk.now -= 3600
    desk.sender.step()
    assert desk.ear.heard[1:] == [("open", 1), ("open", 1)]
    assert desk.sender.waiting == 0


def test_of_several_processes_one_tells_a_target_until_it_has_ended(tmp_path: Path) -> None:
    with closing(Store(f"sqlite:///{tmp_path / 'classes.sqlite'}")) as store:
        store.prepare()
        desks = [Desk(IncidentStore(store)) for _ in range(2)]
        desks[0].happen(a="CC")
        desks[1].start = 2000
        desks[1].happen(b="XX")
        for _ in range(3):
            for desk in desks:
                desk.now += 20
                desk.sender.step()
        assert [len(desk.ear.heard) for desk in desks] == [2, 0]
        desks[1].happen(b="....")  # and the other one has ended
        desks[1].now += 31
        desks[1].sender.step()
        assert ("closed", 2) in desks[1].ear.heard
