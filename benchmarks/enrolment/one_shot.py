"""A class from one record through the service, beside what the evaluation says of it."""

from __future__ import annotations

import json
import math
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.metrics import f1_score

from benchmarks.enrolment.report import reaching
from benchmarks.enrolment.stage import Answer, Desk, Plan, Record, serving
from benchmarks.harness.report import Figure, Section, told
from benchmarks.harness.server import ServerError
from benchmarks.serving.environments import ROOT
from benchmarks.serving.rounds import say
from training.dataset.dataset import Dataset, Rows, load_dataset
from training.evaluation.few_shot import Draws, few_shot
from training.recipe import FewShot, Recipe
from training.train import train

TITLE = "One record through the service"
CLASS = "port_flap"
TOLERANCE = 0.01
_RECIPE, _COLUMN = ROOT / "training/iosxr.toml", "c"
_BATCH = 1_000
_TEXT = """\
`{command}`
holds {name} out, and enrols it in process. Here the same fit, which never saw that class, is
written as a bundle and served by a real `faultcube serve` with an SQLite database; for each of the
same {draws} draws (seed {seed}) the one record is sent to `POST /classes`, all test rows to
`POST /classify`, and the class is deleted. Candidates are the {candidates} train and dev rows of
{name}: event 0 at {devices}, 10 to 240 s after the flap.
Test rows: {tested}; those of {name} are the other three events.

*By nearest class* is what the evaluation measures: the label, or `nearest` where that is
`unknown`. *As served* an `unknown` record is a wrong one, of whichever class. Macro-F1 is that of
the {classes} classes; mean ± standard deviation of the draws. Enrolments that the service answered
409, for the class would swallow another one, were sent again with `force=true`."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Of one draw, shares of one."""

    accuracy: float
    macro_f1: float
    recall: float


@dataclass(slots=True)
class _Seen:
    """What the service answered, for each draw; shares of unknown ones of own and other rows."""

    nearest: list[Scores] = field(default_factory=list)
    served: list[Scores] = field(default_factory=list)
    unknown: list[float] = field(default_factory=list)
    others: list[float] = field(default_factory=list)
    others_before: float = 0.0
    radii: list[float] = field(default_factory=list)
    refused: list[bool] = field(default_factory=list)


def measure(plan: Plan) -> Section:
    """Fit, serve, enrol and classify."""
    recipe = Recipe.read(_RECIPE, {"split": {"column": _COLUMN}, "backtests": []})
    say("one-shot: the evaluation's own figure")
    asked = FewShot(hold_out=(CLASS,), shots=(1,), draws=plan.draws)
    own = few_shot(recipe, asked, lambda *_: None)["embedding"][1]
    dataset = load_dataset(recipe, held_out=(CLASS,))
    bundle = _bundle(recipe)
    url = f"sqlite:///{plan.folder / 'classes.sqlite'}"
    with serving(plan.folder, url, bundle) as service, Desk(service.port) as desk:
        seen = _ask(desk, dataset, plan.draws, recipe.fit.seed)
    return Section(TITLE, _text(recipe, dataset, plan.draws), _figures(own, seen, plan.draws))


def records_of(rows: Rows, names: Sequence[str]) -> list[Record]:
    """Rows of a table as a client would send them; what is missing is null."""
    columns = rows.table.select(pl.col(list(names)).cast(pl.Float64))
    return [
        {name: value if value is not None and math.isfinite(value) else None for name, value in row}
        for row in (each.items() for each in columns.iter_rows(named=True))
    ]


def scores(right: Sequence[str], found: Sequence[str], name: str) -> Scores:
    """How good labels are; a label that is no class is wrong.

    Args:
        right: labels.
        found: labels.
        name: of the class whose recall is told.
    """
    truth, labels = np.array(right), np.array(found)
    classes = sorted(set(right))
    macro_f1 = f1_score(truth, labels, labels=classes, average="macro", zero_division=0)
    recall = (labels[truth == name] == name).mean()
    return Scores(float((truth == labels).mean()), float(macro_f1), float(recall))


def _bundle(recipe: Recipe) -> Path:
    """A bundle that never saw the class."""
    say(f"one-shot: fitting without {CLASS}")
    dropped = (*recipe.drop_labels, CLASS)
    bundle, _ = train(
        recipe.model_copy(update={"drop_labels": dropped}), datetime.now(UTC), lambda *_: None
    )
    folder = ROOT / "build" / "enrolment" / f"without-{CLASS}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    bundle.write(folder)
    return folder


