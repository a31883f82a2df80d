"""Run the commands and print their results: what a person at a terminal sees of training."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial, wraps
from pathlib import Path
from typing import Any, ParamSpec

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

from models.bundle import Bundle, BundleError
from models.model import Model
from training.check import first_page, reason_of
from training.dataset.labels import class_names
from training.dataset.schema_inference import infer_fields
from training.dataset.tables import added_tables, read_labelled
from training.evaluation.evaluate import Scores
from training.evaluation.few_shot import few_shot
from training.evaluation.loss_comparison import Plan
from training.fitting import processes
from training.fitting.cross import FOLDS
from training.fitting.encoder import Encoder
from training.fitting.fit import Epoch
from training.fitting.processes import ProcessError
from training.onnx.export import ExportError
from training.recipe import FewShot, Recipe, RecipeError
from training.reports.comparison_page import run_comparison
from training.reports.plain_words import in_words, verdict_on_data
from training.retrain import TOLERANCE, Outcome, describe_falls, recipe_changes, retrain, target_of
from training.train import Fitted, join_training
from training.train import train as train_bundle

_P = ParamSpec("_P")


def _exit_code(command: Callable[_P, int]) -> Callable[_P, int]:
    """Make a command print errors as one line; 2 for input that cannot be used, 1 for ours."""

    @wraps(command)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> int:
        try:
            return command(*args, **kwargs)
        except (RecipeError, BundleError, ExportError, ProcessError, OSError) as error:
            if processes.is_local_main():
                typer.echo(f"faultcube: {reason_of(error)}", err=True)
            return 1 if isinstance(error, (ExportError, ProcessError)) else 2

    return run


@_exit_code
def train_and_write(recipe_file: Path | None, options: dict[str, Any], out: Path | None) -> int:
    """Train and write a bundle; returns the exit code."""
    recipe = Recipe.read(recipe_file, options)
    with processes.joined(processes.device_of(recipe.fit.device)):
        if processes.rank():
            join_training(recipe)
            return 0
        target = _new_folder(out or Path("models") / recipe.name)
        first_page(recipe)
        with _progress(recipe) as report:
            bundle, fitted = train_bundle(recipe, datetime.now(UTC), report)
        bundle.write(target)
        _summarise(bundle, fitted, target)
    return 0


@_exit_code
def retrain_and_write(
    recipe_file: Path, options: dict[str, Any], running: Path, out: Path, tolerance: float | None
) -> int:
    """Fit a candidate and write it if it is not worse; returns the exit code, 1 if it is."""
    processes.refuse_several()
    recipe = Recipe.read(recipe_file, options)
    _writable(target_of(out))
    model = Model.load(running)
    for change in recipe_changes(recipe, model):
        typer.echo(f"warning: the recipe is not that of the running bundle: {change}", err=True)
    allowed = TOLERANCE if tolerance is None else tolerance
    with _progress(recipe) as report:
        outcome = retrain(recipe, model, datetime.now(UTC), report, allowed)
    _compare(outcome, model.manifest.version, recipe.good)
    for reason in outcome.worse:
        typer.echo(f"faultcube: {reason}; nothing was written", err=True)
    if outcome.worse:
        return 1
    target, manifest = target_of(out, outcome.bundle), outcome.bundle.manifest
    outcome.bundle.write(target)
    typer.echo(f"wrote {target} ({manifest.name}, version {manifest.version})")
    return 0


@_exit_code
def evaluate_few_shot(recipe_file: Path, options: dict[str, Any], plan: dict[str, Any]) -> int:
    """Print scores of embedding, raw fields and LDA on unseen classes; returns the exit code."""
    processes.refuse_several()
    recipe = Recipe.read(recipe_file, options)
    checked = FewShot.checked(plan)
    with _progress(recipe) as report:
        result = few_shot(recipe, checked, partial(report, recipe.name))
    typer.echo(f"held out: {', '.join(checked.hold_out)}; {checked.draws} draws, mean ± sd")
    header = ["space", "shots", "accuracy", "macro-F1", "held-out recall", "false alarms"]
    if events := any(d.events_named for by_shots in result.values() for d in by_shots.values()):
        header.append("events found and named")
    typer.echo(f"| {' | '.join(header)} |\n{'|---' * len(header)}|")
    for space, by_shots in result.items():
        for shots, draws in by_shots.items():
            values = [draws.accuracy, draws.macro_f1, draws.held_out_recall, draws.false_alarms]
            if events and draws.events_named:
                values.append(draws.events_named)
            cells = " | ".join(f"{mean:.3f} ± {deviation:.3f}" for mean, deviation in values)
            typer.echo(f"| {space} | {shots} | {cells} |")
    return 0


@_exit_code
def compare_and_write(
    recipe_file: Path, options: dict[str, Any], plan: dict[str, Any], out: Path, command: str
) -> int:
    """Compare losses, print the table and write it with its figures; returns the exit code."""
    processes.refuse_several()
    checked = Plan(**plan)
    recipe = Recipe.read(recipe_file, options)
    target = _new_folder(out)
    with _progress(recipe, checked.fits) as report:
        files = run_comparison(recipe, checked, command, report)
    for name, content in files.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    typer.echo(files["comparison.md"].decode())
    typer.echo(f"wrote {target}: {', '.join(files)}", err=True)
    return 0


@_exit_code
def print_schema(recipe_file: Path | None, options: dict[str, Any]) -> int:
    """Print the fields of all rows as the part of a recipe; returns the exit code."""
    recipe = Recipe.read(recipe_file, options, {"name": "schema", "split": {"by": "random"}})
    labels = frozenset().union(*(added.labels for added in added_tables(recipe)))
    read = read_labelled(recipe, None, labels)
    rows = read.parts["train"]
    class_names(rows[recipe.label], recipe)
    inference = infer_fields(rows, read.recipe)
    for field in inference.fields:
        required = str(field.required).lower()
        typer.echo(f"[fields.{_quoted(field.name)}]\nkind = {_quoted(field.kind)}")
        relative = "relative = true\n" if field.relative else ""
        typer.echo(f"unit = {_quoted(field.unit)}\nrequired = {required}\n{relative}")
    for name, why in inference.dropped.items():
        typer.echo(f"# no field: {_quoted(name)} ({_quoted(why)[1:-1]})")
    return 0


def _quoted(text: str) -> str:
    """Return a TOML string."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _new_folder(target: Path) -> Path:
    if target.exists() or target.is_symlink():
        raise RecipeError(f"{target} exists, and is never overwritten; give another --out")
    return _writable(target)


