"""A candidate that has learned from feedback, against the bundle that runs.

Both are tried on the same test rows. Feedback that was learned from says nothing of what was
learned, so that a trial fit sees only the older half of each label's rows, and is tried with the
running bundle on the newer half. Rows from before the running bundle was made are left out there if
that bundle was itself made of feedback: it may know them by heart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
from sklearn.metrics import f1_score

from models.bundle import UNKNOWN, Bundle
from models.decision import Decisions
from models.model import Model
from models.schema import Matrix
from training.dataset.dataset import encode_rows
from training.dataset.tables import Added, added_tables, aligned
from training.recipe import Recipe, RecipeError
from training.train import Fitted, Report, fit_and_test, train

__all__ = ["TOLERANCE", "Outcome", "Side", "retrain", "target_of"]

TOLERANCE = 0.01
"""How much less of macro-F1 on the test rows is let pass. Fits of the shipped recipe that differ in
nothing but their seed have a standard deviation of 0.004 (benchmarks/results/comparison), and so
two of them differ by 0.006: this is less than twice as much."""
_TIME = "time"
_LEAST = 2
"""Rows of a label that a fit needs: they are never held back."""
_ROUNDING = 1e-9
_Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Side:
    """What verdicts are worth as they are served; unknown, like a label not known, is wrong.

    Attributes:
        records: how many.
        accuracy: share that got its label.
        balanced_accuracy: mean over labels of the share that got it.
        macro_f1: mean over labels of F1.
        false_alarm_rate: share of good records that were not called good; None without any.
        recall: share of each label's records that got it.
    """

    records: int
    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    false_alarm_rate: float | None
    recall: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it.

    Attributes:
        bundle: the candidate.
        fitted: how it was fitted.
        test: running bundle and candidate on the test rows.
        feedback: running bundle and trial fit on the added rows that were held back; None when
            there are none.
        worse: why the candidate must not follow, one line each.
    """

    bundle: Bundle
    fitted: Fitted
    test: tuple[Side, Side]
    feedback: tuple[Side, Side] | None
    worse: tuple[str, ...]


def retrain(
    recipe: Recipe,
    running: Model,
    created: datetime,
    report: Report,
    tolerance: float = TOLERANCE,
) -> Outcome:
    """Fit a candidate on the recipe's tables and compare it with the running bundle.

    Args:
        recipe: names the tables, those to add among them.
        running: what it is compared with; may know other classes and fields.
        created: goes into the manifest.
        report: told of every epoch.
        tolerance: how much macro-F1 on the test rows may fall.

    Raises:
        RecipeError: the tables cannot be trained on, or are none that the running bundle can read.
        ExportError: the exported graph differs from the encoder.
    """
    version = running.manifest.version
    bundle, fitted = train(recipe, created, report, retrained_from=version)
    candidate, rows = Model(bundle), fitted.dataset.test.table
    labels = rows[recipe.label].to_list()
    before = _verdicts(running, encode_rows(rows, running.schema))
    after = _verdicts(candidate, fitted.dataset.test.matrix)
    test = _side(labels, before, recipe.good), _side(labels, after, recipe.good)
    fields = {*running.schema.names, *candidate.schema.names, recipe.label}
    like = fitted.dataset.train.table
    like = like.select(name for name in like.columns if name in fields)
    feedback = _on_feedback(recipe, running, like, report)
    return Outcome(bundle, fitted, test, feedback, _worse(test, feedback, tolerance))


def target_of(out: Path, bundle: Bundle | None = None) -> Path:
    """Where to write a bundle to: `out`, or, when that is a folder of bundles, a new one in it.

    Args:
        out: a folder that is not there, or one of bundles.
        bundle: what is to be written; None to see only whether `out` will do.

    Raises:
        RecipeError: `out` is a file or a bundle, or holds this very bundle.
    """
    if not out.exists() and not out.is_symlink():
        return out
    if not out.is_dir() or (out / "manifest.json").exists():
        raise RecipeError(f"{out} is no folder of bundles, and nothing is overwritten: --out")
    if bundle is None:
        return out / "bundle"
    target = out / f"{bundle.manifest.name}-{bundle.manifest.version}"
    if target.exists():
        raise RecipeError(f"{target} is there already: nothing new was learned")
    return target


