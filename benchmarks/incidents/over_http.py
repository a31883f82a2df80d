"""The recorded points of the runs, sent to a running service as Telegraf sends them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from benchmarks.harness.server import Server, free_port
from benchmarks.incidents.measure import Outcome, matched
from benchmarks.incidents.runs import Run
from models.telemetry.mapping import Mapping
from service.incidents.incident import Incident
from service.offline.replay import Recording, Sender

_LONGEST = 60.0
"""Seconds for what is queued."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What was sent.

    Attributes:
        points: how many.
        records: that the service made of them.
        seconds: until all were judged.
        outcomes: of the runs.
    """

    points: int
    records: int
    seconds: float
    outcomes: list[Outcome]


def send(runs: Sequence[Run], raw: Path, bundle: Path, rules: Path) -> Sent:
    """Send a table of raw points to a service of a bundle and a mapping, on a core of its own.

    Raises:
        ReplayError: the table cannot be read, or the service refuses it.
        ServerError: the service does not start.
    """
    recording = Recording(raw, Mapping.read(rules))
    port = free_port()
    command = [str(Path(sys.executable).parent / "faultcube"), "serve", str(bundle.resolve())]
    with TemporaryDirectory() as folder:
        state = {"FAULTCUBE_DATABASE_URL": f"sqlite:///{folder}/classes.sqlite"}
        state["FAULTCUBE_MAPPING"] = str(rules.resolve())
        more = {"FAULTCUBE_JOURNAL": f"{folder}/journal", "FAULTCUBE_PORT": str(port)}
        server = Server.start(command, port, Path(folder), state | more)
        with server, closing(Sender(f"http://127.0.0.1:{port}")) as sender:
            server.wait_until_ready()
            sender.wait(_LONGEST)
            begin, points = time.perf_counter(), 0
            for body in recording.bodies():
                sender.send(body)
                points += body.points
            records = _settled(sender)
            seconds = time.perf_counter() - begin
            told = [*_incidents(sender)]
    return Sent(points, records, seconds, [_outcome(run, told) for run in runs])


def _settled(sender: Sender) -> int:
    """Wait until every point is judged; returns how many records they made."""
    end, before = time.monotonic() + _LONGEST, -1
    while time.monotonic() < end:
        status = cast("dict[str, Any]", sender.get("/ingest/status"))
        records = int(status["points"]["records"])
        if status["queued"] == 0 and records == before:
            return records
        before = records
        time.sleep(1)
    raise SystemExit("the service has not judged all points within a minute")


def _incidents(sender: Sender) -> Iterator[Incident]:
    """Yield all incidents, with the time of their first change as that at which they were told."""
    cursor = ""
    while True:
        page = cast("dict[str, Any]", sender.get(f"/incidents?most=100{cursor}"))
        for shown in page["incidents"]:
            whole = cast("dict[str, Any]", sender.get(f"/incidents/{shown['id']}"))
            told = min(_seconds(c["time"]) for c in whole["history"] if c["kind"] == "opened")
            yield Incident(
                shown["id"],
                shown["label"],
                shown["severity"],
                _seconds(shown["first"]),
                _seconds(shown["last"]),
                shown["root"],
                told=told,
                counts=shown["counts"],
            )
        if "next" not in page:
            return
        cursor = f"&cursor={page['next']}"


def _outcome(run: Run, incidents: Sequence[Incident]) -> Outcome:
    first, last = run.judged.times[0], run.judged.times[-1]
    mine = [each for each in incidents if first <= each.first <= last]
    bad = sum(sum(each.counts.values()) for each in mine)
    return Outcome(run, mine, matched(run.events, mine), bad)


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
