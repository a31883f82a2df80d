"""Compare a candidate that has learned from feedback with the running bundle.

Both are measured on the same test rows, by the classes that both know: a class that only one of
them has, and that no test row is of, can only be wrong there.

Rows that the candidate was fitted on cannot measure it. So a trial fit takes the older half of each
label's added rows, and is compared with the running bundle on the newer half. If that bundle was
made with added rows, rows from before it was made do not count: it may have learned them.
"""

import dataclasses
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pydantic

from models.bundle import Bundle
from models.decision import Decisions
from models.model import Model
from models.names import UNKNOWN
from models.schema import Matrix
from training.dataset.clocks import Clock
from training.dataset.dataset import encode_rows
from training.dataset.tables import Added, added_tables, aligned
from training.evaluation.evaluate import Scores, score
from training.recipe import Recipe, RecipeError
from training.train import Fitted, Report, fit_and_test, train

TOLERANCE = 0.01
"""Macro-F1 on the test rows that a candidate may lose. Fits of the shipped recipe that differ only
in their seed have a standard deviation of 0.004 (benchmarks/results/comparison), so two of them
differ by 0.006: this is less than twice as much."""
_TIME = "time"
_LEAST = 1  # Rows of a label that a trial fit must know: they are never held back
_ROUNDING = 1e-9
_LONGEST = 60  # Characters of a value in a line about a change of the recipe
_DATETIME = pydantic.TypeAdapter(datetime)
_Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of a retraining; an unknown class or verdict counts as wrong in all scores."""

    bundle: Bundle  # the candidate
    fitted: Fitted  # its fit
    # running bundle and candidate on the test rows, without classes that neither these rows nor
    # the other one know
    test: tuple[Scores, Scores]
    new: tuple[str, ...]  # such classes of the candidate
    whole: Scores  # the candidate on the test rows with all of its classes
    # running bundle and trial fit on the added rows that were held back; None if there are none
    feedback: tuple[Scores, Scores] | None
    worse: tuple[str, ...]  # why the candidate must not follow, one line each


def retrain(
    recipe: Recipe, running: Model, created: datetime, report: Report, tolerance: float = TOLERANCE
) -> Outcome:
    """Fit a candidate on the recipe's tables and compare it with the running bundle.

    The running bundle may have other classes and fields. Macro-F1 on the test rows may fall by the
    tolerance.

    Raises:
        RecipeError: the tables cannot be trained on, or the running bundle cannot read them.
        ExportError: the exported graph differs from the encoder.
    """
    version = running.manifest.version
    bundle, fitted = train(recipe, created, report, retrained_from=version)
    candidate, rows = Model(bundle), fitted.dataset.test.table
    labels = rows[recipe.label].to_list()
    old, new = (
        _alone(model, other, labels)
        for model, other in ((running, candidate), (candidate, running))
    )
    before = _verdicts(running.with_classes((), without=old), encode_rows(rows, running.schema))
    after = _verdicts(candidate.with_classes((), without=new), fitted.dataset.test.matrix)
    test = score(labels, before), score(labels, after)
    whole = score(labels, _verdicts(candidate, fitted.dataset.test.matrix))
    fields = {*running.schema.names, *candidate.schema.names, recipe.label}
    like = fitted.dataset.train.table
    like = like.select(name for name in like.columns if name in fields)
    feedback = _on_feedback(recipe, running, like, report, fitted.dataset.clocks)
    worse = _worse(test, feedback, tolerance)
    return Outcome(bundle, fitted, test, new, whole, feedback, worse)


def describe_falls(before: Scores, after: Scores) -> str:
    """Return the classes whose recall fell, the one that fell most first; empty if none did."""
    falls = {label: recall - after.recall[label] for label, recall in before.recall.items()}
    named = [
        f"{label} {before.recall[label]:.3f} to {after.recall[label]:.3f}"
        for label in sorted(falls, key=lambda label: -falls[label])
        if falls[label] > _ROUNDING
    ]
    return f"recall of {', '.join(named)}" if named else ""


def recipe_changes(recipe: Recipe, running: Model) -> list[str]:
    """Return a line for each key that differs from the recipe recorded in the running bundle."""
    recorded = running.manifest.training.get("recipe")
    if not isinstance(recorded, dict):
        return []
    before, after = dict(_flat(recorded)), dict(_flat(recipe.as_recorded()))
    return [
        f"{key}: {_shown(before, key)} -> {_shown(after, key)}"
        for key in dict.fromkeys([*after, *before])
        if before.get(key) != after.get(key)
    ]


def _flat(content: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{path}{key}.")
        else:
            yield path + key, value


def _shown(values: Mapping[str, Any], key: str) -> str:
    text = json.dumps(values[key], ensure_ascii=False) if key in values else "none"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def target_of(out: Path, bundle: Bundle | None = None) -> Path:
    """Return the folder to write a bundle to: `out`, or a new one in `out` if that has bundles.

    Without a bundle, `out` is only checked.

    Raises:
        RecipeError: `out` is a file or a bundle, or has this very bundle already.
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
    recipe: Recipe, running: Model, like: pl.DataFrame, report: Report, clocks: Sequence[Clock]
) -> tuple[Scores, Scores] | None:
    """Score running bundle and trial fit on added rows that neither has seen."""
    kept, held = _halves(recipe, running, like, clocks)
    if held.is_empty():
        return None
    trial = fit_and_test(recipe, recipe.split, partial(report, f"{recipe.name}, trial"), kept)
    matrix = encode_rows(held, trial.dataset.schema)
    # Feedback may be given twice, and rows that the trial has learned, or that calibrated it or
    # are records of a carried class, cannot test it.
    seen = trial.dataset.known, trial.rows
    learned = {row.tobytes() for rows in seen for row in rows.matrix}
    new = np.array([row.tobytes() not in learned for row in matrix], dtype=np.bool_)
    held, matrix = held.filter(new), matrix[new]
    if held.is_empty():
        return None
    labels = held[recipe.label].to_list()
    after = _named(trial.rule.decide(trial.encoder.embed(matrix)), trial.dataset.classes)
    before = _verdicts(running, encode_rows(held, running.schema))
    return score(labels, before), score(labels, after)


