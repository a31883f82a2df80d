"""What a class of few records takes from others, and what it gets of its own."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.detection.openset import leave_out
from benchmarks.detection.sets import SETS, Set, derive_tables, recipe_of
from benchmarks.enrolment.report import shares
from benchmarks.enrolment.stage import Plan
from benchmarks.harness.report import Figure, Section, told
from benchmarks.serving.rounds import say
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

_Places = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Points:
    """Embedded records: float32 [n, N], and the place of the class of each."""

    points: Matrix
    places: _Places

    def of(self, place: int) -> Matrix:
        """Those of a class."""
        mine: Matrix = self.points[self.places == place]
        return mine


@dataclass(frozen=True, slots=True)
class Case:
    """A fit, and the classes that it never saw, which come behind the others.

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
    """Shares of one, of one class in one draw.

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
"""From the rule of the fit and a class's points to the radius that the class borrows."""


def _times_median(factor: float) -> Borrow:
    def borrow(rule: NearestCentroid, points: Matrix) -> float:
        return factor * float(np.median(rule.radii)) * (1 + 1 / len(points))

    return borrow


def _of_the_nearest(rule: NearestCentroid, points: Matrix) -> float:
    distances = distances_between(points.mean(axis=0, keepdims=True), rule.centroids)
    return float(rule.radii[distances.argmin()]) * (1 + 1 / len(points))


BORROWED: Mapping[str, Borrow] = {
    **{f"{factor:g} x median": _times_median(factor) for factor in (0.5, 0.75, 1, 1.5, 2)},
    "largest": lambda rule, points: float(rule.radii.max()) * (1 + 1 / len(points)),
    "of the nearest class": _of_the_nearest,
    "without end": lambda *_: 1.0,
}
"""Ways to borrow; the service's is 1 x median."""


def measure(plan: Plan) -> Section:
    """Fit each set without some classes, and enrol them."""
    cases, notes = [], []
    for each in SETS:
        if each.name in _SET_NAMES:
            say(f"acceptance: {each.name}")
            try:
                cases.append(_fitted(each, plan))
            except RecipeError as error:
                notes.append(f"- **missing**: {each.name}: {error}")
    rows, figures = [], []
    for case in cases:
        for shots in _SHOTS:
            found = list(drawn(case, shots, plan.draws))
            for place, name in enumerate(case.held_out):
                rows.append(_row(case.name, name, shots, [cells[place] for cells in found]))
            figures.append(_figure(case, shots, found))
    text = [_TEXT.format(seed=0, draws=plan.draws), "", *notes]
    text += [f"| {' | '.join(_HEADS)} |", "|---|---|" + "--:|" * (len(_HEADS) - 2), *rows]
    text += ["", _BORROWED_TEXT, "", *_calibration(cases, plan.draws)]
    return Section(TITLE, "\n".join(text), figures)


def _fitted(each: Set, plan: Plan) -> Case:
    [table] = derive_tables(each, plan.data, plan.folder)
    recipe = recipe_of(each, table, 0, {})
    dataset = load_dataset(recipe, held_out=each.hold_out)
    seen = dataset
    for name in each.hold_out:
        seen, _ = leave_out(seen, name)
    classifier = SiameseClassifier.of(recipe, seen, lambda *_: None)
    order = [*seen.classes, *each.hold_out]
    place = np.array([order.index(name) for name in dataset.classes])
    train, dev, test = (
        Points(classifier.transform(rows.matrix), place[rows.labels])
        for rows in (dataset.train, dataset.dev, dataset.test)
    )
    unseen = train.places >= len(seen.classes)
    return Case(
        name=each.name,
        rule=classifier.rule_,
        rate=recipe.unknown_rate,
        held_out=each.hold_out,
        known=_joined(train, dev),
        dev=_joined(Points(train.points[unseen], train.places[unseen]), dev),
        test=test,
    )


def _joined(one: Points, other: Points) -> Points:
    points = np.concatenate([one.points, other.points])
    return Points(points, np.concatenate([one.places, other.places]))


def borrowed(case: Case, points: Matrix, borrow: Borrow) -> float:
    """The radius of a class if it borrows so; what its own points show may be more."""
    own = support_radius(points, np.zeros(1, np.float32), case.rate)
    return min(max(own, borrow(case.rule, points)), 1.0)


