"""How soon a class that one replica learns is known by another one."""

from __future__ import annotations

import json
import statistics
import time

from benchmarks.enrolment.stage import Desk, Plan, postgres, records, serving
from benchmarks.harness.report import Section, below, told
from benchmarks.harness.server import ServerError
from benchmarks.serving.rounds import say

TITLE = "From one replica to another"
_MOST_SECONDS = 1.0
_PATIENCE = 30.0
_TEXT = """\
Two `faultcube serve` processes on one PostgreSQL database, which syncs what it writes; both, and
the database, share the cores of this machine. A class is enrolled from one record, at the one and
at the other replica in turn, at a random moment of their looks at the database. From the 201 on the
other replica is asked to classify that record, as often as it answers, until its
`Faultcube-Revision` is that of the enrolment."""


def measure(plan: Plan) -> Section:
    """Enrol at one, and ask the other."""
    waits, asked = [], []
    with postgres() as server:
        url = server.database()
        with (
            serving(plan.folder / "one", url) as one,
            serving(plan.folder / "other", url) as other,
            Desk(one.port) as first,
            Desk(other.port) as second,
        ):
            for number in range(plan.times):
                here, there = (first, second) if number % 2 == 0 else (second, first)
                wait, looks = _one(here, there, number, plan.times)
                waits.append(wait)
                asked.append(looks)
                time.sleep(0.05 + 0.25 * (number * 0.618 % 1))
    say(f"replicas: median {statistics.median(waits):.3f} s, longest {max(waits):.3f} s")
    return Section(
        TITLE,
        _TEXT,
        [
            told("enrolments", f"{len(waits)}"),
            told("until the other replica answers with it, median", _ms(waits)),
            below("the same, longest", 1e3 * max(waits), 1e3 * _MOST_SECONDS, "ms"),
            told("questions until then, median", f"{statistics.median(asked):g}"),
        ],
    )


def _ms(waits: list[float]) -> str:
    return f"{1e3 * statistics.median(waits):.0f} ms"


def _one(here: Desk, there: Desk, number: int, times: int) -> tuple[float, int]:
    """Seconds from the 201 of one to an answer of the other, and how often it was asked."""
    record = records(times)[number]
    body = json.dumps({"records": [record]}).encode()
    answer = here.enrol(f"class-{number}", record, force=True)
    begin = time.perf_counter()
    if answer.status != 201:
        raise ServerError(f"answers {answer.status} to an enrolment: {answer.content}")
    looks = 0
    while time.perf_counter() - begin < _PATIENCE:
        looks += 1
        if there.ask("POST", "/classify", body).revision >= answer.content["revision"]:
            return time.perf_counter() - begin, looks
        time.sleep(0.001)
    raise ServerError(f"the other replica does not know of it after {_PATIENCE:g} s")
