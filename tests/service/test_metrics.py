from __future__ import annotations

import shutil
import subprocess
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from service.metrics import Metrics

Samples = dict[tuple[str, tuple[str, ...]], float]


def scrape(client: TestClient) -> Samples:
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = text_string_to_metric_families(response.text)
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


def test_requests_records_and_verdicts_are_counted(
    client: TestClient, good: dict[str, Any], unknown: dict[str, Any]
) -> None:
    client.post("/classify", json={"records": [good, good, unknown]})
    client.post("/embed", json={"records": [good]})
    samples = scrape(client)
    assert samples["faultcube_requests_total", ("/classify", "200")] == 1
    assert samples["faultcube_request_seconds_count", ("/embed",)] == 1
    assert samples["faultcube_records_total", ()] == 4
    assert samples["faultcube_verdicts_total", ("normal",)] == 2
    assert samples["faultcube_verdicts_total", ("unknown",)] == 1
    assert samples["faultcube_verdicts_total", ("overload",)] == 0


def test_refusals_are_counted_by_reason(client: TestClient) -> None:
    client.post("/classify", content="{")
    client.post("/classify", json={"records": []})
    client.post("/classify", content="{}", headers={"Content-Type": "text/html"})
    client.get("/classify")
    samples = scrape(client)
    for reason in ("not_json", "unfit", "unspoken", "wrong_method"):
        assert samples["faultcube_rejected_requests_total", (reason,)] == 1
    assert samples["faultcube_requests_total", ("/classify", "405")] == 1


def test_paths_that_anyone_can_invent_are_one_label(client: TestClient) -> None:
    for number in range(20):
        client.get(f"/{number}")
        client.get(f"/docs/{number}")
    samples = scrape(client)
    assert samples["faultcube_requests_total", ("none", "404")] == 40
    routes = {labels[0] for name, labels in samples if name == "faultcube_requests_total"}
    assert routes == {"none", "/readyz"}


def test_the_bundle_and_readiness_are_told(client: TestClient) -> None:
    version = client.get("/readyz").json()["bundle"]["version"]
    samples = scrape(client)
    assert samples["faultcube_bundle_info", ("toy", version)] == 1
    assert samples["faultcube_ready", ()] == 1


def test_nothing_is_ready_before_a_bundle_is_loaded() -> None:
    assert b"faultcube_ready 0.0" in Metrics().text()


def test_two_applications_do_not_share_counters() -> None:
    first, second = Metrics(), Metrics()
    first.records.inc(5)
    assert b"faultcube_records_total 5.0" in first.text()
    assert b"faultcube_records_total 0.0" in second.text()


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_promtool_finds_nothing_to_complain_about(client: TestClient, good: dict[str, Any]) -> None:
    client.post("/classify", json={"records": [good]})
    client.post("/classify", content="{")
    text = client.get("/metrics").text
    lint = subprocess.run(
        ["promtool", "check", "metrics"], input=text, text=True, capture_output=True, check=False
    )
    assert (lint.returncode, lint.stdout, lint.stderr) == (0, "", "")
