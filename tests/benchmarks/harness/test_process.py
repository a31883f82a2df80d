from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.harness import process as processes


def wait_until(holds: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that sleeps, and one that it started."""
    script = "import subprocess, sys, time\n"
    script += "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    script += "time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script], start_new_session=True) as process:
        wait_until(lambda: len(processes.tree(process.pid)) == 2)
        yield process
        os.killpg(process.pid, signal.SIGKILL)


def test_a_tree_is_a_process_and_its_descendants(child: subprocess.Popen[bytes]) -> None:
    pids = processes.tree(child.pid)
    assert pids[0] == child.pid
    assert len(pids) == 2
    assert set(pids) < set(processes.tree(os.getpid()))


def test_memory_and_time_are_those_of_the_living(child: subprocess.Popen[bytes]) -> None:
    pids = processes.tree(child.pid)
    assert processes.rss(child.pid) > 1 << 20
    assert 0 < processes.pss(pids) <= sum(map(processes.rss, pids))
    assert processes.cpu_seconds([os.getpid()]) > 0
    assert processes.cpu_seconds([2**22 + 1]) == processes.rss(2**22 + 1) == 0


def test_only_the_process_that_was_meant_is_killed(child: subprocess.Popen[bytes]) -> None:
    inner = processes.tree(child.pid)[1]
    births = processes.start_times([child.pid, inner])
    processes.kill({child.pid: "0", inner: births[inner]})
    # Its parent does not ask for it: it stays as a zombie.
    wait_until(lambda: state_of(inner) == "Z")
    assert child.poll() is None
