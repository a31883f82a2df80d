from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from models import Bundle
from service.observability.counters import ProcessStatus
from service.observability.metrics import Metrics
from service.observability.multiprocess import FOLDER

Samples = dict[tuple[str, tuple[str, ...]], float]

FAMILIES = {
    "faultcube_alerts_failed": "counter",
    "faultcube_alerts_queued": "gauge",
    "faultcube_alerts_sent": "counter",
    "faultcube_assembled": "counter",
    "faultcube_bundle_info": "gauge",
    "faultcube_bundle_refused": "counter",
    "faultcube_bundle_source_up": "gauge",
    "faultcube_bundle_swaps": "counter",
    "faultcube_classes_revision": "gauge",
    "faultcube_distance": "histogram",
    "faultcube_drift": "gauge",
    "faultcube_drift_records": "gauge",
    "faultcube_enrolled_classes": "gauge",
    "faultcube_held_bytes": "gauge",
    "faultcube_incidents_closed": "counter",
    "faultcube_incidents_open": "gauge",
    "faultcube_incidents_opened": "counter",
    "faultcube_inference_seconds": "histogram",
    "faultcube_points": "counter",
    "faultcube_points_queued": "gauge",
    "faultcube_queue_requests": "gauge",
    "faultcube_ready": "gauge",
    "faultcube_records": "counter",
    "faultcube_rejected_requests": "counter",
    "faultcube_request_seconds": "histogram",
    "faultcube_requests": "counter",
    "faultcube_samples_rejected": "counter",
    "faultcube_store_up": "gauge",
    "faultcube_store_writable": "gauge",
    "faultcube_shadow_agreed": "counter",
    "faultcube_shadow_records": "counter",
    "faultcube_shadow_skipped": "counter",
    "faultcube_verdicts": "counter",
    "process_cpu_seconds": "counter",
    "process_max_fds": "gauge",
    "process_open_fds": "gauge",
    "process_resident_memory_bytes": "gauge",
    "process_start_time_seconds": "gauge",
    "process_virtual_memory_bytes": "gauge",
}
LABELS = {
    "faultcube_bundle_info": {"name", "version"},
    "faultcube_incidents_closed": {"label"},
    "faultcube_incidents_opened": {"label"},
    "faultcube_points": {"format"},
    "faultcube_rejected_requests": {"reason"},
    "faultcube_request_seconds": {"route", "le"},
    "faultcube_requests": {"route", "status"},
    "faultcube_samples_rejected": {"format"},
    "faultcube_verdicts": {"label"},
}


def samples_of(text: str) -> Samples:
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(client: TestClient) -> Samples:
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    return samples_of(response.text)


def test_every_metric_has_its_kind_its_labels_and_a_meaning(
    client: TestClient, good: dict[str, Any]
) -> None:
    client.post("/classify", json={"records": [good]})
    client.post("/classify", content="{")
    families = list(text_string_to_metric_families(client.get("/metrics").text))
    assert {family.name: family.type for family in families} == FAMILIES
    assert all(len(family.documentation) > 10 for family in families)
    for family in families:
        expected = LABELS.get(family.name, {"le"} if family.type == "histogram" else set())
        assert {label for sample in family.samples for label in sample.labels} == expected


def test_requests_records_and_verdicts_are_counted(
    client: TestClient, good: dict[str, Any], unknown: dict[str, Any]
) -> None:
    client.post("/classify", json={"records": [good, good, unknown]})
    client.post("/classify", json={"records": [good]})
    client.post("/embed", json={"records": [good]})
    samples = scrape(client)
    assert samples["faultcube_requests_total", ("/classify", "200")] == 2
    assert samples["faultcube_request_seconds_count", ("/embed",)] == 1
    assert samples["faultcube_inference_seconds_count", ()] == 3
    assert samples["faultcube_records_total", ()] == 5
    assert samples["faultcube_verdicts_total", ("normal",)] == 4
    assert samples["faultcube_verdicts_total", ("unknown",)] == 1
    assert samples["faultcube_verdicts_total", ("overload",)] == 0


def test_distances_are_counted_in_their_buckets(
    client: TestClient, good: dict[str, Any], unknown: dict[str, Any]
) -> None:
    answer = client.post("/classify", json={"records": [good, good, unknown]}).json()
    distances = [result["distance"] for result in answer["results"]]
    samples = scrape(client)
    for end in ("0.001", "0.05", "0.2", "1"):
        below = sum(distance <= float(end) for distance in distances)
        assert samples["faultcube_distance_bucket", (end,)] == below
    assert samples["faultcube_distance_bucket", ("+Inf",)] == 3
    assert samples["faultcube_distance_sum", ()] == pytest.approx(sum(distances))


def test_refusals_are_counted_by_reason(client: TestClient) -> None:
    client.post("/classify", content="{")
    client.post("/classify", json={"records": []})
    client.post("/classify", content="{}", headers={"Content-Type": "text/html"})
    client.get("/classify")
    samples = scrape(client)
    for reason in ("unreadable", "unfit", "unspoken", "wrong_method"):
        assert samples["faultcube_rejected_requests_total", (reason,)] == 1
    assert samples["faultcube_requests_total", ("/classify", "405")] == 1


def test_paths_that_anyone_can_invent_are_one_label(client: TestClient) -> None:
    for number in range(20):
        client.get(f"/{number}")
        client.get(f"/docs/{number}")
        client.request(f"M{number}", "/livez")
    samples = scrape(client)
    assert samples["faultcube_requests_total", ("none", "404")] == 40
    routes = {labels[0] for name, labels in samples if name == "faultcube_requests_total"}
    assert routes == {"none", "/readyz", "/livez"}


