"""Services that are killed while classes are enrolled: what was acknowledged is there again."""

from __future__ import annotations

import http.client
import random
import signal
import threading
import time
from dataclasses import dataclass, field, replace
from itertools import count

from benchmarks.enrolment.client import AdminClient, Record, enrolling_service, records
from benchmarks.enrolment.database import records_by_class
from benchmarks.enrolment.options import Options
from benchmarks.harness.client import ServerError
from benchmarks.harness.postgres import Postgres
from benchmarks.harness.process import send
from benchmarks.harness.report import Figure, Section, info, none_of, progress
from benchmarks.harness.server import Server

TITLE = "Kills"
_MAX_SECONDS = 0.6
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
        acknowledged, sent: record of each class that was answered with 201, or sent.
        missing: classes that were acknowledged and not listed, at any time.
        strangers: classes that are listed and were never sent.
        hit: kills that left a request without an answer.
    """

    acknowledged: dict[str, Record] = field(default_factory=dict)
    sent: dict[str, Record] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    strangers: set[str] = field(default_factory=set)
    unanswered: int = 0
    kills: int = 0
    hit: int = 0

    def compare(self, names: set[str]) -> None:
        """Compare with the names of the enrolled classes that the service lists."""
        self.missing |= self.acknowledged.keys() - names
        self.strangers |= names - self.sent.keys()
        self.unanswered = len(names - self.acknowledged.keys())


def measure(options: Options) -> Section:
    """Kill services with each kind of database."""
    file = options.folder / "classes.sqlite"
    figures = _killed("SQLite", f"sqlite:///{file}", options)
    with Postgres.running() as server:
        figures += _killed("PostgreSQL", server.database(), options)
    return Section(TITLE, _TEXT.format(longest=_MAX_SECONDS), figures)


def _killed(kind: str, url: str, options: Options) -> list[Figure]:
    tally, chance, begin = Tally(), random.Random(1), time.monotonic()
    folder = options.folder / kind
    for number in range(options.kills + 1):
        with enrolling_service(folder, url, settings={"max_classes": "10000"}) as service:
            with AdminClient(service.port) as client:
                listed = client.classes().content
                names = {row["name"] for row in listed["classes"] if row["source"] == "enrolled"}
                tally.compare(names)
                if listed["revision"] != len(names):
                    raise ServerError(f"{len(names)} classes at revision {listed['revision']}")
                if number == options.kills:
                    break
                _enrol_until_killed(service, client, tally, chance.uniform(0, _MAX_SECONDS))
            service.process.wait(30)
        if number % 10 == 9:
            kept = f"{len(tally.acknowledged):,} acknowledged, {len(tally.missing)} missing"
            progress(f"kills: {kind}, {number + 1}/{options.kills}, {kept}")
    acknowledged, extra = len(tally.acknowledged), max(0, tally.unanswered - tally.hit)
    what = "more classes that were not acknowledged than requests under way"
    figures = [
        info("kills", f"{tally.kills} in {time.monotonic() - begin:.0f} s"),
        info("of them with a request under way", f"{tally.hit}"),
        none_of("acknowledged enrolments that are not there", len(tally.missing), acknowledged),
        none_of("acknowledged enrolments with another record", _changed(url, tally), acknowledged),
        none_of(what, extra, tally.kills),
        none_of("classes that nobody sent", len(tally.strangers), len(tally.sent)),
        info("under way, not acknowledged, and there", f"{tally.unanswered}"),
    ]
    return [replace(figure, what=f"{kind}: {figure.what}") for figure in figures]


def _enrol_until_killed(service: Server, client: AdminClient, tally: Tally, delay: float) -> None:
    """Enrol one class after the other until the service is killed."""
    killer = threading.Timer(delay, send, [service.pids, signal.SIGKILL])
    killer.start()
    try:
        for number in count():
            name = f"class-{tally.kills}-{number}"
            record = records(_RECORDS)[len(tally.sent) % _RECORDS]
            tally.sent[name] = record
            client.enrol(name, record, force=True).expect(201)
            tally.acknowledged[name] = record
    except (OSError, http.client.HTTPException):
        tally.hit += 1
    finally:
        killer.join()
        tally.kills += 1


def _changed(url: str, tally: Tally) -> int:
    """Count the acknowledged classes that have another record than was sent."""
    kept = records_by_class(url)
    return sum(kept.get(name) != [record] for name, record in tally.acknowledged.items())
