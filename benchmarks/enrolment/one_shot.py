"""A class from one record through the service, beside the figures of the evaluation."""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.detection import baselines
from benchmarks.enrolment.client import AdminClient, Record, enrolling_service
from benchmarks.enrolment.options import Options
from benchmarks.harness.client import Answer, ServerError
from benchmarks.harness.records import ROOT
from benchmarks.harness.report import Figure, Section, at_least, info, progress
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
    """Scores of one draw, shares of one."""

    accuracy: float
    macro_f1: float
    recall: float


@dataclass(slots=True)
class _Seen:
    """What the service answered in each draw; shares of its own and other rows called unknown."""

    nearest: list[Scores] = field(default_factory=list)
    served: list[Scores] = field(default_factory=list)
    unknown: list[float] = field(default_factory=list)
    others: list[float] = field(default_factory=list)
    others_before: float = 0.0
    radii: list[float] = field(default_factory=list)
    refused: list[bool] = field(default_factory=list)


def measure(options: Options) -> Section:
    """Fit, serve, enrol and classify."""
    recipe = Recipe.read(_RECIPE, {"split": {"column": _COLUMN}, "backtests": []})
    progress("one-shot: the evaluation's own figure")
    setup = FewShot(hold_out=(CLASS,), shots=(1,), draws=options.draws)
    own = few_shot(recipe, setup, lambda *_: None)["embedding"][1]
    dataset = load_dataset(recipe, held_out=(CLASS,))
    bundle = _bundle(recipe)
    url = f"sqlite:///{options.folder / 'classes.sqlite'}"
    with (
        enrolling_service(options.folder, url, bundle) as service,
        AdminClient(service.port) as client,
    ):
        seen = _ask(client, dataset, options.draws, recipe.fit.seed)
    return Section(TITLE, _text(recipe, dataset, options.draws), _figures(own, seen, options.draws))


def records_of(rows: Rows, names: Sequence[str]) -> list[dict[str, float | None]]:
    """Return rows of a table as a client would send them; what is missing is null."""
    columns = pl.col(list(names)).cast(pl.Float64)
    finite = rows.table.select(pl.when(columns.is_finite()).then(columns))
    return finite.to_dicts()


def scores(right: Sequence[str], predicted: Sequence[str], name: str) -> Scores:
    """Score predicted labels, with the recall of a class; a label that is no class is wrong."""
    truth, labels = np.array(right), np.array(predicted)
    shares = baselines.scores(truth, labels)
    recall = float((labels[truth == name] == name).mean())
    return Scores(shares["accuracy"], shares["macro-F1"], recall)


def _bundle(recipe: Recipe) -> Path:
    """Fit a bundle without the class and write it."""
    progress(f"one-shot: fitting without {CLASS}")
    dropped = (*recipe.drop_labels, CLASS)
    bundle, _ = train(
        recipe.model_copy(update={"drop_labels": dropped}), datetime.now(UTC), lambda *_: None
    )
    folder = ROOT / "build" / "enrolment" / f"without-{CLASS}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    bundle.write(folder)
    return folder


def _ask(client: AdminClient, dataset: Dataset, draws: int, seed: int) -> _Seen:
    names = [field.name for field in dataset.schema.fields]
    candidates = records_of(dataset.train, names) + records_of(dataset.dev, names)
    labels = np.concatenate([dataset.train.labels, dataset.dev.labels])
    own_rows = np.flatnonzero(labels == dataset.classes.index(CLASS))
    tested = records_of(dataset.test, names)
    starts = range(0, len(tested), _BATCH)
    bodies = [json.dumps({"records": tested[at : at + _BATCH]}).encode() for at in starts]
    right = [dataset.classes[label] for label in dataset.test.labels]
    # As training.evaluation.few_shot draws them.
    random, seen = np.random.default_rng(seed), _Seen()
    before = [label for body in bodies for label, _ in _classify(client, body, 0)]
    _, seen.others_before = _unknown(before, right)
    for draw in range(draws):
        [chosen] = random.choice(own_rows, 1, replace=False)
        answer = _enrol(client, candidates[chosen], seen)
        seen.radii.append(answer.content["class"]["radius"])
        pairs = [pair for body in bodies for pair in _classify(client, body, answer.revision)]
        served = [label for label, _ in pairs]
        seen.nearest.append(scores(right, [near or label for label, near in pairs], CLASS))
        seen.served.append(scores(right, served, CLASS))
        own, others = _unknown(served, right)
        seen.unknown.append(own)
        seen.others.append(others)
        client.ask("DELETE", f"/classes/{CLASS}").expect()
        progress(f"one-shot: draw {draw + 1}/{draws}, macro-F1 {seen.nearest[-1].macro_f1:.3f}")
    return seen


