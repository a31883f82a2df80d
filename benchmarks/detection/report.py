"""The results of the detection benchmark as Markdown."""

from __future__ import annotations

import datetime
import math
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import fmean, variance

from benchmarks.detection.measure import OURS, Result

Row = tuple[str, ...]

_DETECTION = """
Test rows, each given to its nearest class; classifiers of scikit-learn are fitted to train and dev
rows of all columns, standardised, text one-hot, missing values 0 after that. So is Faultcube, with
its default recipe, on the columns that its schema inference keeps. Everything runs on one thread.
*Learned part*: the same fits without the whitened fields in the embedding. Where no spread is
given, the method knows no seed.
"""
_FEW_SHOT = """
Classes that training never saw, enrolled from 1 or 5 records (`faultcube evaluate`); all other
centroids are means of their training rows, and test rows go to the nearest; in the cube, with what
a mean of few records is off allowed for, as it is served. The spread is that of
30 draws of the support records and of the seeds together.
"""
_OPEN_SET = """
Each fault class in turn is left out of training (fields, scaling, encoder, classifiers), and its
test records are to be told from the test records of all others. AUROC: how probable it is that a
record of the class left out seems more unknown than one of a known class (0.5: no better than a
coin). FPR95: share of known records that are refused when the threshold refuses 95 % of the
unknown ones (less is better).

From the cube: *distance* to the nearest centroid; the same over that class's radius, as served;
1 - calibrated confidence; the distance to the 5th nearest train or dev record. From raw
standardised columns of train and dev rows: the distance to the 5th and the 1st nearest record,
Mahalanobis distance to the nearest class mean (shrunk common covariance), and 1 - the largest
probability of logistic regression.
"""
_LOSSES = """
One encoder (a single member without the linear part, so that the loss decides all), budget, batches
and seeds, trained on train rows; test rows go to the nearest centroid in the cube. *Faultcube* is
the fit of the detection tables, to train and dev rows. Losses of
pytorch-metric-learning come with their defaults (MultiSimilarity with its own miner; proxies and
class weights are learned with the encoder, at its learning rate). All are given the embeddings of
Faultcube's sigmoid encoder as they are, which those that normalise put on a sphere for themselves.
"""


def report(results: Sequence[Result], heading: Sequence[str], notes: Sequence[str]) -> str:
    """The whole file.

    Args:
        results: of all tasks so far.
        heading: how it was measured, one paragraph or list item each.
        notes: what is missing, and why.
    """
    lines = ["# Detection, few-shot and open-set benchmark", "", *heading, ""]
    if notes:
        lines += ["**What is missing:**", "", *(f"- {note}" for note in notes), ""]
    of = {name: [r for r in results if r.section == name] for name in _WRITERS}
    ours = [r for r in of["detection"] if r.method == OURS]
    alike = {r.set for r in of["losses"]}
    of["losses"] += [r for r in ours if r.set in alike]
    for name, write in _WRITERS.items():
        if of[name]:
            lines += write(of[name])
    return "\n".join(lines)


def _detection(results: list[Result]) -> list[str]:
    lines = ["## Detection", _DETECTION]
    for metric in ("macro-F1", "balanced accuracy", "accuracy"):
        lines += [f"### {metric}", "", *grid(_of(results, metric), _by_set, best=max)]
    seconds = [r for r in _of(results, "seconds") if r.set == "kddi-7"]
    if seconds:
        lines += ["### Seconds to fit kddi-7", "", *grid(seconds, _by_set, digits=1)]
    return lines


def _few_shot(results: list[Result]) -> list[str]:
    lines = ["## Few-shot", _FEW_SHOT]
    for metric in ("accuracy", "macro-F1", "held-out recall"):
        cells = grid(_of(results, metric), _by_case, ("set", "shots"), best=max)
        lines += [f"### {metric}", "", *cells]
    return lines


def _open_set(results: list[Result]) -> list[str]:
    lines = ["## Open set", _OPEN_SET]
    for metric, best in (("AUROC", max), ("FPR95", min)):
        mine = _of(results, metric)
        columns = ("set", "left out")
        lines += [f"### {metric}, mean of the classes left out", ""]
        lines += grid(_means_of_cases(mine), _by_set, best=best)
        lines += [f"### {metric} by class", "", *grid(mine, _by_case, columns, best=best)]
    return lines


