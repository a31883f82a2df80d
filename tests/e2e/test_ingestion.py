"""Points over HTTP become incidents: the same ones, however often the service is killed."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest

from service.offline.replay import Body, Recording, ReplayError, Sender
from tests.support.excerpt import bodies_of_the_excerpt, recording_of_the_excerpt
from tests.support.running import Running, environment, eventually, running

ROOT = Path(__file__).parents[2]
PROGRAM = Path(sys.executable).parent / "faultcube"
KILLS = 20


@pytest.fixture(scope="module")
def recording() -> Recording:
    return recording_of_the_excerpt()


@pytest.fixture(scope="module")
def bodies(once: Callable[..., Any]) -> list[Body]:
    """What a collector would send."""
    return bodies_of_the_excerpt(once)


@contextmanager
def service(folder: Path, workers: int = 1) -> Iterator[tuple[Running, str]]:
    """Serve the model that ships, with a database and a journal in a folder."""
    env = environment(
        FAULTCUBE_DATABASE_URL=f"sqlite:///{folder}/classes.sqlite",
        FAULTCUBE_JOURNAL=str(folder / "journal"),
        FAULTCUBE_WORKERS=str(workers),
    )
    command = f"{PROGRAM} serve --port 0"
    with running(command, cwd=ROOT, env=env, seconds=60) as (process, url):
        yield process, url


def told(url: str) -> list[tuple[Any, ...]]:
    """What is known of every incident, but for the times of day when it was written."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = httpx2.get(f"{url}/incidents?most=100{cursor}", timeout=30).json()
        found += page["incidents"]
        if "next" not in page:
            break
        cursor = f"&cursor={page['next']}"
    names = ("id", "label", "root", "status", "first", "last", "ended", "sequence", "counts")
    return sorted(tuple(str(incident.get(name)) for name in names) for incident in found)


def settled(url: str) -> dict[str, Any]:
    """Wait until every point has become a verdict, and return the status."""

    def look() -> dict[str, Any] | None:
        answer = httpx2.get(f"{url}/ingest/status", timeout=30)
        status: dict[str, Any] = answer.json()
        if answer.is_success and status["queued"] == 0 and "refused" not in status:
            return status
        return None

    eventually(look, seconds=60)
    time.sleep(1.5)  # more than the wait of the mapping
    return eventually(look, seconds=60)


@pytest.fixture(scope="module")
def undisturbed(
    recording: Recording, bodies: list[Body], tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[Any, ...]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    with service(folder) as (_, url), closing(Sender(url)) as sender:
        for body in bodies:
            sender.send(body)
        status = settled(url)
        assert status["points"]["records"] == len(recording)
        assert status["receivers"]["telegraf"]["refused"] == {}
        return told(url)


def test_an_excerpt_becomes_incidents(undisturbed: list[tuple[Any, ...]]) -> None:
    clears = [incident for incident in undisturbed if incident[1] == "bgp_clear"]
    assert {incident[2] for incident in clears} == {"leaf1", "leaf6"}  # who was cleared
    assert all(incident[3] == "closed" for incident in undisturbed)


def test_twenty_kills_change_no_incident(
    recording: Recording,
    bodies: list[Body],
    undisturbed: list[tuple[Any, ...]],
    tmp_path: Path,
) -> None:
    draw = random.Random(0)
    kills = sorted(draw.sample(range(len(bodies)), KILLS))
    at = 0
    for kill in [*kills, len(bodies)]:
        with service(tmp_path) as (process, url), closing(Sender(url)) as sender:
            eventually(lambda: _ready(url), seconds=60)
            while at < kill:
                sender.send(bodies[at])
                at += 1
            if kill < len(bodies):
                with suppress(ReplayError):  # in the middle of a request, some of the time
                    if draw.random() < 0.5:
                        time.sleep(draw.random())
                    os.killpg(process.process.pid, signal.SIGKILL)
                    sender.send(bodies[at])
                process.process.wait(10)
                continue
            status = settled(url)
            assert status["points"]["resets"] == 0
            assert status["points"]["records"] == len(recording)
            assert told(url) == undisturbed


def test_workers_share_ingestion_though_each_of_them_is_killed(
    bodies: list[Body], undisturbed: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    with service(tmp_path, workers=2) as (process, url):
        eventually(lambda: _ready(url), seconds=60)
        workers = _children(process.process.pid)
        kills = dict(zip((len(bodies) // 3, len(bodies) * 2 // 3), workers, strict=True))
        for at, body in enumerate(bodies):
            if at in kills:
                os.kill(kills[at], signal.SIGKILL)
            eventually(lambda: _sent(url, body), seconds=60)  # noqa: B023 - called at once
        status = settled(url)
        assert status["points"]["resets"] == 0
        assert told(url) == undisturbed


def _children(pid: int) -> list[int]:
    """The workers of a service; Python's own helper process is none."""
    found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [child for child in found if b"resource_tracker" not in _command(child)]


def _command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def _sent(url: str, body: Body) -> bool | None:
    """Send a body on a connection of its own, so that any worker may get it."""
    with suppress(ReplayError), closing(Sender(url)) as sender:
        sender.send(body)
        return True
    return None


def _ready(url: str) -> bool | None:
    answer = httpx2.get(f"{url}/ingest/status", timeout=30)
    return (answer.is_success and "refused" not in answer.json()) or None
