"""Process trees as Linux tells of them in /proc: CPU time, memory, and a rest for the idle."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_SUBREAPER = 36
_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)


def adopt_orphans() -> None:
    """Make this process the parent of descendants whose own parent ends; survives exec."""
    ctypes.CDLL(None, use_errno=True).prctl(_SUBREAPER, 1, 0, 0, 0)


def _stat(pid: int) -> list[str]:
    """What follows the name, which may hold anything: state, parent, ..."""
    text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    return text.rpartition(")")[2].split()


def tree(root: int) -> list[int]:
    """A process and its descendants, parents first."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(*_GONE):
                children.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def born(pids: Iterable[int]) -> dict[int, str]:
    """When each of those that live began, which tells a process from a later one of its number."""
    found = {}
    for pid in pids:
        with contextlib.suppress(*_GONE):
            found[pid] = _stat(pid)[19]
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time that the living of these have taken so far."""
    total = 0
    for pid in pids:
        with contextlib.suppress(*_GONE):
            fields = _stat(pid)
            total += int(fields[11]) + int(fields[12])
    return total / _TICKS


def settle(root: int, *, most_seconds: float = 3.0) -> None:
    """Wait until a tree is at rest: what was under way when its clients left is done."""
    pids, before = tree(root), -1.0
    deadline = time.monotonic() + most_seconds
    while time.monotonic() < deadline:
        now = cpu_seconds(pids)
        if now - before <= 1 / _TICKS:
            return
        before = now
        time.sleep(0.05)


def pss(pids: Iterable[int]) -> int:
    """Bytes of memory, pages that several share counted once."""
    return sum(_kib(pid, "smaps_rollup", "Pss:") for pid in pids) * 1024


def rss(pid: int) -> int:
    """Bytes of a process's resident memory."""
    return _kib(pid, "status", "VmRSS:") * 1024


def _kib(pid: int, file: str, field: str) -> int:
    with contextlib.suppress(*_GONE):
        for line in (_PROC / str(pid) / file).read_text(encoding="utf-8").splitlines():
            if line.startswith(field):
                return int(line.split()[1])
    return 0


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to those that live."""
    for pid in pids:
        with contextlib.suppress(*_GONE):
            os.kill(pid, number)


def kill(processes: Mapping[int, str]) -> None:
    """End processes by number and birth, as `born` gave them, that have not ended yet."""
    now = born(processes)
    send([pid for pid, birth in processes.items() if now.get(pid) == birth], signal.SIGKILL)
