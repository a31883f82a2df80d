from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks.harness.wrk import WrkError, command, parse, run

OUTPUT = """Running 3s test @ http://127.0.0.1:8000/classify
  1 threads and 8 connections
RESULT {"requests": 6000, "microseconds": 3000000, "p50": 1500.0, "p99": 4250.5, """


def test_rate_is_of_the_time_that_wrk_ran_and_waits_are_in_milliseconds() -> None:
    rest = '"refused": 0, "connect": 0, "read": 0, "write": 0, "timeout": 0}\n'
    load = parse(OUTPUT + rest)
    assert (load.requests, load.rate, load.errors) == (6000, 2000, 0)
    assert (load.p50, load.p99) == (1.5, 4.2505)


def test_every_kind_of_error_is_one() -> None:
    rest = '"refused": 1, "connect": 20, "read": 300, "write": 4000, "timeout": 50000}\n'
    assert parse(OUTPUT + rest).errors == 54321


def test_what_wrk_said_instead_of_a_result_is_told() -> None:
    with pytest.raises(WrkError, match="unable to connect"):
        parse("unable to connect to 127.0.0.1:1 Connection refused\n")


def test_the_load_keeps_to_its_core_and_sends_what_it_is_told() -> None:
    words = command(
        "http://127.0.0.1:1/a",
        Path("body"),
        {"Content-Type": "a/b"},
        connections=8,
        seconds=2.2,
    )
    assert words[:3] == ["taskset", "-c", "1"]
    assert {"-t1", "-c8", "-d3s"} < set(words)
    assert words[words.index("--") :] == ["--", "body", "Content-Type: a/b"]
    assert Path(words[words.index("-s") + 1]).is_file()


def test_without_wrk_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(WrkError, match="apt-get install wrk"):
        run("http://127.0.0.1:1", Path("body"), {}, connections=1, seconds=1)
