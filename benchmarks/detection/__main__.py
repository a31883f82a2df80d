"""Detection, few-shot, open-set detection and losses, ours beside baselines, as a Markdown file.

`python -m benchmarks.detection`, from the root of the repository; `--quick` to try it.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from benchmarks.detection import separation
from benchmarks.detection.measure import Result, Task, measure
from benchmarks.detection.ours import OURS
from benchmarks.detection.report import report
from benchmarks.detection.sets import SECTIONS, SETS, Set, derive_tables, recipe_of
from benchmarks.harness.command_line import choose
from benchmarks.harness.report import command, commit, machine, progress, table, versions
from benchmarks.losses import peers
from training.dataset.clocks import RATE_SUFFIX
from training.dataset.dataset import Dataset, load_dataset
from training.recipe import FewShot, RecipeError

_QUICK: Mapping[str, Any] = {"epochs": 2, "steps": 5}
_PACKAGES = ("torch", "scikit-learn", "numpy", "polars", "pytorch-metric-learning")


def main(
    data: Annotated[Path, typer.Option(help="Folder of the data sets.")] = Path("../shared/data"),
    sets: Annotated[str, typer.Option(help="Names or their beginnings, by commas.")] = "",
    sections: Annotated[str, typer.Option(help="Of the report, by commas.")] = ",".join(SECTIONS),
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Fits of each; 5, or 1 if quick.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="File to write; benchmarks/results/ or, quick, build/detection.md."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Fits at a time, each on one thread.")] = 1,
    quick: Annotated[bool, typer.Option(help="Two short epochs a fit: only to try it.")] = False,
) -> None:
    """Measure, and write the report anew after each task."""
    chosen, parts = _chosen_sets(sets), choose(sections, SECTIONS, "section")
    path = out or Path("build" if quick else "benchmarks/results") / "detection.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    count = seeds or (1 if quick else 5)
    heading = _heading(count, jobs, quick)
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        tables, notes = _derived(chosen, data, Path(folder))
        if "losses" in parts and importlib.util.find_spec(peers.PACKAGE) is None:
            parts.remove("losses")
            notes.append("losses: pip install pytorch-metric-learning torch==2.13.0")
        heading += _described(tables)
        # Tasks side by side are enough for the cores; and a task whose fits had processes of their
        # own would wait at its end until these have been idle for minutes.
        fit = {**(_QUICK if quick else {}), **({"jobs": 1} if jobs > 1 else {})}
        tasks = list(_tasks(tables, parts, count, fit))
        path.write_text(report(results, heading, notes), encoding="utf-8")
        for i, (more, failure) in enumerate(_measured(tasks, jobs), 1):
            results += more
            notes += [failure] if failure else []
            left = len(tasks) - i
            unfinished = [f"{left} of {len(tasks)} tasks: not finished"] if left else []
            path.write_text(report(results, heading, [*unfinished, *notes]), encoding="utf-8")


def _chosen_sets(names: str) -> list[Set]:
    beginnings = tuple(name.strip() for name in names.split(","))
    chosen = [data_set for data_set in SETS if data_set.name.startswith(beginnings)]
    if not chosen:
        every = ", ".join(data_set.name for data_set in SETS)
        raise typer.BadParameter(f"no set is called {names!r}; there are {every}")
    return chosen


def _derived(
    chosen: Sequence[Set], data: Path, target: Path
) -> tuple[dict[Set, list[Path]], list[str]]:
    """Write each set's tables; return them, and notes on sets whose data is missing."""
    tables, notes = {}, []
    for data_set in chosen:
        try:
            tables[data_set] = derive_tables(data_set, data, target)
        except RecipeError as error:
            notes.append(f"{data_set.name}: skipped, {error}")
            progress(notes[-1])
    return tables, notes


