"""Consumers of a stream as processes, of which one is killed."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from benchmarks.stream.broker import Broker
from benchmarks.stream.points import EXCERPT, Filled, send
from benchmarks.stream.trial import Outcome, Trial, compared
from service import cli
from tests.support.consuming import broker_running
from tests.support.running import environment

TOPIC = "points"
SECONDS = 240.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stream")


@pytest.fixture(scope="module")
def broker(folder: Path) -> Iterator[Broker]:
    with broker_running(folder) as broker:
        yield broker


@pytest.fixture(scope="module")
def filled(broker: Broker, root: Path) -> Filled:
    return send(broker.address, TOPIC, root / EXCERPT, partitions=4)


@pytest.fixture(scope="module")
def undisturbed(broker: Broker, filled: Filled, folder: Path) -> Outcome:
    """What one consumer makes of the points, which nothing disturbs and SIGTERM ends."""
    trial = Trial(broker.address, TOPIC, folder, "undisturbed", idle=2)
    trial.start()
    trial.wait_for(filled.messages * 9 // 10, SECONDS)
    trial.settle(SECONDS)
    assert trial.stop() == [0]
    outcome = trial.outcome()
    assert len(outcome.verdicts) == filled.messages
    return outcome


def test_an_undisturbed_consumer_finds_the_two_faults(undisturbed: Outcome) -> None:
    found = sorted((str(i["root"]), i["label"], i["status"]) for i in undisturbed.latest.values())
    assert found == [("leaf1", "bgp_clear", "closed"), ("leaf6", "bgp_clear", "closed")]


def test_a_killed_consumer_loses_nothing_and_changes_no_incident(
    broker: Broker, filled: Filled, folder: Path, undisturbed: Outcome
) -> None:
    trial = Trial(broker.address, TOPIC, folder, "killed", idle=2)
    victim, survivor = trial.start(), trial.start()
    trial.wait_for(filled.messages // 3, SECONDS)
    victim.kill()
    trial.wait_for(filled.messages * 9 // 10, SECONDS)
    trial.settle(SECONDS)
    statuses = trial.stop()

    assert statuses == [-signal.SIGKILL, 0], trial.said(1)
    assert survivor.returncode == 0
    found = compared(trial.outcome(), undisturbed)
    assert (found.lost, found.more, found.different) == (0, 0, 0)
    assert found.are_incidents_equal


def test_the_command_of_the_manual_works_until_it_is_told_to_end(
    broker: Broker, filled: Filled, tmp_path: Path
) -> None:
    (tmp_path / "kafka.properties").write_text(f"bootstrap.servers={broker.address}\n")
    trial = Trial(broker.address, TOPIC, tmp_path, "faultcube")
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen(
            shlex.split("faultcube consume points --config kafka.properties"),
            env=environment(
                PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                FAULTCUBE_DATABASE_URL=f"sqlite:///{tmp_path}/a.sqlite",
                FAULTCUBE_LOG_FORMAT="json",
            ),
            cwd=tmp_path,
            stderr=said,
        )
    try:
        trial.wait_for(filled.messages // 10, SECONDS)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait(10)
    lines = [json.loads(line) for line in (tmp_path / "said").read_text().splitlines()]
    [last] = [line for line in lines if line["event"] == "stopped"]
    assert last["records"] == len(trial.outcome().verdicts) >= filled.messages // 10


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--brokers", "127.0.0.1:1", "--format", "xml"], "--format is one of telegraf, collectd,"),
        ([], "where is the log? give --brokers HOST:PORT"),
        (["--config", "none"], "none cannot be read: "),
        (["--brokers", "127.0.0.1:1", "--metrics", "9100"], "--metrics takes HOST:PORT, such as"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], reason: str
) -> None:
    """In this process: to start one takes two seconds each time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr("service.observability.logs.configure", lambda _: None)
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(cli.consume)
    env = {"FAULTCUBE_DATABASE_URL": f"sqlite:///{tmp_path}/a.sqlite"}
    done = CliRunner().invoke(app, [TOPIC, *options], env=env)

    assert done.exit_code == 2
    assert done.stderr.startswith(f"faultcube: {reason}")
    assert done.stderr.count("\n") == 1


def test_a_topic_that_there_is_not_is_told_in_one_line(broker: Broker, tmp_path: Path) -> None:
    status, said = consume(tmp_path, "--brokers", broker.address, topic="none")

    assert status == 2
    assert "faultcube: there is no topic 'none': make it" in said.splitlines()[-1]


def test_a_missing_library_is_told_with_the_command_that_installs_it(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['confluent_kafka'] = None; from models.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "consume", "points", "--brokers", "127.0.0.1:1"],
        env=environment(FAULTCUBE_DATABASE_URL=f"sqlite:///{tmp_path}/a.sqlite"),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 2
    assert done.stderr == (
        "faultcube: consume needs more libraries: pip install -c constraints.txt '.[kafka]'\n"
    )


def consume(folder: Path, *options: str, topic: str) -> tuple[int, str]:
    """Run the command, which must end by itself; gives its status and what it said."""
    done = subprocess.run(
        [Path(sys.executable).parent / "faultcube", "consume", topic, *options],
        env=environment(FAULTCUBE_DATABASE_URL=f"sqlite:///{folder}/a.sqlite"),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stderr
