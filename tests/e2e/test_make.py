from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.harness.server import free_port
from tests.support.running import classify, environment, running


@dataclass
class Session:
    """One `make run` from its start to Ctrl-C."""

    seconds: float
    labels: list[str]
    pasted: str
    status: int
    output: str

    @property
    def ready_made_request(self) -> str:
        return next(line for line in self.output.splitlines() if line.startswith("curl "))


def make_run(checkout: Path, home: Path, body: bytes) -> Session:
    env = environment(FAULTCUBE_PORT="0", HOME=str(home), PIP_CACHE_DIR=pip_cache())
    start = time.monotonic()
    with running("make run", cwd=checkout, env=env, seconds=400) as (service, url):
        seconds = time.monotonic() - start
        given = classify(url, body)
        pasted = paste(service.output, checkout)
        status = service.stop()
    return Session(seconds, given, pasted, status, service.output)


def pip_cache() -> str:
    """The cache that filled while this environment was installed: nothing is fetched twice."""
    command = [sys.executable, "-m", "pip", "cache", "dir"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def paste(output: str, cwd: Path) -> str:
    """Run the request that was printed, as somebody would who copies it to another terminal."""
    (request,) = (line for line in output.splitlines() if line.startswith("curl "))
    done = subprocess.run(
        ["sh", "-c", request], cwd=cwd, capture_output=True, text=True, check=False
    )
    return done.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def first(checkout: Path, home: Path, examples: bytes) -> Session:
    return make_run(checkout, home, examples)


@pytest.fixture(scope="module")
def second(first: Session, checkout: Path, home: Path, examples: bytes) -> Session:
    assert first.status in {0, -signal.SIGINT}
    return make_run(checkout, home, examples)


def test_make_run_in_a_fresh_checkout_classifies_real_records(
    first: Session, labels: list[str]
) -> None:
    assert first.labels == labels


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_request_that_is_printed_works_when_pasted(first: Session, labels: list[str]) -> None:
    assert [result["label"] for result in json.loads(first.pasted)["results"]] == labels


def test_make_run_installs_neither_torch_nor_scikit_learn(first: Session, checkout: Path) -> None:
    assert "Installing faultcube[service] into .venv-service" in first.output
    installed = {path.name for path in checkout.glob(".venv-service/lib/python*/site-packages/*")}
    assert {"fastapi", "onnxruntime"} <= installed
    assert not {"torch", "sklearn"} & installed


def test_make_run_ends_cleanly_on_ctrl_c(first: Session) -> None:
    assert first.status in {0, -signal.SIGINT}
    assert not re.search(r"Traceback|Error|Aborted|\*\*\*", first.output)


def test_a_second_make_run_installs_nothing(second: Session, labels: list[str]) -> None:
    assert "Installing" not in second.output
    assert second.seconds < 15
    assert second.labels == labels


def test_make_demo_shows_incidents_open_and_close(
    second: Session, checkout: Path, home: Path
) -> None:
    assert second.labels
    done = subprocess.run(
        [*shlex.split("make demo"), f"PORT={free_port()}", "SPEED=60"],
        cwd=checkout,
        env=environment(HOME=str(home)),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"open +bgp_clear at leaf1", done.stdout)
    assert re.search(r"closed +bgp_clear at leaf6", done.stdout)
    assert "705,108 points" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("question", "advice"),
    [("ensurepip", "apt-get install python3-venv"), ("version_info", "Python 3.11 or newer")],
)
def test_a_python_that_will_not_do_is_told_in_one_line_and_leaves_nothing_behind(
    checkout: Path, tmp_path: Path, question: str, advice: str
) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\ncase "$*" in *{question}*) exit 1;; esac\n')
    python.chmod(0o755)
    done = subprocess.run(
        [*shlex.split("make test"), f"PYTHON={python}"],
        cwd=checkout,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert done.returncode != 0
    assert len(said) == 1
    assert advice in said[0]
    assert not (checkout / ".venv").exists()


def test_an_environment_cut_off_half_way_is_made_again(checkout: Path, tmp_path: Path) -> None:
    python = checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(tmp_path / "gone")
    done = subprocess.run(
        ["make", "test"],
        cwd=checkout,
        env=environment(PIP_NO_INDEX="1", PIP_CONFIG_FILE=os.devnull, PIP_FIND_LINKS=""),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "hatchling" in done.stderr  # which pip could not find
    assert subprocess.run([python, "-m", "pip", "--version"], check=False).returncode == 0
    assert not (checkout / ".venv" / "installed").exists()


def test_make_without_a_target_names_every_target(checkout: Path) -> None:
    done = subprocess.run(
        ["make"], cwd=checkout, env=environment(), capture_output=True, text=True, check=True
    )
    rules = (checkout / "Makefile").read_text()
    targets = re.findall(r"^([a-z]+):", rules, flags=re.MULTILINE)
    assert re.findall(r"^  make (\w+)  +\w", done.stdout, flags=re.MULTILINE) == targets