def _losses(results: list[Result]) -> list[str]:
    lines = ["## Losses", _LOSSES]
    for metric in ("macro-F1", "balanced accuracy", "accuracy", "seconds"):
        best, digits = (None, 1) if metric == "seconds" else (max, 3)
        rows = grid(_of(results, metric), _by_set, best=best, digits=digits)
        lines += [f"### {metric}", "", *rows]
    return lines


_WRITERS: dict[str, Callable[[list[Result]], list[str]]] = {
    "detection": _detection,
    "few-shot": _few_shot,
    "open-set": _open_set,
    "losses": _losses,
}


def _of(results: Iterable[Result], metric: str) -> list[Result]:
    return [r for r in results if r.metric == metric]


def _by_set(result: Result) -> Row:
    return (result.set,)


def _by_case(result: Result) -> Row:
    return result.set, result.case


def _means_of_cases(results: Iterable[Result]) -> list[Result]:
    """For every set, method and seed, the mean over its cases."""
    groups: dict[tuple[str, str, str, str, int], list[float]] = {}
    for r in results:
        groups.setdefault((r.section, r.set, r.method, r.metric, r.seed), []).append(r.value)
    return [
        Result(section, name, "", method, metric, seed, fmean(values))
        for (section, name, method, metric, seed), values in groups.items()
    ]


def grid(
    results: Sequence[Result],
    row: Callable[[Result], Row],
    head: Row = ("set",),
    best: Callable[[Iterable[float]], float] | None = None,
    digits: int = 3,
) -> list[str]:
    """A Markdown table with a column for each method, Faultcube first, and an empty line after.

    Args:
        results: of one metric.
        row: what names a row.
        head: titles of those columns.
        best: picks the mean of each row that is set in bold.
        digits: after the point.
    """
    methods = sorted(dict.fromkeys(r.method for r in results), key=lambda name: name != OURS)
    lines = [f"| {' | '.join((*head, *methods))} |"]
    lines += ["|" + "---|" * len(head) + "--:|" * len(methods)]
    for name in dict.fromkeys(map(row, results)):
        cells = {m: [r for r in results if row(r) == name and r.method == m] for m in methods}
        means = {m: mean_and_spread(each) for m, each in cells.items() if each}
        top = best(round(mean, digits) for mean, _ in means.values()) if best else None
        written = [_cell(means.get(m), digits, top) for m in methods]
        lines.append(f"| {' | '.join((*name, *written))} |")
    return [*lines, ""]


def _cell(numbers: tuple[float, float | None] | None, digits: int, top: float | None) -> str:
    if numbers is None:
        return "-"
    mean, spread = numbers
    text = f"{mean:.{digits}f}"
    text = f"**{text}**" if top is not None and round(mean, digits) == top else text
    return text if spread is None else f"{text} ± {spread:.{digits}f}"


def mean_and_spread(results: Sequence[Result]) -> tuple[float, float | None]:
    """Mean over seeds, and the standard deviation over seeds and draws; None for a single value."""
    values, within = [r.value for r in results], fmean(r.spread**2 for r in results)
    if len(values) == 1 and not within:
        return values[0], None
    between = variance(values) if len(values) > 1 else 0.0
    return fmean(values), math.sqrt(within + between)


def asked(module: str) -> list[str]:
    """How a report begins: the command that writes it, the commit and the time, as a list."""
    command = shlex.join(["python", "-m", module, *sys.argv[1:]])
    now = datetime.datetime.now(datetime.UTC)
    return [f"- `{command}`", f"- commit {commit()}, {now:%Y-%m-%d %H:%M} UTC"]


def commit() -> str:
    """The commit that the working tree stands on, and whether it was changed since."""

    def git(*words: str) -> str:
        command = ["git", "--no-optional-locks", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603

    try:
        dirty = ", with uncommitted changes (dirty)" if git("status", "--porcelain") else ""
        return git("rev-parse", "HEAD") + dirty
    except (OSError, subprocess.CalledProcessError):
        return "unknown (no git here)"


def machine() -> str:
    """Processor, cores and memory, in words."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (OSError, ValueError):
        return platform.machine()
    name = models[0] if models else platform.machine()
    return f"{os.cpu_count()} cores of {name}, {memory:.0f} GiB of memory, {platform.system()}"


def versions(*packages: str) -> str:
    """Python's and the packages' versions."""
    found = [f"Python {platform.python_version()}"]
    for name in packages:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} not installed")
    return ", ".join(found)