def drawn(
    case: Case, shots: int, draws: int, borrow: Borrow | None = None, *, test: bool = True
) -> Iterator[list[Cells]]:
    """Enrol the classes, over and over.

    Args:
        case: the fit.
        shots: support records of each class.
        draws: how often.
        borrow: another way to borrow a radius than the service's.
        test: whether test records are looked at; else dev records.

    Yields:
        What became of each class, in the order of `held_out`.
    """
    seen, rule = len(case.rule.radii), case.rule
    random = np.random.default_rng(0)
    rows = case.test if test else case.dev
    before = rule.decide(rows.points)
    right = (before.nearest == rows.places) & before.accepted
    for _ in range(draws):
        enrolled, kept = rule, np.ones(len(rows.places), bool)
        others, refused = [case.dev.points[case.dev.places < seen]], []
        for i in range(len(case.held_out)):
            mine = case.known.of(seen + i)
            points = mine[random.choice(len(mine), shots, replace=False)]
            if borrow is None:
                radius = support_radius(points, rule.radii, case.rate)
            else:
                radius = borrowed(case, points, borrow)
            earlier, enrolled = enrolled, with_class(enrolled, seen + i, points, radius)
            refused.append(test and any(_swallows(earlier, enrolled, each) for each in others))
            others.append(points)
            if not test:  # not the support records themselves, nor others that equal them
                kept &= ~(rows.points[:, None] == points).all(axis=2).any(axis=1)
        decided = enrolled.decide(rows.points)
        found = np.where(decided.accepted, decided.nearest, -1)[kept]
        places, were_right = rows.places[kept], right[kept]
        yield [
            _cells(float(enrolled.radii[place]), found, places, were_right, place, seen, said_no)
            for place, said_no in enumerate(refused, seen)
        ]


def _swallows(before: NearestCentroid, after: NearestCentroid, points: Matrix) -> bool:
    """Whether the last class takes over too much of what another one answers of some records."""
    rules = (before.decide(points), after.decide(points))
    old, new = (np.where(each.accepted, each.nearest, -1) for each in rules)
    taken = new == len(after.radii) - 1
    shares_taken = {place: taken[old == place].mean() for place in set(old.tolist()) - {-1}}
    return any(
        share >= (_SWALLOWED if place else _SWALLOWED_GOOD) for place, share in shares_taken.items()
    )


def _cells(
    radius: float,
    found: _Places,
    places: _Places,
    right: npt.NDArray[np.bool_],
    place: int,
    seen: int,
    refused: bool,
) -> Cells:
    own, others = found[places == place], found[places != place] == place
    return Cells(
        radius=radius,
        accepted=_share(own == place),
        unknown=_share(own == -1),
        lost=_share((own != -1) & (own != place)),
        refused=refused,
        false=_share(others),
        known=_share(found[places < seen] == place),
        good=_share(found[places == 0] == place),
        harmed=_share(others[right[places != place]]),
    )


def _share(values: npt.NDArray[np.bool_]) -> float:
    return float(values.mean()) if len(values) else 0.0


def _row(name: str, held_out: str, shots: int, found: Sequence[Cells]) -> str:
    def mean(what: str) -> float:
        return statistics.fmean(getattr(each, what) for each in found)

    own = shares([mean(what) for what in ("accepted", "unknown", "lost")])
    worst = max(each.false for each in found)
    others = shares(
        [mean("false"), worst, *(mean(what) for what in ("known", "good", "harmed"))], 2
    )
    taken = [each.false for each in found if not each.refused]
    rest = shares([statistics.fmean(taken)], 2) if taken else ["none"]
    cells = [name, held_out, str(shots), f"{mean('radius'):.4f}", *own, *others]
    cells += [*shares([mean("refused")], 0), *rest]
    return f"| {' | '.join(cells)} |"


def _figure(case: Case, shots: int, found: Sequence[Sequence[Cells]]) -> Figure:
    every = [cells for draw in found for cells in draw]
    accepted = 100 * statistics.fmean(each.accepted for each in every)
    false = 100 * statistics.fmean(each.false for each in every)
    passed = [each.false for each in every if not each.refused]
    rest = f"{100 * statistics.fmean(passed):.2f}" if passed else "none"
    many = f"{shots} record{'s' if shots > 1 else ''}"
    measured = f"{false:.2f} ({rest}); {accepted:.1f}"
    what = "falsely accepted (where the service does not refuse it); of its own, %"
    return told(f"{case.name}, {many}: {what}", measured)


def _calibration(cases: Sequence[Case], draws: int) -> list[str]:
    lines = [f"| set | shots | {' | '.join(BORROWED)} |", "|---|--:|" + "--:|" * len(BORROWED)]
    totals: dict[str, list[list[float]]] = {name: [] for name in BORROWED}
    for case in cases:
        for shots in _SHOTS:
            for name, borrow in BORROWED.items():
                drawing = drawn(case, shots, draws, borrow, test=False)
                found = [each for draw in drawing for each in draw]
                rows = [(each.accepted, each.unknown, each.false) for each in found]
                totals[name].append(
                    [statistics.fmean(column) for column in zip(*rows, strict=True)]
                )
            cells = [_cell(each[-1]) for each in totals.values()]
            lines.append(f"| {case.name} | {shots} | {' | '.join(cells)} |")
    means = [np.mean(each, axis=0).tolist() for each in totals.values()] if cases else []
    return [*lines, f"| mean | | {' | '.join(map(_cell, means))} |"]


def _cell(values: Sequence[float]) -> str:
    accepted, unknown, false = values
    return " / ".join([*shares([accepted, unknown]), *shares([false], 2)])