def _writable(target: Path) -> Path:
    above = next(folder for folder in target.absolute().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise RecipeError(f"{above} is no folder that can be written to; give another --out")
    return target


@contextmanager
def _progress(
    recipe: Recipe, fits: Mapping[str, int] | None = None
) -> Iterator[Callable[..., None]]:
    """Show a line for each fit on a terminal; `fits` is the number of fits that share a name."""
    tasks: dict[str, TaskID] = {}
    columns = (
        TextColumn(
            "{task.description}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")
        ),
        BarColumn(bar_width=8),
        TextColumn("{task.completed}/{task.total}"),
        TextColumn("{task.fields[numbers]}", table_column=Column(no_wrap=True)),
        TimeElapsedColumn(table_column=Column(no_wrap=True)),
    )
    silent = not sys.stderr.isatty()
    with Progress(*columns, expand=True, console=Console(stderr=True), disable=silent) as progress:

        def show(fit: str, epoch: Epoch | None, _: Encoder | None = None) -> None:
            if epoch is None:
                fit = f"{fit}, calibration"
            if fit not in tasks:
                total = recipe.fit.epochs * (fits or {}).get(fit, 1) if epoch else FOLDS
                tasks[fit] = progress.add_task(fit, total=total, numbers="")
            if epoch is None:
                progress.advance(tasks[fit])
                task = next(task for task in progress.tasks if task.id == tasks[fit])
                if task.completed > (task.total or 0):  # another kind of encoder is measured, too
                    progress.update(tasks[fit], total=(task.total or 0) + FOLDS)
                return
            numbers = f"loss {epoch.loss:.3f} excess {epoch.excess_loss:.3f}"
            if epoch.dev_macro_f1 is not None:
                numbers += f" dev macro-F1 {epoch.dev_macro_f1:.3f}"
            progress.update(tasks[fit], advance=1, numbers=numbers)

        yield show