def _halves(
    recipe: Recipe, running: Model, like: pl.DataFrame, clocks: Sequence[Clock]
) -> tuple[list[Added], pl.DataFrame]:
    """Return the added rows that the trial is fitted on, and those that it is tested on."""
    since = running.manifest.created if "added" in running.manifest.training else None
    kept, held = [], []
    for added in added_tables(recipe, clocks):
        back = _newer_half(added.rows, recipe.label, since)
        kept.append(dataclasses.replace(added, rows=added.rows.filter(~back)))
        held.append(aligned(dataclasses.replace(added, rows=added.rows.filter(back)), like))
    return kept, pl.concat(held, how="diagonal_relaxed") if held else pl.DataFrame()


def _newer_half(rows: pl.DataFrame, label: str, since: datetime | None) -> _Mask:
    """Mark the rows to hold back: of each label, the newer half of those from `since` on."""
    table = rows.with_row_index("__row__")
    if _TIME in rows.columns:
        table = table.sort(_TIME, maintain_order=True)
    new = _from(rows, since)
    back = np.zeros(len(rows), dtype=np.bool_)
    for rows_of_label in table.group_by(label, maintain_order=True).agg("__row__")["__row__"]:
        indices = rows_of_label.to_numpy()
        fresh = indices[new[indices]]
        count = max(min(len(fresh) // 2, len(indices) - _LEAST), 0)
        back[fresh[len(fresh) - count :]] = True
    return back


def _from(rows: pl.DataFrame, since: datetime | None) -> _Mask:
    """Mark the rows from a time on, and those whose time cannot be read."""
    if since is None or _TIME not in rows.columns:
        return np.ones(len(rows), dtype=np.bool_)
    times = (_as_time(value) for value in rows[_TIME].to_list())
    return np.array([time is None or time >= _aware(since) for time in times], dtype=np.bool_)


def _as_time(value: object) -> datetime | None:
    """Read ISO 8601, or seconds since 1970."""
    try:
        return _aware(_DATETIME.validate_python(value))
    except pydantic.ValidationError:
        return None


def _aware(time: datetime) -> datetime:
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _alone(model: Model, other: Model, labels: Collection[str]) -> tuple[str, ...]:
    """Return the classes of a model that neither the other one nor the labels know."""
    return tuple(name for name in model.names if name not in {*other.names, *labels})


def _verdicts(model: Model, matrix: Matrix) -> list[str]:
    return _named(model.decide(matrix), model.names)


def _named(decisions: Decisions, names: Sequence[str]) -> list[str]:
    verdicts: list[str] = np.where(
        decisions.accepted, np.array(names)[decisions.nearest], UNKNOWN
    ).tolist()
    return verdicts


def _worse(
    test: tuple[Scores, Scores], feedback: tuple[Scores, Scores] | None, tolerance: float
) -> tuple[str, ...]:
    before, after = (scores.macro_f1 for scores in test)
    allowed = f", where {tolerance:g} is allowed" + _in_brackets(describe_falls(*test))
    checks = [("macro-F1 on the test rows", before, after, tolerance, allowed)]
    if feedback:
        before, after = (scores.accuracy for scores in feedback)
        name = "accuracy on the added rows that were held back"
        checks.append((name, before, after, 0, _in_brackets(describe_falls(*feedback))))
    return tuple(
        f"{name} fell from {before:.4f} to {after:.4f}, by {before - after:.4f}{more}"
        for name, before, after, limit, more in checks
        if before - after > limit + _ROUNDING
    )


def _in_brackets(falls: str) -> str:
    return f" ({falls})" if falls else ""
