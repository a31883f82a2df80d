"""The benchmark of the live page measures what it says, however short it is."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import repeat
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from benchmarks.harness import wrk
from benchmarks.harness.client import ServerError
from benchmarks.harness.load import Load, Stream
from benchmarks.harness.requests import http
from benchmarks.harness.server import running_service
from benchmarks.live.measure import LOADS, VARIANTS, Costs, measure
from benchmarks.live.viewers import looking


def test_a_ratio_is_of_the_rounds_in_which_both_were_measured() -> None:
    off, on = [1.0, 2.0, 4.0], [1.0, 4.0, 5.0]
    costs = Costs({"off": off, "all on, idle": on})
    assert costs.ratios("all on, idle") == [1.0, 0.5, 0.8]
    assert costs.ratio("all on, idle") == 0.8


def asked(
    url: str, body: Path, headers: Mapping[str, str], *, connections: int, seconds: float
) -> wrk.Load:
    """Stand in for wrk, which not every machine has."""
    address = urlsplit(url)
    request = http("POST", address.path, body.read_bytes(), headers)
    stream = Stream(repeat(request), connections)
    Load(address.port or 0, [stream]).run(seconds)
    return wrk.Load(len(stream.outcome), seconds, 1, 1, 0)


def test_all_variants_are_measured_with_viewers_who_are_told_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wrk, "run", asked)
    with running_service(tmp_path, {"page": "on", "live_viewers": "2"}) as server:
        servers = dict.fromkeys(VARIANTS, server)
        costs = measure(servers, "1 record x 8", viewers=2, rounds=1, seconds=0.7)
        assert costs.of.keys() == VARIANTS.keys()
        assert all(cost > 0 for [cost] in costs.of.values())
        assert costs.told > 1000
        with looking(server.port, 1) as looked:
            assert looked.told > 0
    assert {records for records, _ in LOADS.values()} == {1, 1000}


def test_viewers_who_are_told_nothing_are_no_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.live.viewers._START_SECONDS", 1)
    with (
        running_service(tmp_path, {"page": "off"}) as server,
        pytest.raises(ServerError, match="told nothing"),
        looking(server.port, 3),
    ):
        pass
