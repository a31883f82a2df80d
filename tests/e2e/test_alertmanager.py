"""A real Alertmanager: what it is told of incidents, and what it tells others."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx2
import pytest

from service.classes.database import Store
from service.incidents.storage import Query
from service.incidents.store import IncidentStore
from tests.support.alerting import RUN
from tests.support.receiver import Receiver, receiving

CONFIG = """
route: {{receiver: desk, group_by: [incident], group_wait: 0s, group_interval: 1s}}
receivers:
  - name: desk
    webhook_configs: [{{url: "{url}", send_resolved: true}}]
"""


@contextmanager
def alertmanager(folder: Path, receiver: Receiver) -> Iterator[str]:
    """An Alertmanager that notifies the receiver; skipped where it is not installed."""
    program = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if program is None:
        pytest.skip("Alertmanager is not installed: apt-get install prometheus-alertmanager")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    (folder / "alertmanager.yml").write_text(CONFIG.format(url=receiver.url), encoding="utf-8")
    line = [
        program,
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",
    ]
    log = (folder / "alertmanager.log").open("wb")
    with log, subprocess.Popen(line, stdout=log, stderr=log) as process:
        try:
            url, latest = f"http://{address}", time.monotonic() + 60
            while True:
                try:
                    if httpx2.get(f"{url}/-/ready").status_code == 200:
                        break
                except httpx2.TransportError:
                    assert time.monotonic() < latest
                assert process.poll() is None
                time.sleep(0.05)
            yield url
        finally:
            process.terminate()


@contextmanager
def observing(database: str, alertmanager: str, last: int) -> Iterator[None]:
    """A process that has observed the run up to a record, and is killed in the end."""
    words = [sys.executable, "-m", "tests.support.alerting", database, alertmanager, str(last)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(words, cwd=root, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"observed\n"
            yield
        finally:
            process.send_signal(signal.SIGKILL)


def notified(receiver: Receiver) -> list[tuple[str, str, str]]:
    """Incident, status and fingerprint of every alert that was notified."""
    return [
        (alert["labels"]["incident"], alert["status"], alert["fingerprint"])
        for request in receiver.requests
        for alert in request.document["alerts"]
    ]


def test_each_incident_is_one_alert_that_fires_and_resolves_whenever_the_service_is_killed(
    tmp_path: Path,
) -> None:
    database = f"sqlite:///{tmp_path / 'classes.sqlite'}"
    with receiving() as receiver, alertmanager(tmp_path, receiver) as url:
        for last in (23, 32, 50):  # killed before it can have told anybody, mostly
            with observing(database, url, last):
                pass
        with observing(database, url, 60):
            receiver.wait(lambda requests: len(requests) == 3)
        assert {status for _, status, _ in notified(receiver)} == {"firing"}
        with observing(database, url, len(RUN)):
            receiver.wait(lambda requests: len(requests) == 6)
            time.sleep(3)  # nothing else is told, however long one waits
    with closing(Store(database)) as store:
        kept = [found.incident for found in IncidentStore(store).find(Query())]
    assert {(i.root, i.status) for i in kept} == {(root, "closed") for root in "acd"}
    told = notified(receiver)
    assert sorted((id_, status) for id_, status, _ in told) == sorted(
        (incident.id, status) for incident in kept for status in ("firing", "resolved")
    )
    assert len({fingerprint for _, _, fingerprint in told}) == 3
    assert len({(id_, fingerprint) for id_, _, fingerprint in told}) == 3