def _tasks(
    tables: Mapping[Set, Sequence[Path]],
    sections: Sequence[str],
    seeds: int,
    fit: Mapping[str, Any],
) -> Iterator[Task]:
    for section in sections:
        for data_set, paths in tables.items():
            if section not in data_set.sections:
                continue
            plan = FewShot(hold_out=data_set.hold_out) if section == "few-shot" else None
            for case in _cases(section, data_set, paths[0]):
                for seed in range(1 if section == "open-set" else seeds):
                    recipes = tuple(recipe_of(data_set, path, seed, fit) for path in paths)
                    site = data_set.site
                    yield Task(section, data_set.name, recipes, not seed, case, plan, site)


def _cases(section: str, data_set: Set, table: Path) -> Sequence[str]:
    """Return losses to try, classes to leave out, or a single empty case."""
    if section == "losses":
        return peers.LOSSES
    if section == "separation":
        return tuple(separation.CASES)
    if section != "open-set":
        return ("",)
    rows = pl.read_parquet(table).filter(pl.col("part") == "train")
    return data_set.left_out or sorted(set(rows["label"].cast(pl.String)) - {data_set.good})


def _measured(tasks: Sequence[Task], jobs: int) -> Iterator[tuple[list[Result], str]]:
    """Run tasks in order, in processes of their own if there are several at a time."""
    with ExitStack() as stack:
        outcomes: Iterator[tuple[list[Result], str]] = map(measure, tasks)
        if jobs > 1:
            context = multiprocessing.get_context("spawn")
            pool = stack.enter_context(ProcessPoolExecutor(jobs, mp_context=context))
            outcomes = pool.map(measure, tasks)
        for i, (task, (results, failure)) in enumerate(zip(tasks, outcomes, strict=True)):
            values = [r.value for r in results if r.method in (OURS, task.case, "distance")]
            number = f"{values[0]:.3f}" if values else ""
            progress(f"{i + 1}/{len(tasks)}  {task.title}  {failure or number}")
            yield results, failure


def _heading(seeds: int, jobs: int, quick: bool) -> list[str]:
    tried = ["**Two short epochs a fit (--quick): these numbers say nothing of Faultcube.**", ""]
    many = f", {jobs} fits at a time" if jobs > 1 else ""
    return [
        *(tried if quick else []),
        command("benchmarks.detection"),
        f"- commit {commit()}",
        f"- seeds 0 to {seeds - 1}; mean ± standard deviation" if seeds > 1 else "- seed 0 only",
        f"- {versions(*_PACKAGES)}",
        f"- {machine()}{many}",
        "",
        "In bold the best mean of each row. Classes are very unequal: read macro-F1 and balanced",
        "accuracy before accuracy.",
        "",
        "All methods get the same fields, those that the schema inference keeps: a clock, which is",
        "a field that tells when a record was made, is left out for all; where the records have",
        "times, its increase per second takes its place. Columns that name time, series (run,",
        "device, campaign) and event are given to none; they only compute these increases, form",
        "the groups that calibrate Faultcube, and judge its alarms.",
        "",
    ]


def _described(tables: Mapping[Set, Sequence[Path]]) -> list[str]:
    """Return a table of the sets: what they are, the rows of each part, and fields left out."""
    rows = []
    for data_set, paths in tables.items():
        parts = pl.concat([pl.read_parquet(path, columns=["part"]) for path in paths])["part"]
        counts = [f"{(parts == name).sum() // len(paths)}" for name in ("train", "dev", "test")]
        clocks = _clocks(load_dataset(recipe_of(data_set, paths[0], 0, {})))
        rows.append((data_set.name, data_set.about, data_set.folder, clocks, *counts))
    return table(("set", "what", "data", "clocks", "train", "dev", "test"), rows, "<<<<")[:-1]


def _clocks(dataset: Dataset) -> str:
    """Return the clocks that schema inference found, and what became of them."""
    rates = [name.removesuffix(RATE_SUFFIX) for name in dataset.schema.names]
    return ", ".join(
        f"{name} ({'its increase' if name in rates else 'left out'})"
        for name, reason in dataset.dropped.items()
        if reason.startswith("a clock")
    )


if __name__ == "__main__":
    typer.run(main)
