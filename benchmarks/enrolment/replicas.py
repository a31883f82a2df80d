"""How soon another replica knows a class that one has learned."""

from __future__ import annotations

import json
import statistics
import time

from benchmarks.enrolment.client import AdminClient, enrolling_service, records
from benchmarks.enrolment.options import Options
from benchmarks.harness.client import ServerError
from benchmarks.harness.postgres import Postgres
from benchmarks.harness.report import Section, below, info, progress

TITLE = "From one replica to another"
_MAX_SECONDS = 1.0
_WAIT_SECONDS = 30.0
_TEXT = """\
Two `faultcube serve` processes on one PostgreSQL database, which syncs what it writes; both, and
the database, share the cores of this machine. A class is enrolled from one record, at the one and
at the other replica in turn, at a random moment of their looks at the database. From the 201 on the
other replica is asked to classify that record, as often as it answers, until its
`Faultcube-Revision` is that of the enrolment."""


def measure(options: Options) -> Section:
    """Enrol at one replica, and ask the other."""
    waits, requests = [], []
    with Postgres.running() as server:
        url = server.database()
        with (
            enrolling_service(options.folder / "one", url) as one,
            enrolling_service(options.folder / "other", url) as other,
            AdminClient(one.port) as first,
            AdminClient(other.port) as second,
        ):
            for number in range(options.times):
                here, there = (first, second) if number % 2 == 0 else (second, first)
                wait, looks = _enrol_and_wait(here, there, number, options.times)
                waits.append(wait)
                requests.append(looks)
                time.sleep(0.05 + 0.25 * (number * 0.618 % 1))
    middle = statistics.median(waits)
    progress(f"replicas: median {middle:.3f} s, longest {max(waits):.3f} s")
    figures = [
        info("enrolments", f"{len(waits)}"),
        info("until the other replica answers with it, median", f"{1e3 * middle:.0f} ms"),
        below("the same, longest", 1e3 * max(waits), 1e3 * _MAX_SECONDS, "ms"),
        info("questions until then, median", f"{statistics.median(requests):g}"),
    ]
    return Section(TITLE, _TEXT, figures)


def _enrol_and_wait(
    here: AdminClient, there: AdminClient, number: int, times: int
) -> tuple[float, int]:
    """Return seconds from the 201 of one to an answer of the other, and requests until then."""
    record = records(times)[number]
    body = json.dumps({"records": [record]}).encode()
    answer = here.enrol(f"class-{number}", record, force=True).expect(201)
    begin = time.perf_counter()
    looks = 0
    while time.perf_counter() - begin < _WAIT_SECONDS:
        looks += 1
        if there.ask("POST", "/classify", body).revision >= answer.content["revision"]:
            return time.perf_counter() - begin, looks
        time.sleep(0.001)
    raise ServerError(f"the other replica does not know of it after {_WAIT_SECONDS:g} s")
