"""What a class of few records accepts, of its own records and of others."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from benchmarks.detection.openset import leave_out
from benchmarks.detection.sets import SETS, Set, derive_tables, recipe_of
from benchmarks.enrolment.options import Options
from benchmarks.harness.report import Figure, Section, info, progress, table
from models.decision import NearestCentroid, distances_between
from models.schema import Matrix
from models.support import support_radius, with_class
from training.dataset.dataset import load_dataset
from training.fitting.estimator import SiameseClassifier
from training.recipe import RecipeError

TITLE = "What a class of few records accepts"
_SHOTS = (1, 5)
_SWALLOWED, _SWALLOWED_GOOD = 0.5, 0.1
"""As in `service.classes.preview`, which works on whole enrolments."""
_SET_NAMES = ("cisco-c", "kddi-7", "unr", "snmp", "nsl-5")
_TEXT = """\
Classes that training never saw are enrolled together from 1 or 5 train or dev records, as the
service does it (`models.support`, `models.decision`), in the fits of the few-shot part of
[detection.md](detection.md) (seed {seed}); {draws} draws of the records. In percent, mean of the
draws:

- *own*: test records of the class that get its label, that are called unknown, and that get another
  label;
- *falsely accepted*: test records of all other classes that get its label (mean, and the worst
  draw); of the classes that training saw alone; of good traffic; and of those that had their right
  label before the class was enrolled. Two classes that training never saw may be hard to tell from
  each other;
- *refused*: draws in which the service would have answered 409, since the class takes over a tenth
  or more of what good traffic answers of the dev rows, or half of what another class answers of
  these or of the support records of the other class; and what is falsely accepted in the other
  draws."""
_HEADS = (
    *("set", "class", "shots", "radius", "own: its label", "unknown", "another"),
    *("falsely accepted", "worst draw", "known classes", "good traffic", "right before"),
    *("refused", "falsely accepted in the others"),
)
_BORROWED_TEXT = """\
**Calibration of the radius, without test rows.** The radius of a class of few records is the
largest distance that they show, or the borrowed one if that is more. Borrowed is (1 + 1/n) times
the median radius of the calibrated classes; here beside other ways to borrow. Own records are the
class's other train and dev rows; the others are dev rows, and train rows of the other class that
training never saw. Own records that get the label / own records called unknown / others falsely
accepted, in percent, mean over draws and classes."""

_Classes = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Points:
    """Embedded records, float32 [n, N], and the index of the class of each."""

    points: Matrix
    classes: _Classes

    def of(self, index: int) -> Matrix:
        """Return the points of a class."""
        points: Matrix = self.points[self.classes == index]
        return points


@dataclass(frozen=True, slots=True)
class Case:
    """A fit, and the classes that it never saw, which come after the others.

    Attributes:
        name: of the set.
        rule: of the fit.
        rate: share of known records that may be called unknown.
        held_out: names of the classes it never saw.
        known: train and dev records of all classes.
        dev: dev records of the classes that it saw, train and dev records of the others.
        test: test records.
    """

    name: str
    rule: NearestCentroid
    rate: float
    held_out: Sequence[str]
    known: Points
    dev: Points
    test: Points


@dataclass(frozen=True, slots=True)
class Cells:
    """Shares of records that a class accepts in one draw.

    Attributes:
        radius: of the class, not a share.
        accepted, unknown, lost: of its own records.
        refused: whether the service would have asked for `force`.
        false, known, good, harmed: of the others; of those of classes that training saw; of good
            traffic; of those that were right before.
    """

    radius: float
    accepted: float
    unknown: float
    lost: float
    refused: bool
    false: float
    known: float
    good: float
    harmed: float


Borrow = Callable[[NearestCentroid, Matrix], float]
"""Maps the rule of the fit and a class's points to the radius that the class borrows, unscaled."""


def _of_the_median(factor: float, rule: NearestCentroid, _points: Matrix) -> float:
    return factor * float(np.median(rule.radii))


def _of_the_nearest(rule: NearestCentroid, points: Matrix) -> float:
    distances = distances_between(points.mean(axis=0, keepdims=True), rule.centroids)
    return float(rule.radii[distances.argmin()])


