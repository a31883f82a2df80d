"""Linux processes by /proc: CPU time, memory, signals to a whole tree."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

SERVER_CORE, LOAD_CORE = 0, 1
"""Servers have one core, load generators the other."""

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_SUBREAPER = 36
_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)


def adopt_orphans() -> None:
    """Make this process the parent of descendants whose own parent ends; survives exec."""
    ctypes.CDLL(None, use_errno=True).prctl(_SUBREAPER, 1, 0, 0, 0)


def _stat(pid: int) -> list[str]:
    """Return the fields behind the name, which may hold anything: state, parent, ..."""
    text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    return text.rpartition(")")[2].split()


def tree(root: int) -> list[int]:
    """Return a process and its descendants, parents first."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(*_GONE):
                children.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
    pids = [root]
    for pid in pids:
        pids += children.get(pid, [])
    return pids


def start_times(pids: Iterable[int]) -> dict[int, str]:
    """Map live processes to their start times, which tell a pid from a later use of it."""
    times = {}
    for pid in pids:
        with contextlib.suppress(*_GONE):
            times[pid] = _stat(pid)[19]
    return times


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return user and system time of those processes that are alive."""
    total = 0
    for pid in pids:
        with contextlib.suppress(*_GONE):
            fields = _stat(pid)
            total += int(fields[11]) + int(fields[12])
    return total / _TICKS


def settle(root: int, *, max_seconds: float = 3.0) -> None:
    """Wait until a tree is at rest: what was under way when its clients left is done."""
    pids, before = tree(root), -1.0
    deadline = time.monotonic() + max_seconds
    while time.monotonic() < deadline:
        now = cpu_seconds(pids)
        if now - before <= 1 / _TICKS:
            return
        before = now
        time.sleep(0.05)


def pss(pids: Iterable[int]) -> int:
    """Return bytes of memory, with pages that several processes share counted once."""
    return sum(_bytes(pid, "smaps_rollup", "Pss:") for pid in pids)


def rss(pid: int) -> int:
    """Return bytes of resident memory."""
    return _bytes(pid, "status", "VmRSS:")


def peak(pid: int) -> int:
    """Return the largest resident memory, in bytes, since the start or `reset_peak`."""
    return _bytes(pid, "status", "VmHWM:")


def reset_peak(pid: int) -> int:
    """Measure the peak of resident memory anew from here on; return its bytes now."""
    (_PROC / str(pid) / "clear_refs").write_text("5", encoding="ascii")
    return rss(pid)


def growth(pid: int, before: int) -> float:
    """Return the MiB by which the peak of resident memory exceeds a number of bytes."""
    return max(0, peak(pid) - before) / 2**20


def open_files(pid: int) -> int:
    """Count open files, connections among them."""
    return len(os.listdir(_PROC / str(pid) / "fd"))  # noqa: PTH208 - they come and go


def _bytes(pid: int, file: str, field: str) -> int:
    with contextlib.suppress(*_GONE):
        for line in (_PROC / str(pid) / file).read_text(encoding="utf-8").splitlines():
            if line.startswith(field):
                return int(line.split()[1]) << 10
    return 0


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to those processes that are alive."""
    for pid in pids:
        with contextlib.suppress(*_GONE):
            os.kill(pid, number)


def kill(processes: Mapping[int, str]) -> None:
    """Kill processes, by pid and start time, that have not ended yet."""
    now = start_times(processes)
    send([pid for pid, begin in processes.items() if now.get(pid) == begin], signal.SIGKILL)