def _unknown(labels: Sequence[str], right: Sequence[str]) -> tuple[float, float]:
    """Return the shares called unknown of the class's own records and of the others."""
    unknown, own = np.array(labels) == "unknown", np.array(right) == CLASS
    return float(unknown[own].mean()), float(unknown[~own].mean())


def _enrol(client: AdminClient, record: Record, seen: _Seen) -> Answer:
    answer = client.enrol(CLASS, record)
    if answer.status == 409 and answer.content.get("report", {}).get("swallowed"):
        seen.refused.append(True)
        return client.enrol(CLASS, record, force=True).expect(201)
    seen.refused.append(False)
    return answer.expect(201)


def _classify(client: AdminClient, body: bytes, revision: int) -> list[tuple[str, str | None]]:
    """Return label and nearest class of each record."""
    answer = client.post("/classify", body)
    if answer.revision < revision:
        raise ServerError(f"answers with revision {answer.revision} after {revision}")
    return [(row["label"], row.get("nearest")) for row in answer.content["results"]]


def _text(recipe: Recipe, dataset: Dataset, draws: int) -> str:
    index = dataset.classes.index(CLASS)
    parts = [dataset.train, dataset.dev]
    candidates = pl.concat([rows.table.filter(rows.labels == index) for rows in parts])
    tested = (
        f"{(dataset.test.labels == c).sum():,} {name}" for c, name in enumerate(dataset.classes)
    )
    devices = " and ".join(sorted(set(candidates["device"])))
    command = f"faultcube evaluate --recipe training/iosxr.toml --split-column c --hold-out {CLASS}"
    return _TEXT.format(
        command=command,
        name=CLASS,
        draws=draws,
        seed=recipe.fit.seed,
        candidates=len(candidates),
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
        figures.append(info(f"{what}, the evaluation's own", f"{mean:.3f} ± {deviation:.3f}"))
        for way, draws_scores in (("by nearest class", seen.nearest), ("as served", seen.served)):
            values = [getattr(draw, name) for draw in draws_scores]
            title = f"{what}, service, {way}"
            average = statistics.fmean(values)
            is_judged = name == "macro_f1"
            figure = at_least(title, average, mean - TOLERANCE, 3) if is_judged else info(title, "")
            shown = f"{average:.3f} ± {statistics.pstdev(values):.3f}"
            figures.append(replace(figure, measured=shown))
    unknown = f"{statistics.fmean(seen.unknown):.3f}, at most {max(seen.unknown):.3f}"
    figures.append(info(f"share of {CLASS} called unknown, as served", unknown))
    others = f"{statistics.fmean(seen.others):.3f}; {seen.others_before:.3f}"
    title = "share of the other classes called unknown, as served; before the class was enrolled"
    figures.append(info(title, others))
    radii = f"{min(seen.radii):.4f} to {max(seen.radii):.4f}"
    figures.append(info("radius of the enrolled class", radii))
    figures.append(info("enrolments answered 409, swallows", f"{sum(seen.refused)} of {draws}"))
    for refused, which in ((False, "taken at once"), (True, "answered 409 first")):
        pairs = zip(seen.nearest, seen.refused, strict=True)
        values = [draw.macro_f1 for draw, forced in pairs if forced is refused]
        if values:
            shown = f"{statistics.fmean(values):.3f}"
            figures.append(info(f"macro-F1 by nearest class, of draws that were {which}", shown))
    return figures
