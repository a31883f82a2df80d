from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.harness.requests import batch, http, real_body, singles
from benchmarks.resilience.bodies import cases
from benchmarks.resilience.swaps import bundle_fault, copy_bundle
from models import Bundle, Model

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


@pytest.mark.parametrize(
    ("head", "version", "fault"),
    [
        ("iosxr/1", "1", None),
        ("iosxr/2", "1", "head and body that name different bundles"),
        ("iosxr/3", "3", "a bundle that is not known"),
    ],
)
def test_an_answer_names_one_bundle_that_is_known(
    head: str, version: str, fault: str | None
) -> None:
    body = f'{{"bundle":{{"name":"iosxr","version":"{version}"}},"results":[]}}'
    opening = f"HTTP/1.1 200 OK\r\nFaultcube-Bundle: {head}\r\n\r\n{body}".encode()
    assert bundle_fault(opening, frozenset("12")) == fault
    assert bundle_fault(b"HTTP/1.1 500 No\r\n\r\n", frozenset("12"))


def test_bodies_that_hurt_are_within_what_is_taken() -> None:
    found = list(cases())
    assert len({case.name for case in found}) == len(found) > 30
    assert max(len(case.body) for case in found) <= 16 << 20
    assert sum(not case.refused for case in found) == 2


def test_shelved_bundles_differ_in_their_versions_and_may_be_spoilt(tmp_path: Path) -> None:
    versions = {copy_bundle(tmp_path, name) for name in ("even", "odd")}
    assert len(versions) == 2
    assert {Bundle.read(tmp_path / name).manifest.version for name in ("even", "odd")} == versions
    copy_bundle(tmp_path, "bad", broken=True)
    with pytest.raises(Exception, match=r"encoder\.onnx"):
        Bundle.read(tmp_path / "bad")
