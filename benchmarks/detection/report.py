"""The results of the detection benchmark as Markdown."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean, variance

from benchmarks.detection.measure import ALARMS, CHOSEN, SERVED, Result
from benchmarks.detection.ours import OURS
from benchmarks.harness.report import table

Row = tuple[str, ...]

_DETECTION = """
Test rows, each given to its nearest class, so that nothing is unknown; classifiers of scikit-learn
are fitted to train and dev rows, standardised, text one-hot, missing values 0 after that. So is
Faultcube, with its default recipe. *Learned part*: the same fits without the whitened fields in the
embedding. *Worst seed*: of those that are averaged. *Pooled*: on the columns that Faultcube has
pooled, where it pools. Where no spread is given, the method knows no seed. Times of Faultcube are
those of all fits of a training, calibration included, those of the others are on one thread.

*False alarms*: the share of good rows that are given to a fault class. *Misses*: the share of fault
rows that are called good. Read both together, for it is easy to have few of one.
"""
_SERVED = """
The verdicts of Faultcube as the service gives them, of the model that `faultcube train` fits: where
the nearest class does not accept a record, it is *unknown*, which is always wrong and, on good
rows, a false alarm. Other classifiers know no such verdict.

Radii and confidence come from fits that each leave out some devices or events, or, where these are
not known, a quarter of each class's rows, those next to each other. The last fit, to train and dev
rows, is also that of the tables above.
"""
_ALARMS = """
For the sets with times and events, by the same verdicts. An *episode* is one or more alarms of a
device with at most a minute, or two usual intervals, between them; it is false when it is of good
records. The device is a router in one run (cisco), or the whole network, with a record a minute
(kddi). An event is *found* when an episode begins with one of its records, and the delay runs from
the event's first record (`training/evaluation/operations.py`). *By chance*: how many events would
be found by as many alarms that look at nothing.
"""
_CHOSEN = """
By records left out, never by test rows: how many families of fields are pooled over their places,
whether random or boosted trees are a member of the cube, whether numbers have fine bins (the share
of fits that took them), and how much of the logarithm of a class's share counts.
Two rules were made after results on test rows had been seen: that no boosted trees are tried where
no column groups the rows (those of unr and nsl-5), and that 32 bins are tried only where no trees
are taken and boosted trees gain by them (all sets with 32 bins).
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

