"""An environment of its own for each peer, made when it is first needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.harness.records import ROOT

PEERS = Path(__file__).with_name("peers")
_FOLDER = ROOT / "build" / "serving"
_SECONDS = 1200


class InstallError(RuntimeError):
    """A peer cannot be installed; the message says why."""


def requirements(peer: str) -> Path:
    """Return the file that pins a peer."""
    return PEERS / f"{peer}.txt"


def pinned(peer: str) -> list[str]:
    """Return what is pinned, as "name version"."""
    lines = requirements(peer).read_text(encoding="utf-8").splitlines()
    return [line.replace("==", " ") for line in lines if "==" in line and line[0] != "#"]


def python_of(peer: str) -> Path:
    """Return the interpreter of a peer's environment; make that if it is missing or outdated."""
    folder = _FOLDER / peer
    python, stamp = folder / "bin" / "python", folder / "installed.txt"
    text = requirements(peer).read_text(encoding="utf-8")
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == text:
        return python
    if not python.exists():
        _run([sys.executable, "-m", "venv", str(folder)])
    _run([str(python), "-m", "pip", "install", "-q", "-r", str(requirements(peer))])
    stamp.write_text(text, encoding="utf-8")
    return python


def _run(words: list[str]) -> None:
    try:
        done = subprocess.run(  # noqa: S603
            words, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InstallError(f"not installed: {error}"[:300]) from error
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = (errors or done.stderr.strip().splitlines() or ["pip failed"])[-1]
        raise InstallError(f"not installed: {reason[:300]}")