def _on_feedback(
    recipe: Recipe, running: Model, like: pl.DataFrame, report: Report
) -> tuple[Side, Side] | None:
    """Running bundle and trial fit on added rows that neither has seen."""
    kept, held = _halves(recipe, running, like)
    if held.is_empty():
        return None
    trial = fit_and_test(recipe, recipe.split, partial(report, f"{recipe.name}, trial"), kept)
    matrix = encode_rows(held, trial.dataset.schema)
    # What was learned is no test, and feedback may be given twice.
    known = {row.tobytes() for row in trial.dataset.train.matrix}
    new = np.array([row.tobytes() not in known for row in matrix], dtype=np.bool_)
    held, matrix = held.filter(new), matrix[new]
    if held.is_empty():
        return None
    labels = held[recipe.label].to_list()
    after = _named(trial.rule.decide(trial.encoder.embed(matrix)), trial.dataset.classes)
    before = _verdicts(running, encode_rows(held, running.schema))
    return _side(labels, before, recipe.good), _side(labels, after, recipe.good)


def _halves(recipe: Recipe, running: Model, like: pl.DataFrame) -> tuple[list[Added], pl.DataFrame]:
    """The added rows that a trial is fitted on, and those that it is tried on."""
    since = running.manifest.created if "added" in running.manifest.training else None
    kept, held = [], []
    for each in added_tables(recipe):
        back = _newer_half(each.rows, recipe.label, since)
        kept.append(dataclasses.replace(each, rows=each.rows.filter(~back)))
        held.append(aligned(dataclasses.replace(each, rows=each.rows.filter(back)), like))
    return kept, pl.concat(held, how="diagonal_relaxed") if held else pl.DataFrame()


def _newer_half(rows: pl.DataFrame, label: str, since: datetime | None) -> _Mask:
    """Which rows to hold back: of each label the newer half of those that are from `since` on."""
    table = rows.with_row_index("__row__")
    if _TIME in rows.columns:
        table = table.sort(_TIME, maintain_order=True)
    new = _from(rows, since)
    back = np.zeros(len(rows), dtype=np.bool_)
    for mine in table.group_by(label, maintain_order=True).agg("__row__")["__row__"]:
        places = mine.to_numpy()
        fresh = places[new[places]]
        count = max(min(len(fresh) // 2, len(places) - _LEAST), 0)
        back[fresh[len(fresh) - count :]] = True
    return back


def _from(rows: pl.DataFrame, since: datetime | None) -> _Mask:
    """Which rows are from a time on, or of a time that cannot be read."""
    if since is None or _TIME not in rows.columns:
        return np.ones(len(rows), dtype=np.bool_)
    bound = _aware(since)
    times = (_as_time(value) for value in rows[_TIME].to_list())
    return np.array([time is None or time >= bound for time in times], dtype=np.bool_)


def _as_time(value: object) -> datetime | None:
    """ISO 8601, or seconds since 1970."""
    try:
        match value:
            case str():
                return _aware(datetime.fromisoformat(value.strip()))
            case int() | float():
                return datetime.fromtimestamp(value, UTC)
            case datetime():
                return _aware(value)
    except (ValueError, OverflowError, OSError):
        pass
    return None


def _aware(time: datetime) -> datetime:
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _verdicts(model: Model, matrix: Matrix) -> list[str]:
    return _named(model.decide(matrix), model.names)


def _named(decisions: Decisions, names: Sequence[str]) -> list[str]:
    pairs = zip(decisions.nearest.tolist(), decisions.accepted.tolist(), strict=True)
    return [names[nearest] if accepted else UNKNOWN for nearest, accepted in pairs]


def _side(labels: Sequence[str], verdicts: Sequence[str], good: str) -> Side:
    truth, said = np.array(labels, dtype=object), np.array(verdicts, dtype=object)
    present = sorted(set(labels), key=lambda label: (label != good, label))
    recall = {label: float((said[truth == label] == label).mean()) for label in present}
    macro_f1 = f1_score(truth, said, labels=present, average="macro", zero_division=0)
    return Side(
        records=len(truth),
        accuracy=float((truth == said).mean()),
        balanced_accuracy=float(np.mean([*recall.values()])),
        macro_f1=float(macro_f1),
        false_alarm_rate=1 - recall[good] if good in recall else None,
        recall=recall,
    )


def _worse(
    test: tuple[Side, Side], feedback: tuple[Side, Side] | None, tolerance: float
) -> tuple[str, ...]:
    before, after = (side.macro_f1 for side in test)
    said = []
    if before - after > tolerance + _ROUNDING:
        said.append(
            f"macro-F1 on the test rows fell from {before:.4f} to {after:.4f}, by "
            f"{before - after:.4f}, where {tolerance:g} is allowed"
        )
    if feedback:
        before, after = (side.accuracy for side in feedback)
        if before - after > _ROUNDING:
            said.append(
                f"accuracy on the added rows that were held back fell from {before:.4f} to "
                f"{after:.4f}, by {before - after:.4f}"
            )
    return tuple(said)
