from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.harness.client import Client, ServerError
from benchmarks.harness.wires import ROWS
from benchmarks.serving import environments
from benchmarks.serving.contestants import CONTESTANTS, ECHO, OURS, SERVERS, Peer, choose
from benchmarks.serving.environments import InstallError, pinned, python_of, requirements
from benchmarks.serving.rounds import check_labels, window
from benchmarks.serving.servers import running

needs_core_0 = pytest.mark.skipif(
    shutil.which("taskset") is None or 0 not in os.sched_getaffinity(0),
    reason="servers are pinned to core 0 by taskset",
)


def wait_until(holds: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@needs_core_0
def test_a_server_answers_rests_goes_on_and_ends(tmp_path: Path) -> None:
    with running(SERVERS[ECHO], tmp_path) as server, Client(server.port) as client:
        answer = client.post("/100/normal", b"x" * 100_000)
        assert len(answer.body) == 100
        assert ROWS.labels(answer) == ["normal"]
        server.pause()
        wait_until(lambda: state_of(server.pid) == "T")
        server.resume()
        assert client.post("/64/normal", b"").headers["content-length"] == "64"
    assert server.process.returncode is not None


@needs_core_0
def test_a_server_that_ends_at_once_is_told_with_its_last_words(tmp_path: Path) -> None:
    peer = Peer("nobody", "/", isolated=False)
    with pytest.raises(ServerError, match="No module named"), running(peer, tmp_path):
        pass


def test_a_window_is_long_enough_for_slow_ones_but_ends() -> None:
    assert window(1000, 3) == 3
    assert window(5, 3) == 6
    assert window(0.5, 3) == window(0, 3) == 12


def test_answers_must_be_right() -> None:
    right = ["a"] * 1500 + ["b"] * 500
    check_labels(right, right)
    check_labels([*right[:-2], "a", "a"], right)
    with pytest.raises(ServerError, match="3 of 2000 labels are wrong"):
        check_labels([*right[:-3], "a", "a", "a"], right)
    with pytest.raises(ServerError, match="1 of 2000"):
        check_labels(["b", *right[1:]], right)
    with pytest.raises(ServerError, match="1 verdicts for 2 records"):
        check_labels(["a"], ["a", "a"])


def test_ours_is_always_among_those_chosen() -> None:
    assert {each.server for each in choose(["kserve"])} == {OURS, "kserve"}
    assert choose([]) == list(CONTESTANTS)
    with pytest.raises(ValueError, match="no peer is called 'nobody'"):
        choose(["nobody"])


def test_contestants_have_names_of_their_own_and_are_compared_with_ours() -> None:
    by_name = {each.name: each for each in CONTESTANTS}
    assert len(by_name) == len(CONTESTANTS)
    for each in CONTESTANTS:
        assert by_name[each.same].server == OURS
        assert each.server in SERVERS


@pytest.mark.parametrize("name", [name for name, each in SERVERS.items() if each.isolated])
def test_every_peer_is_pinned_and_has_a_module(name: str) -> None:
    assert requirements(name).with_suffix(".py").is_file()
    lines = requirements(name).read_text().splitlines()
    assert all("==" in line for line in lines if not line.startswith("#"))
    assert f"{pinned(name)[0]}".count(" ") == 1
    assert any(line.startswith("onnxruntime ") for line in pinned(name))


def test_an_environment_is_made_once_for_what_is_pinned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(environments, "_FOLDER", tmp_path)
    monkeypatch.setattr(environments, "_run", ran.append)
    (tmp_path / "litserve").mkdir()
    python = python_of("litserve")
    assert python.is_relative_to(tmp_path)
    assert [words[1:3] for words in ran] == [["-m", "venv"], ["-m", "pip"]]
    assert python_of("litserve") == python
    assert len(ran) == 2


def test_why_pip_failed_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / "litserve" / "bin" / "python"
    fake.parent.mkdir(parents=True)
    fake.write_text("#!/bin/sh\necho 'ERROR: No matching distribution found' >&2; exit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(environments, "_FOLDER", tmp_path)
    with pytest.raises(InstallError, match="not installed: ERROR: No matching distribution"):
        python_of("litserve")
