"""Reports in Markdown: how it was measured, and what was measured beside what it must reach."""

from __future__ import annotations

import datetime
import math
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

RUNTIME = ("onnxruntime", "numpy", "msgspec", "pydantic-core", "uvicorn", "uvloop", "pyarrow")
"""The packages that decide how fast the service is."""


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured, the value, the target if there is one, and whether that is reached."""

    what: str
    measured: str
    target: str = ""
    reached: bool | None = None

    @property
    def verdict(self) -> str:
        """Whether the target is reached, in words."""
        return {None: "", True: "reached", False: "**not reached**"}[self.reached]


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a report: how something was measured, and the figures."""

    title: str
    text: str
    figures: Sequence[Figure]

    def lines(self, heading: Sequence[str] = ()) -> list[str]:
        """Return Markdown that ends with an empty line, with list items under the title."""
        rows = [(f.what, f.measured, f.target, f.verdict) for f in self.figures]
        lines = [f"## {self.title}", "", *heading, *([""] if heading else []), self.text, ""]
        return [*lines, *table(("what", "measured", "must be", ""), rows, "<>><")]


def info(what: str, value: float | str, unit: str = "") -> Figure:
    """Return something to know, without a target."""
    return Figure(what, value if isinstance(value, str) else _shown(value, unit))


def below(what: str, value: float, limit: float, unit: str = "") -> Figure:
    """Return something that must be less than a limit."""
    return Figure(what, _shown(value, unit), f"< {_shown(limit, unit)}", value < limit)


def at_most(what: str, value: float, limit: float, unit: str = "") -> Figure:
    """Return something that must not be more than a limit."""
    return Figure(what, _shown(value, unit), f"≤ {_shown(limit, unit)}", value <= limit)


def at_least(what: str, value: float, limit: float, digits: int | None = None) -> Figure:
    """Return something that must not be less than a limit, judged before it is rounded."""
    return Figure(what, _shown(value, "", digits), f"≥ {_shown(limit, '', digits)}", value >= limit)


def none_of(what: str, number: int, of: int) -> Figure:
    """Return something that must not happen, of a positive number of times that it could."""
    return Figure(what, f"{number:,} of {of:,}", "0", not number and bool(of))


def _shown(value: float, unit: str, digits: int | None = None) -> str:
    if not math.isfinite(value):
        return "nothing" if math.isnan(value) else "endless"
    if digits is None:
        digits = 0 if value == int(value) or abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}{unit and f' {unit}'}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], align: str = "<") -> list[str]:
    """Return a Markdown table and an empty line; columns beyond `align` ("<" or ">") are right."""
    marks = "".join("---|" if mark == "<" else "--:|" for mark in align.ljust(len(head), ">"))
    lines = [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
    return [f"| {' | '.join(head)} |", f"|{marks}", *lines, ""]


def progress(text: str) -> None:
    """Print how far a benchmark is to stderr, with the time."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')}  {text}\n")
    sys.stderr.flush()


def command(module: str) -> str:
    """Return the list item that says how a report was made."""
    return f"- `{shlex.join(['python', '-m', module, *sys.argv[1:]])}`"


def heading(module: str) -> list[str]:
    """Return the first list items of a report: the command, the commit and the time."""
    now = datetime.datetime.now(datetime.UTC)
    return [command(module), f"- commit {commit()}, {now:%Y-%m-%d %H:%M} UTC"]


def busy() -> str:
    """Return how busy the machine is before a measurement, in words."""
    return f"{os.getloadavg()[0]:.1f} processes were waiting for the cores before it began"


def commit() -> str:
    """Return the commit of the working tree, and whether the tree was changed since."""

    def git(*words: str) -> str:
        line = ["git", "--no-optional-locks", *words]
        return subprocess.run(line, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603

    try:
        dirty = ", with uncommitted changes (dirty)" if git("status", "--porcelain") else ""
        return git("rev-parse", "HEAD") + dirty
    except (OSError, subprocess.CalledProcessError):
        return "unknown (no git here)"


def machine() -> str:
    """Return processor, cores and memory, in words."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (OSError, ValueError):
        return platform.machine()
    name = models[0] if models else platform.machine()
    return f"{os.cpu_count()} cores of {name}, {memory:.0f} GiB of memory, {platform.system()}"


def versions(*packages: str) -> str:
    """Return the versions of Python and of packages, in words."""
    texts = [f"Python {platform.python_version()}"]
    for name in packages:
        try:
            texts.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            texts.append(f"{name} not installed")
    return ", ".join(texts)