From the cube, fitted and calibrated as `faultcube train` does: *distance* to the nearest centroid;
the same over that class's radius; 1 - calibrated confidence; the distance to the 5th nearest train
or dev record. From raw standardised fields of train and dev rows: the distance to the 5th and the
1st nearest record, Mahalanobis distance to the nearest class mean (shrunk common covariance), and
1 - the largest probability of logistic regression.
"""
_LOSSES = """
One encoder (a single member without the linear part, so that the loss decides all), budget, batches
and seeds, trained on train rows; test rows go to the nearest centroid in the cube. *Faultcube* is
the fit of the detection tables, to train and dev rows; its seconds are those of all fits of a
training, calibration included, those of the others of one fit. Losses of
pytorch-metric-learning come with their defaults (MultiSimilarity with its own miner; proxies and
class weights are learned with the encoder, at its learning rate). All are given the embeddings of
Faultcube's sigmoid encoder as they are, which those that normalise put on a sphere for themselves.
"""
_NETWORKS = """
The model meets another network, or another device, in levels that it never saw. *With its profile*:
after the first 2,000 of its records, or the first third if there are fewer than 6,000, without
labels, faults among them (`faultcube adapt`). Verdicts as served, on the records after these, the
same for all methods. 5-NN is fitted to train and dev rows; its profile is the mean and deviation of
the same first records; where sites are adapted in training too, so are the rows that it is fitted
to, and nothing is measured without profiles.
"""
_SEPARATION = """
The animation of the lossless loss's article in numbers: good traffic and the two faults with most
test rows, a cube of three dimensions, the same encoder, batches and seeds under the standard
triplet loss and the lossless one; trained on train rows, measured on test rows. *On their own
side*: the share of a fault's records that are nearer to its centroid than to that of the other,
mean of both. *Spreads apart*: the distance of the two centroids over the root mean square distance
of their records from them. *Macro-F1*: of all three classes.
"""


def report(results: Sequence[Result], heading: Sequence[str], notes: Sequence[str]) -> str:
    """Return the whole file: how it was measured, what is missing and why, all results so far."""
    lines = ["# Detection, few-shot and open-set benchmark", "", *heading, ""]
    if notes:
        lines += ["**What is missing:**", "", *(f"- {note}" for note in notes), ""]
    of = {name: [r for r in results if r.section == name] for name in _WRITERS}
    with_losses = {r.set for r in of["losses"]}
    of["losses"] += [r for r in of["detection"] if r.method == OURS and r.set in with_losses]
    for name, write in _WRITERS.items():
        if of[name]:
            lines += write(of[name])
    return "\n".join(lines)


def _detection(results: list[Result]) -> list[str]:
    served = [r for r in results if r.method == SERVED]
    nearest = [r for r in results if r.method not in (SERVED, CHOSEN)]
    nearest += _worst_seed(_of(nearest, "macro-F1"))
    lines = ["## Detection", _DETECTION]
    for metric in ("macro-F1", "balanced accuracy", "accuracy", "false alarms", "misses"):
        best = min if metric in ("false alarms", "misses") else max
        lines += [f"### {metric}", "", *grid(_of(nearest, metric), _by_set, best=best)]
    seconds = [r for r in _of(nearest, "seconds") if r.set == "kddi-7"]
    if seconds:
        lines += ["### Seconds to fit kddi-7", "", *grid(seconds, _by_set, digits=1)]
    if chosen := [r for r in results if r.method == CHOSEN]:
        lines += ["### What the fits chose", _CHOSEN, *grid(_metrics(chosen), _by_set, digits=2)]
    shares = [r for r in served if r.metric not in ALARMS]
    lines += ["### As served", _SERVED, *grid(_metrics(shares), _by_case, ("set", "fitted to"))]
    if alarms := [r for r in served if r.metric in ALARMS]:
        lines += ["### Alarms and events, as served", _ALARMS]
        lines += grid(_metrics(alarms), _by_set, digits=1)
    return lines


def _worst_seed(results: Iterable[Result]) -> list[Result]:
    """Return the least value over seeds of ours for each set, if there are several seeds."""
    ours = sorted((r for r in results if r.method == OURS), key=lambda r: r.value, reverse=True)
    if len({r.seed for r in ours}) < 2:
        return []
    worst = {r.set: r for r in ours}
    return [dataclasses.replace(r, method=f"{OURS}, worst seed") for r in worst.values()]


def _metrics(results: Iterable[Result]) -> list[Result]:
    """Return the results of one method such that a table has a column for each metric."""
    return [dataclasses.replace(r, method=r.metric) for r in results]


def _few_shot(results: list[Result]) -> list[str]:
    lines = ["## Few-shot", _FEW_SHOT]
    for metric in ("accuracy", "macro-F1", "held-out recall"):
        cells = grid(_of(results, metric), _by_case, ("set", "shots"), best=max)
        lines += [f"### {metric}", "", *cells]
    return lines


def _open_set(results: list[Result]) -> list[str]:
    lines = ["## Open set", _OPEN_SET]
    for metric, best in (("AUROC", max), ("FPR95", min)):
        rows = _of(results, metric)
        columns = ("set", "left out")
        lines += [f"### {metric}, mean of the classes left out", ""]
        lines += grid(_means_of_cases(rows), _by_set, best=best)
        lines += [f"### {metric} by class", "", *grid(rows, _by_case, columns, best=best)]
    return lines


def _losses(results: list[Result]) -> list[str]:
    lines = ["## Losses", _LOSSES]
    for metric in ("macro-F1", "balanced accuracy", "accuracy", "seconds"):
        best, digits = (None, 1) if metric == "seconds" else (max, 3)
        rows = grid(_of(results, metric), _by_set, best=best, digits=digits)
        lines += [f"### {metric}", "", *rows]
    return lines


def _networks(results: list[Result]) -> list[str]:
    lines = ["## Another network", _NETWORKS]
    for metric in ("accuracy", "macro-F1", "false alarms", "misses"):
        best = min if metric in ("false alarms", "misses") else max
        lines += [f"### {metric}", "", *grid(_of(results, metric), _by_set, best=best)]
    return lines


def _separation(results: list[Result]) -> list[str]:
    cells = grid(_metrics(results), _by_case, ("set", "loss"))
    return ["## Two faults in three dimensions", _SEPARATION, *cells]


_WRITERS: dict[str, Callable[[list[Result]], list[str]]] = {
    "detection": _detection,
    "few-shot": _few_shot,
    "open-set": _open_set,
    "losses": _losses,
    "networks": _networks,
    "separation": _separation,
}


def _of(results: Iterable[Result], metric: str) -> list[Result]:
    return [r for r in results if r.metric == metric]


def _by_set(result: Result) -> Row:
    return (result.set,)


def _by_case(result: Result) -> Row:
    return result.set, result.case


def _means_of_cases(results: Iterable[Result]) -> list[Result]:
    """Return the mean over cases for each set, method and seed."""
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
    """Return a Markdown table of one metric with a column for each method, Faultcube's first.

    Rows have the names that `row` returns, under the titles `head`; the mean that `best` picks is
    set in bold.
    """
    methods = sorted(
        dict.fromkeys(r.method for r in results), key=lambda name: not name.startswith(OURS)
    )
    rows = []
    for name in dict.fromkeys(map(row, results)):
        cells = {m: [r for r in results if row(r) == name and r.method == m] for m in methods}
        means = {m: mean_and_spread(cell) for m, cell in cells.items() if cell}
        top = best(round(mean, digits) for mean, _ in means.values()) if best else None
        rows.append([*name, *(_cell(means.get(m), digits, top) for m in methods)])
    return table((*head, *methods), rows, "<" * len(head))


def _cell(numbers: tuple[float, float | None] | None, digits: int, top: float | None) -> str:
    if numbers is None:
        return "-"
    mean, spread = numbers
    text = f"{mean:.{digits}f}"
    text = f"**{text}**" if top is not None and round(mean, digits) == top else text
    return text if spread is None else f"{text} ± {spread:.{digits}f}"


def mean_and_spread(results: Sequence[Result]) -> tuple[float, float | None]:
    """Return the mean, and the deviation over seeds and draws; None for a single value."""
    values, within = [r.value for r in results], fmean(r.spread**2 for r in results)
    if len(values) == 1 and not within:
        return values[0], None
    between = variance(values) if len(values) > 1 else 0.0
    return fmean(values), math.sqrt(within + between)