BORROWED: Mapping[str, Borrow] = {
    **{
        f"{factor:g} x median": partial(_of_the_median, factor) for factor in (0.5, 0.75, 1, 1.5, 2)
    },
    "largest": lambda rule, _: float(rule.radii.max()),
    "of the nearest class": _of_the_nearest,
    "without end": lambda *_: 1.0,
}
"""Ways to borrow; the service's is 1 x median."""


def measure(options: Options) -> Section:
    """Fit each set without some classes, and enrol them."""
    cases, notes = [], []
    for data_set in SETS:
        if data_set.name in _SET_NAMES:
            progress(f"acceptance: {data_set.name}")
            try:
                cases.append(_fitted(data_set, options))
            except RecipeError as error:
                notes.append(f"- **missing**: {data_set.name}: {error}")
    rows, figures = [], []
    for case in cases:
        for shots in _SHOTS:
            draws = list(drawn(case, shots, options.draws))
            for i, name in enumerate(case.held_out):
                rows.append(_row(case.name, name, shots, [cells[i] for cells in draws]))
            figures.append(_figure(case, shots, draws))
    text = [_TEXT.format(seed=0, draws=options.draws), "", *notes, *table(_HEADS, rows, "<<")]
    text += [_BORROWED_TEXT, "", *_calibration(cases, options.draws)]
    return Section(TITLE, "\n".join(text), figures)


def _fitted(data_set: Set, options: Options) -> Case:
    [table] = derive_tables(data_set, options.data, options.folder)
    recipe = recipe_of(data_set, table, 0, {})
    dataset = load_dataset(recipe, held_out=data_set.hold_out)
    seen = dataset
    for name in data_set.hold_out:
        seen, _ = leave_out(seen, name)
    classifier = SiameseClassifier.of(recipe, seen, lambda *_: None)
    order = [*seen.classes, *data_set.hold_out]
    indices = np.array([order.index(name) for name in dataset.classes])
    train, dev, test = (
        Points(classifier.transform(rows.matrix), indices[rows.labels])
        for rows in (dataset.train, dataset.dev, dataset.test)
    )
    unseen = train.classes >= len(seen.classes)
    return Case(
        name=data_set.name,
        rule=classifier.rule_,
        rate=recipe.unknown_rate,
        held_out=data_set.hold_out,
        known=_joined(train, dev),
        dev=_joined(Points(train.points[unseen], train.classes[unseen]), dev),
        test=test,
    )


def _joined(one: Points, other: Points) -> Points:
    points = np.concatenate([one.points, other.points])
    return Points(points, np.concatenate([one.classes, other.classes]))


def borrowed(case: Case, points: Matrix, borrow: Borrow) -> float:
    """Return the radius of a class: borrowed, or what its own points show if that is more."""
    own = support_radius(points, np.zeros(1, np.float32), case.rate)
    return min(max(own, borrow(case.rule, points) * (1 + 1 / len(points))), 1.0)


def drawn(
    case: Case, shots: int, draws: int, borrow: Borrow | None = None, *, test: bool = True
) -> Iterator[list[Cells]]:
    """Enrol the held-out classes again and again; yield the cells of each, in their order.

    Args:
        case: the fit.
        shots: support records of each class.
        draws: how often.
        borrow: another way to borrow a radius than the service's.
        test: whether to decide test records; else dev records.
    """
    seen, rule = len(case.rule.radii), case.rule
    random = np.random.default_rng(0)
    rows = case.test if test else case.dev
    before = rule.decide(rows.points)
    right = (before.nearest == rows.classes) & before.accepted
    for _ in range(draws):
        enrolled, kept = rule, np.ones(len(rows.classes), bool)
        others, refused = [case.dev.points[case.dev.classes < seen]], []
        for index in range(seen, seen + len(case.held_out)):
            candidates = case.known.of(index)
            points = candidates[random.choice(len(candidates), shots, replace=False)]
            served = support_radius(points, rule.radii, case.rate)
            radius = borrowed(case, points, borrow) if borrow else served
            earlier, enrolled = enrolled, with_class(enrolled, index, points, radius)
            refused.append(test and any(_swallows(earlier, enrolled, batch) for batch in others))
            others.append(points)
            if not test:  # not the support records themselves, nor others that equal them
                kept &= ~(rows.points[:, None] == points).all(axis=2).any(axis=1)
        labels, classes = _labels(enrolled, rows.points)[kept], rows.classes[kept]
        yield [
            _cells(float(enrolled.radii[index]), labels, classes, right[kept], index, seen, forced)
            for index, forced in enumerate(refused, seen)
        ]


