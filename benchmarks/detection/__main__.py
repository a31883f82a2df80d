"""Detection, few-shot, open-set detection and losses, ours beside baselines, as a Markdown file.

`python -m benchmarks.detection`, from the root of the repository; `--quick` to try it.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import shlex
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from benchmarks.detection.measure import OURS, Result, Task, measure
from benchmarks.detection.report import commit, machine, report, versions
from benchmarks.detection.sets import SECTIONS, SETS, Set, derive_tables, recipe_of
from benchmarks.losses import peers
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
    chosen, wanted = _chosen_sets(sets), _chosen_sections(sections)
    path = out or Path("build" if quick else "benchmarks/results") / "detection.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    count = seeds or (1 if quick else 5)
    heading = _heading(count, jobs, quick)
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        tables, notes = _derived(chosen, data, Path(folder))
        if "losses" in wanted and importlib.util.find_spec(peers.PACKAGE) is None:
            wanted.remove("losses")
            notes.append("losses: pip install pytorch-metric-learning torch==2.13.0")
        heading += _described(tables)
        tasks = list(_tasks(tables, wanted, count, _QUICK if quick else {}))
        path.write_text(report(results, heading, notes), encoding="utf-8")
        for i, (more, failure) in enumerate(_measured(tasks, jobs), 1):
            results += more
            notes += [failure] if failure else []
            left = len(tasks) - i
            unfinished = [f"{left} of {len(tasks)} tasks: not finished"] if left else []
            path.write_text(report(results, heading, [*unfinished, *notes]), encoding="utf-8")


def _chosen_sections(names: str) -> list[str]:
    wanted = [name.strip() for name in names.split(",")]
    if unknown := set(wanted) - set(SECTIONS):
        raise typer.BadParameter(f"no section is called {min(unknown)!r}; {', '.join(SECTIONS)}")
    return [name for name in SECTIONS if name in wanted]


def _chosen_sets(names: str) -> list[Set]:
    wanted = tuple(name.strip() for name in names.split(","))
    chosen = [each for each in SETS if each.name.startswith(wanted)]
    if not chosen:
        known = ", ".join(each.name for each in SETS)
        raise typer.BadParameter(f"no set is called {names!r}; there are {known}")
    return chosen


def _derived(
    chosen: Sequence[Set], data: Path, target: Path
) -> tuple[dict[Set, list[Path]], list[str]]:
    """Each set's tables, and for sets whose data is not there, that it is not."""
    tables, notes = {}, []
    for each in chosen:
        try:
            tables[each] = derive_tables(each, data, target)
        except RecipeError as error:
            notes.append(f"{each.name}: skipped, {error}")
            _say(notes[-1])
    return tables, notes


def _tasks(
    tables: Mapping[Set, Sequence[Path]],
    sections: Sequence[str],
    seeds: int,
    fit: Mapping[str, Any],
) -> Iterator[Task]:
    for section in sections:
        for each, paths in tables.items():
            if section not in each.sections:
                continue
            plan = FewShot(hold_out=each.hold_out) if section == "few-shot" else None
            for case in _cases(section, each, paths[0]):
                for seed in range(1 if section == "open-set" else seeds):
                    recipes = tuple(recipe_of(each, path, seed, fit) for path in paths)
                    yield Task(section, each.name, recipes, not seed, case, plan)


def _cases(section: str, each: Set, table: Path) -> Sequence[str]:
    """Losses to try, classes to leave out, or the one case that there is."""
    if section == "losses":
        return peers.LOSSES
    if section != "open-set":
        return ("",)
    rows = pl.read_parquet(table).filter(pl.col("part") == "train")
    return each.left_out or sorted(set(rows["label"].cast(pl.String)) - {each.good})


def _measured(tasks: Sequence[Task], jobs: int) -> Iterator[tuple[list[Result], str]]:
    """Run tasks in order and say how each went."""
    if jobs == 1:
        yield from _told(tasks, map(measure, tasks))
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        yield from _told(tasks, pool.map(measure, tasks))


def _told(
    tasks: Sequence[Task], measured: Iterable[tuple[list[Result], str]]
) -> Iterator[tuple[list[Result], str]]:
    begin = time.perf_counter()
    for i, (task, (results, failure)) in enumerate(zip(tasks, measured, strict=True), 1):
        seconds = time.perf_counter() - begin
        ours = [r.value for r in results if r.method in (OURS, task.case, "distance")]
        number = f"{ours[0]:.3f}" if ours else ""
        _say(f"{seconds:6.0f} s  {i}/{len(tasks)}  {task.place}  {failure or number}")
        yield results, failure


def _heading(seeds: int, jobs: int, quick: bool) -> list[str]:
    command = shlex.join(["python", "-m", "benchmarks.detection", *sys.argv[1:]])
    tried = ["**Two short epochs a fit (--quick): these numbers say nothing of Faultcube.**", ""]
    many = f", {jobs} fits at a time" if jobs > 1 else ""
    return [
        *(tried if quick else []),
        f"- `{command}`",
        f"- commit {commit()}",
        f"- seeds 0 to {seeds - 1}; mean ± standard deviation" if seeds > 1 else "- seed 0 only",
        f"- {versions(*_PACKAGES)}",
        f"- {machine()}{many}",
        "",
        "In bold the best mean of each row. Classes are very unequal: read macro-F1 and balanced",
        "accuracy before accuracy.",
        "",
    ]


def _described(tables: Mapping[Set, Sequence[Path]]) -> list[str]:
    """A table of the sets: what they are, and how many rows of each part they have."""
    lines = ["| set | what | data | train | dev | test |", "|---|---|---|--:|--:|--:|"]
    for each, paths in tables.items():
        parts = pl.concat([pl.read_parquet(path, columns=["part"]) for path in paths])["part"]
        counts = [f"{(parts == name).sum() // len(paths)}" for name in ("train", "dev", "test")]
        lines.append(f"| {' | '.join((each.name, each.about, each.folder, *counts))} |")
    return lines


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    typer.run(main)