def _ask(desk: Desk, dataset: Dataset, draws: int, seed: int) -> _Seen:
    names = [each.name for each in dataset.schema.fields]
    candidates = records_of(dataset.train, names) + records_of(dataset.dev, names)
    labels = np.concatenate([dataset.train.labels, dataset.dev.labels])
    mine = np.flatnonzero(labels == dataset.classes.index(CLASS))
    tested = records_of(dataset.test, names)
    parts = [tested[start : start + _BATCH] for start in range(0, len(tested), _BATCH)]
    bodies = [json.dumps({"records": part}).encode() for part in parts]
    right = [dataset.classes[label] for label in dataset.test.labels]
    # As training.evaluation.few_shot draws them.
    random, seen = np.random.default_rng(seed), _Seen()
    before = [label for body in bodies for label, _ in _classify(desk, body, 0)]
    _, seen.others_before = _unknown(before, right)
    for draw in range(draws):
        [chosen] = random.choice(mine, 1, replace=False)
        answer = _enrol(desk, candidates[chosen], seen)
        seen.radii.append(answer.content["class"]["radius"])
        labelled = [each for body in bodies for each in _classify(desk, body, answer.revision)]
        nearest = [label if near is None else near for label, near in labelled]
        served = [label for label, _ in labelled]
        seen.nearest.append(scores(right, nearest, CLASS))
        seen.served.append(scores(right, served, CLASS))
        own, others = _unknown(served, right)
        seen.unknown.append(own)
        seen.others.append(others)
        _expect(desk.ask("DELETE", f"/classes/{CLASS}"), 200)
        say(f"one-shot: draw {draw + 1}/{draws}, macro-F1 {seen.nearest[-1].macro_f1:.3f}")
    return seen


def _unknown(labels: Sequence[str], right: Sequence[str]) -> tuple[float, float]:
    """Shares of unknown ones, of the class's own records and of the others."""
    found, mine = np.array(labels) == "unknown", np.array(right) == CLASS
    return float(found[mine].mean()), float(found[~mine].mean())


def _enrol(desk: Desk, record: Record, seen: _Seen) -> Answer:
    answer = desk.enrol(CLASS, record)
    if answer.status == 409 and answer.content.get("report", {}).get("swallowed"):
        seen.refused.append(True)
        return _expect(desk.enrol(CLASS, record, force=True), 201)
    seen.refused.append(False)
    return _expect(answer, 201)


def _classify(desk: Desk, body: bytes, revision: int) -> list[tuple[str, str | None]]:
    """Label and nearest class of each record."""
    answer = _expect(desk.ask("POST", "/classify", body), 200)
    if answer.revision < revision:
        raise ServerError(f"answers with revision {answer.revision} after {revision}")
    return [(each["label"], each.get("nearest")) for each in answer.content["results"]]


def _expect(answer: Answer, status: int) -> Answer:
    if answer.status != status:
        raise ServerError(f"answers {answer.status}, not {status}: {str(answer.content)[:200]}")
    return answer


def _text(recipe: Recipe, dataset: Dataset, draws: int) -> str:
    place = dataset.classes.index(CLASS)
    parts = [dataset.train, dataset.dev]
    mine = pl.concat([rows.table.filter(rows.labels == place) for rows in parts])
    tested = (
        f"{(dataset.test.labels == c).sum():,} {name}" for c, name in enumerate(dataset.classes)
    )
    devices = " and ".join(sorted(set(mine["device"])))
    command = f"faultcube evaluate --recipe training/iosxr.toml --split-column c --hold-out {CLASS}"
    return _TEXT.format(
        command=command,
        name=CLASS,
        draws=draws,
        seed=recipe.fit.seed,
        candidates=len(mine),
        devices=devices,
        tested=", ".join(tested),
        classes=len(dataset.classes),
    )


def _figures(own: Draws, seen: _Seen, draws: int) -> list[Figure]:
    figures = []
    for what, (mean, deviation), name in (
        ("macro-F1", own.macro_f1, "macro_f1"),
        ("accuracy", own.accuracy, "accuracy"),
        (f"recall of {CLASS}", own.held_out_recall, "recall"),
    ):
        figures.append(told(f"{what}, the evaluation's own", f"{mean:.3f} ± {deviation:.3f}"))
        for way, found in (("by nearest class", seen.nearest), ("as served", seen.served)):
            values = [getattr(each, name) for each in found]
            title = f"{what}, service, {way}"
            if name == "macro_f1":
                judged = reaching(title, statistics.fmean(values), mean - TOLERANCE)
                shown = f"{judged.measured} ± {statistics.pstdev(values):.3f}"
                figures.append(Figure(title, shown, judged.wanted, judged.reached))
            else:
                shown = f"{statistics.fmean(values):.3f} ± {statistics.pstdev(values):.3f}"
                figures.append(told(title, shown))
    unknown = f"{statistics.fmean(seen.unknown):.3f}, at most {max(seen.unknown):.3f}"
    figures.append(told(f"share of {CLASS} called unknown, as served", unknown))
    others = f"{statistics.fmean(seen.others):.3f}; {seen.others_before:.3f}"
    title = "share of the other classes called unknown, as served; before the class was enrolled"
    figures.append(told(title, others))
    radii = f"{min(seen.radii):.4f} to {max(seen.radii):.4f}"
    figures.append(told("radius of the enrolled class", radii))
    figures.append(told("enrolments answered 409, swallows", f"{sum(seen.refused)} of {draws}"))
    for refused, which in ((False, "taken at once"), (True, "answered 409 first")):
        pairs = zip(seen.nearest, seen.refused, strict=True)
        values = [each.macro_f1 for each, forced in pairs if forced is refused]
        if values:
            shown = f"{statistics.fmean(values):.3f}"
            figures.append(told(f"macro-F1 by nearest class, of draws that were {which}", shown))
    return figures
