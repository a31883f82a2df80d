from __future__ import annotations

import pytest

from benchmarks.ingest import __main__ as ingest
from benchmarks.ingest.bodies import BODIES


def test_every_body_has_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    ingest.main(series=10, rounds=2, repeats=2)
    rows = [line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines()[-10:-1]]
    assert rows == [*BODIES]


def test_a_decoder_that_loses_points_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BODIES, "collectd", lambda _: b"[]")
    with pytest.raises(SystemExit, match="collectd: 0 of 10 points"):
        ingest.main(series=10, rounds=1, repeats=1, only="collectd")
