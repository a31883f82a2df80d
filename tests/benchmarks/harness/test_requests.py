from __future__ import annotations

import json
from pathlib import Path

from benchmarks.harness.requests import batch, http, real_body, singles
from models import Model

SHIPPED = Path(__file__).parents[3] / "models" / "iosxr"


def test_real_records_are_taken_by_the_model_that_ships() -> None:
    records = json.loads(real_body(100))["records"]
    model = Model.load(SHIPPED)
    assert len(model.classify(records)) == 100
    assert len({verdict.label for verdict in model.classify(records)}) > 2


def test_single_records_differ_and_come_for_ever() -> None:
    requests = singles()
    bodies = [next(requests) for _ in range(200)]
    assert len(set(bodies)) > 20
    assert b"Connection: close" in next(singles(close=True))


def test_a_request_says_how_long_its_body_is() -> None:
    request = http("POST", "/embed", b"{}", {"Content-Type": "text/plain"})
    assert request.startswith(b"POST /embed HTTP/1.1\r\nContent-Type: text/plain\r\n")
    assert b"\r\nContent-Length: 2\r\n" in request
    assert request.endswith(b"\r\n\r\n{}")
    assert b"on_invalid=report" in batch(1, query="?on_invalid=report")
    assert b"arrow" in batch(1, arrow=True)
