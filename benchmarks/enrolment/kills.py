"""Services that are killed while classes are enrolled: what was acknowledged is there again."""

from __future__ import annotations

import http.client
import random
import signal
import threading
import time
from dataclasses import dataclass, field
from itertools import count

from benchmarks.enrolment.stage import Desk, Plan, Record, postgres, records, serving
from benchmarks.harness.process import send, tree
from benchmarks.harness.report import Figure, Section, none_of, told
from benchmarks.harness.server import Running, ServerError
from benchmarks.serving.rounds import say
from service.classes.database import Store

TITLE = "Kills"
_LONGEST = 0.6
_RECORDS = 500
_TEXT = """\
A client enrols classes over HTTP, each from one real record, one as soon as the other is answered.
At a random moment, up to {longest:g} s after it began, every process of `faultcube serve` gets
SIGKILL; the service is started again on the same database. Then every class that was ever
acknowledged with 201 must be listed by `GET /classes`, and no more than the one under way at each
kill besides; at the end each must have the record that was sent. PostgreSQL, like SQLite, syncs
what it writes; the database server itself goes on."""


@dataclass(slots=True)
class Tally:
    """What was sent to one database.

    Attributes:
        acknowledged: record of each class that was answered with 201.
        sent: record of each class that was sent.
        missing: classes that were acknowledged and not there, at any time.
        strangers: classes that are there and were never sent.
        kills: so far.
        hit: kills that left a request without an answer.
    """

    acknowledged: dict[str, Record] = field(default_factory=dict)
    sent: dict[str, Record] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    strangers: set[str] = field(default_factory=set)
    unanswered: int = 0
    kills: int = 0
    hit: int = 0

    def look(self, names: set[str]) -> None:
        """Compare with the names of the enrolled classes that are there."""
        self.missing |= self.acknowledged.keys() - names
        self.strangers |= names - self.sent.keys()
        self.unanswered = len(names - self.acknowledged.keys())


def measure(plan: Plan) -> Section:
    """Kill services of either kind of database."""
    file = plan.folder / "classes.sqlite"
    figures = _killed("SQLite", f"sqlite:///{file}", plan)
    with postgres() as server:
        figures += _killed("PostgreSQL", server.database(), plan)
    return Section(TITLE, _TEXT.format(longest=_LONGEST), figures)


def _killed(kind: str, url: str, plan: Plan) -> list[Figure]:
    tally, chance, begin = Tally(), random.Random(1), time.monotonic()
    folder = plan.folder / kind
    for number in range(plan.kills + 1):
        with serving(folder, url, settings={"max_classes": "10000"}) as service:
            with Desk(service.port) as desk:
                listed = desk.classes().content
                names = {e["name"] for e in listed["classes"] if e["source"] == "enrolled"}
                tally.look(names)
                if listed["revision"] != len(names):
                    raise ServerError(f"{len(names)} classes at revision {listed['revision']}")
                if number == plan.kills:
                    break
                _enrol_until_killed(service, desk, tally, chance.uniform(0, _LONGEST))
            service.process.wait(30)
        if number % 10 == 9:
            kept = f"{len(tally.acknowledged):,} acknowledged, {len(tally.missing)} missing"
            say(f"kills: {kind}, {number + 1}/{plan.kills}, {kept}")
    changed = _changed(url, tally)
    acknowledged = len(tally.acknowledged)
    seconds = time.monotonic() - begin
    return [
        told(f"{kind}: kills", f"{tally.kills} in {seconds:.0f} s"),
        told(f"{kind}: of them with a request under way", f"{tally.hit}"),
        none_of(f"{kind}: acknowledged enrolments that are not there", *_of(tally.missing, tally)),
        none_of(f"{kind}: acknowledged enrolments with another record", changed, acknowledged),
        none_of(
            f"{kind}: more classes that were not acknowledged than requests under way",
            max(0, tally.unanswered - tally.hit),
            tally.kills,
        ),
        none_of(f"{kind}: classes that nobody sent", len(tally.strangers), len(tally.sent)),
        told(f"{kind}: under way, not acknowledged, and there", f"{tally.unanswered}"),
    ]


def _of(some: set[str], tally: Tally) -> tuple[int, int]:
    return len(some), len(tally.acknowledged)


def _enrol_until_killed(service: Running, desk: Desk, tally: Tally, delay: float) -> None:
    """Enrol one after the other; the service is killed meanwhile."""
    pids = tree(service.process.pid)
    killer = threading.Timer(delay, send, [pids, signal.SIGKILL])
    killer.start()
    try:
        for number in count():
            name = f"class-{tally.kills}-{number}"
            record = records(_RECORDS)[len(tally.sent) % _RECORDS]
            tally.sent[name] = record
            answer = desk.enrol(name, record, force=True)
            if answer.status != 201:
                raise ServerError(f"answers {answer.status}: {str(answer.content)[:200]}")
            tally.acknowledged[name] = record
    except (OSError, http.client.HTTPException):
        tally.hit += 1
    finally:
        killer.join()
        tally.kills += 1


def _changed(url: str, tally: Tally) -> int:
    """How many classes that were acknowledged have another record than was sent."""
    store = Store(url)
    try:
        store.prepare()
        there = store.read().classes
    finally:
        store.close()
    kept = {name: [each.record for each in stored.records] for name, stored in there.items()}
    return sum(kept.get(name) != [record] for name, record in tally.acknowledged.items())