def test_the_bundle_and_readiness_are_told(client: TestClient) -> None:
    version = client.get("/readyz").json()["bundle"]["version"]
    samples = scrape(client)
    assert samples["faultcube_bundle_info", ("toy", version)] == 1
    assert samples["faultcube_ready", ()] == 1
    assert samples["faultcube_bundle_swaps_total", ()] == 0
    assert samples["faultcube_bundle_refused_total", ()] == 0


def test_only_the_bundle_that_is_served_now_is_told_and_counts_go_on(bundle: Path) -> None:
    metrics, manifest = Metrics(), Bundle.read(bundle).manifest
    metrics.show_bundle(manifest)
    metrics.counters.verdicts["normal"] += 2
    metrics.show_bundle(manifest.model_copy(update={"version": "f" * 16}))
    samples = samples_of(metrics.text().decode())
    told = [labels for name, labels in samples if name == "faultcube_bundle_info"]
    assert told == [("toy", "f" * 16)]
    assert samples["faultcube_verdicts_total", ("normal",)] == 2


def test_nothing_is_ready_before_a_bundle_is_loaded() -> None:
    assert b"faultcube_ready 0.0" in Metrics().text()


def test_what_waits_and_what_is_held_is_asked_when_it_is_told() -> None:
    metrics = Metrics()
    metrics.status = lambda: ProcessStatus(queue=3, held=4096)
    samples = samples_of(metrics.text().decode())
    assert samples["faultcube_queue_requests", ()] == 3
    assert samples["faultcube_held_bytes", ()] == 4096


def test_two_applications_do_not_share_counters() -> None:
    first, second = Metrics(), Metrics()
    first.counters.records += 5
    assert b"faultcube_records_total 5.0" in first.text()
    assert b"faultcube_records_total 0.0" in second.text()


@pytest.mark.skipif(
    not shutil.which("promtool"), reason="promtool is not installed (Debian: prometheus)"
)
def test_promtool_finds_nothing_to_complain_about(client: TestClient, good: dict[str, Any]) -> None:
    client.post("/classify", json={"records": [good]})
    client.post("/classify", content="{")
    text = client.get("/metrics").text
    lint = subprocess.run(
        ["promtool", "check", "metrics"], input=text, text=True, capture_output=True, check=False
    )
    assert (lint.returncode, lint.stdout, lint.stderr) == (0, "", "")


# Several workers.


@contextmanager
def serving(bundle: Path, **settings: object) -> Iterator[tuple[str, int]]:
    """Serve in processes of their own; gives the address and the parent of all."""
    variables = {f"FAULTCUBE_{name.upper()}": str(value) for name, value in settings.items()}
    process = subprocess.Popen(
        [Path(sys.executable).with_name("faultcube"), "serve", bundle, "--port", "0"],
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        greeting = process.stdout.readline()
        found = re.search(r"http://[\d.]+:\d+", greeting)
        assert found, greeting
        yield found.group(), process.pid
    finally:
        process.terminate()
        process.communicate(timeout=60)


def get(url: str) -> Samples:
    """Scrape on a connection of its own: whichever worker takes it answers."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
        return samples_of(answer.read().decode())


def post(url: str, records: list[dict[str, Any]]) -> None:
    """Classify records, on a connection of its own."""
    body = json.dumps({"records": records}).encode()
    headers = {"Content-Type": "application/json"}
    asked = urllib.request.Request(f"{url}/classify", body, headers)
    with urllib.request.urlopen(asked, timeout=30) as answer:
        assert answer.status == 200


def eventually(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def workers_of(parent: int) -> set[int]:
    """The processes that serve; a parent has one more, which looks after semaphores."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return {int(pid) for pid in children if _command(pid).find(b"spawn_main") >= 0}


def _command(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has ended meanwhile
        return b""


def test_one_of_several_workers_tells_of_all_and_none_is_forgotten_when_it_dies(
    bundle: Path, good: dict[str, Any]
) -> None:
    with serving(bundle, workers=3) as (url, parent):
        eventually(lambda: get(url)["faultcube_ready", ()] == 1)
        for _ in range(60):
            post(url, [good] * 2)
        total = "faultcube_records_total", ()
        eventually(lambda: get(url)[total] == 120)
        assert {get(url)[total] for _ in range(12)} == {120}
        victim = min(workers_of(parent))
        os.kill(victim, signal.SIGKILL)
        assert {get(url)[total] for _ in range(12)} == {120}
        eventually(lambda: victim not in workers_of(parent) and len(workers_of(parent)) == 3)
        post(url, [good])
        eventually(lambda: get(url)[total] == 121)
        samples = get(url)
        told = [labels for name, labels in samples if name == "faultcube_bundle_info"]
        assert [name for name, _version in told] == ["toy"]
        assert samples["faultcube_requests_total", ("/classify", "200")] == 61


def test_workers_whose_parent_was_killed_leave_nothing_behind(bundle: Path) -> None:
    with serving(bundle, workers=2) as (_url, parent):
        eventually(lambda: len(workers_of(parent)) == 2)
        workers = workers_of(parent)
        environment = Path(f"/proc/{min(workers)}/environ").read_bytes().decode().split("\0")
        folder = Path(dict(line.split("=", 1) for line in environment if line)[FOLDER])
        assert list(folder.glob("*.report"))
        os.kill(parent, signal.SIGKILL)
        eventually(lambda: not folder.exists() and not any(_command(str(pid)) for pid in workers))