def _summarise(bundle: Bundle, fitted: Fitted, target: Path) -> None:
    dataset, evaluation, manifest = fitted.dataset, fitted.evaluation, bundle.manifest
    rows = ", ".join(f"{len(rows)} {part}" for part, rows in dataset.parts.items())
    for choice in fitted.choices:
        typer.echo(choice)
    typer.echo(f"{len(dataset.schema)} fields, {len(dataset.classes)} classes, rows: {rows}")
    operations = evaluation.operations
    for sentence in (*in_words(operations), verdict_on_data(operations)):
        typer.echo(sentence)
    typer.echo("test           accuracy  balanced  macro-F1")
    for name, scores in (("nearest class", evaluation.nearest), ("as served", evaluation.served)):
        typer.echo(f"{name:<15}" + "".join(f"{number:8.3f}  " for number in scores.overall))
    typer.echo(
        f"called unknown {evaluation.false_unknown_rate:.2%}, "
        f"false alarms {evaluation.false_alarm_rate:.2%}, "
        f"missed faults {evaluation.missed_fault_rate:.2%}, "
        f"excess loss {evaluation.excess_loss:.3f}"
    )
    typer.echo(
        f"wrote {target} ({manifest.name}, version {manifest.version}); "
        f"read {target / 'card.md'}, serve it with: faultcube serve {target}"
    )


def _compare(outcome: Outcome, running: str, good: str) -> None:
    for note in outcome.fitted.dataset.notes:
        typer.echo(f"warning: {note}", err=True)
    typer.echo(f"running {running}, candidate {outcome.bundle.manifest.version}")
    _print_scores("test rows", good, *outcome.test)
    if outcome.new:
        named = ", ".join(outcome.new)
        falls = describe_falls(outcome.test[1], outcome.whole) or "nothing falls"
        typer.echo(
            f"(both without {named}, of which there is no test row and which the running bundle "
            f"does not know; with it: {falls})"
        )
    if outcome.feedback:
        _print_scores("added rows held back", good, *outcome.feedback)
        typer.echo(
            "(the newer half of each label; the candidate's figures here are of a trial fit that "
            "has not seen them, the candidate itself is fitted on all added rows)"
        )
    elif outcome.fitted.dataset.added:
        typer.echo("no added rows could be held back to be tried on: only test rows decide")


def _print_scores(name: str, good: str, before: Scores, after: Scores) -> None:
    names = ("accuracy", "balanced accuracy", "macro-F1", "false alarm rate")
    sides = [(*scores.overall, scores.false_alarm_rate(good)) for scores in (before, after)]
    lines = dict(zip(names, zip(*sides, strict=True), strict=True))
    for label in sorted(before.recall, key=lambda label: (label != good, label)):
        lines[f"recall of {label}"] = (before.recall[label], after.recall[label])
    width = max(map(len, [f"{name} ({before.records})", *lines])) + 2
    typer.echo(f"{f'{name} ({before.records})':<{width}} running  candidate")
    for line, (running, candidate) in lines.items():
        if running is not None and candidate is not None:
            fell = "  fell" if line.startswith("recall of ") and candidate < running else ""
            typer.echo(f"{line:<{width}}{running:8.3f}  {candidate:9.3f}{fell}")