def _labels(rule: NearestCentroid, points: Matrix) -> _Classes:
    """Return the class index of each point; -1 stands for unknown."""
    decisions = rule.decide(points)
    labels: _Classes = np.where(decisions.accepted, decisions.nearest, -1)
    return labels


def _swallows(before: NearestCentroid, after: NearestCentroid, points: Matrix) -> bool:
    """Whether the last class takes over too many of the points that another one accepted."""
    old, taken = _labels(before, points), _labels(after, points) == len(after.radii) - 1
    taken_of = {index: taken[old == index].mean() for index in set(old.tolist()) - {-1}}
    return any(
        share >= (_SWALLOWED if index else _SWALLOWED_GOOD) for index, share in taken_of.items()
    )


def _cells(
    radius: float,
    labels: _Classes,
    classes: _Classes,
    right: npt.NDArray[np.bool_],
    index: int,
    seen: int,
    refused: bool,
) -> Cells:
    own, others = labels[classes == index], labels[classes != index] == index
    return Cells(
        radius=radius,
        accepted=_share(own == index),
        unknown=_share(own == -1),
        lost=_share((own != -1) & (own != index)),
        refused=refused,
        false=_share(others),
        known=_share(labels[classes < seen] == index),
        good=_share(labels[classes == 0] == index),
        harmed=_share(others[right[classes != index]]),
    )


def _share(values: npt.NDArray[np.bool_]) -> float:
    return float(values.mean()) if len(values) else 0.0


def shares(values: Sequence[float], digits: int = 1) -> list[str]:
    """Return shares of one as percentages, for cells of a table."""
    return [f"{100 * value:.{digits}f}" for value in values]


def _row(name: str, held_out: str, shots: int, draws: Sequence[Cells]) -> list[str]:
    def mean(attribute: str) -> float:
        return statistics.fmean(getattr(cells, attribute) for cells in draws)

    own = shares([mean("accepted"), mean("unknown"), mean("lost")])
    worst = max(cells.false for cells in draws)
    others = shares([mean("false"), worst, mean("known"), mean("good"), mean("harmed")], 2)
    passed = [cells.false for cells in draws if not cells.refused]
    rest = shares([statistics.fmean(passed)], 2) if passed else ["none"]
    row = [name, held_out, str(shots), f"{mean('radius'):.4f}", *own, *others]
    return [*row, *shares([mean("refused")], 0), *rest]


def _figure(case: Case, shots: int, draws: Sequence[Sequence[Cells]]) -> Figure:
    rows = [cells for draw in draws for cells in draw]
    accepted = 100 * statistics.fmean(cells.accepted for cells in rows)
    false = 100 * statistics.fmean(cells.false for cells in rows)
    passed = [cells.false for cells in rows if not cells.refused]
    rest = f"{100 * statistics.fmean(passed):.2f}" if passed else "none"
    records = f"{shots} record{'s' if shots > 1 else ''}"
    what = "falsely accepted (where the service does not refuse it); of its own, %"
    return info(f"{case.name}, {records}: {what}", f"{false:.2f} ({rest}); {accepted:.1f}")


def _calibration(cases: Sequence[Case], draws: int) -> list[str]:
    """Return a table with a column for each way to borrow, and the mean as its last row."""
    rows, totals = [], {name: list[list[float]]() for name in BORROWED}
    for case in cases:
        for shots in _SHOTS:
            for name, borrow in BORROWED.items():
                classes = [
                    cells
                    for draw in drawn(case, shots, draws, borrow, test=False)
                    for cells in draw
                ]
                columns = zip(*((c.accepted, c.unknown, c.false) for c in classes), strict=True)
                totals[name].append([statistics.fmean(column) for column in columns])
            rows.append([case.name, str(shots), *(_cell(means[-1]) for means in totals.values())])
    means = [_cell(np.mean(m, axis=0).tolist()) for m in totals.values()] if cases else []
    return [*table(("set", "shots", *BORROWED), rows)[:-1], f"| mean | | {' | '.join(means)} |"]


def _cell(values: Sequence[float]) -> str:
    accepted, unknown, false = values
    return " / ".join([*shares([accepted, unknown]), *shares([false], 2)])
