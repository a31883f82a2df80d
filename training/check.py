"""Print what an examination of a table has found. Loads no torch: it answers at once."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from models.telemetry.mapping import MappingError
from training.dataset.doctor import NO_LABEL, NO_SPLIT, Column, Examination, examine
from training.recipe import Recipe, RecipeError, TableError

_LINES = 40  # More columns are summed up, so that all fits on a screen
_NAMES = 6
_WIDE = 110  # Characters where the output is no terminal


def check_and_print(recipe_file: Path | None, options: dict[str, Any]) -> int:
    """Examine a table and print all of it.

    Returns the exit code: 1 if something would stop training, 2 if the options are wrong.
    """
    split = NO_SPLIT.model_dump(exclude_defaults=True)
    defaults = {"name": "check", "label": NO_LABEL, "good": NO_LABEL, "split": split}
    try:
        recipe = Recipe.read(recipe_file, options, defaults)
        with status() as say:
            examination = examine(recipe, say)
    except (RecipeError, OSError) as error:
        typer.echo(f"faultcube: {reason_of(error)}", err=True)
        return 1 if isinstance(error, TableError) else 2
    _print(examination, recipe)
    return 1 if examination.stops else 0


def first_page(recipe: Recipe) -> None:
    """Examine the recipe's table before it is trained on, and print what is worth knowing.

    Raises:
        RecipeError: something stops training.
    """
    with status() as say:
        examination = examine(recipe, say)
    if examination.stops:
        first, *more = examination.stops
        raise TableError(first + (f" (and {len(more)} more: faultcube check)" if more else ""))
    for note in examination.notes:
        typer.echo(f"warning: {note}", err=True)
    columns = examination.columns
    typer.echo(f"{examination.table}: {examination.rows} rows, {examination.fields} fields")
    read = [column for column in columns if column.field and column.reason]
    left = [column for column in columns if not column.field and column.name != recipe.label]
    for title, some in (("read as numbers", read), ("left out", left)):
        for reason, names in _by_reason(some).items():
            typer.echo(f"{title}: {', '.join(names)} ({reason})")


def reason_of(error: Exception) -> str:
    """Return what an error says; of a recipe or mapping that is not there, only that."""
    cause = error.__cause__
    if isinstance(error, (RecipeError, MappingError)) and isinstance(cause, FileNotFoundError):
        return f"there is no file {cause.filename}"
    return str(error)


@contextmanager
def status(first: str = "starting") -> Iterator[Callable[[str], object]]:
    """Show on a terminal what is being done."""
    with Console(stderr=True).status(first) as shown:
        yield lambda what: shown.update(escape(what))


def _by_reason(columns: Iterable[Column]) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for column in columns:
        names.setdefault(column.reason, []).append(column.name)
    return names


def _print(examination: Examination, recipe: Recipe) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDE
    console.print(
        f"{escape(str(examination.table))}: {examination.rows} rows, {examination.fields} fields "
        f"of {len(examination.columns)} columns"
    )
    if examination.classes:
        console.print(_classes(examination, recipe))
    console.print(_columns(examination.columns))
    console.print("--keep COLUMN makes a field of one that is none, --ignore COLUMN leaves one out")
    for mark, lines in (
        ("[yellow]note[/]", examination.notes),
        ("[red]stop[/]", examination.stops),
    ):
        for line in lines:
            console.print(f"{mark}: {escape(line)}", soft_wrap=True)
    if examination.stops:
        several = "s" if len(examination.stops) > 1 else ""
        console.print(f"{len(examination.stops)} finding{several} would stop training")
    elif recipe.good == NO_LABEL:
        console.print("give --label and --good to have the classes looked at, too")
    elif recipe.split == NO_SPLIT:
        console.print("nothing stops training; give a split (--split-group, ...) to see its parts")
    else:
        console.print("nothing stops training")


def _classes(examination: Examination, recipe: Recipe) -> Table:
    parts = [*next(iter(examination.classes.values()))]
    table = _table("class", *parts)
    for part in table.columns[1:]:
        part.justify = "right"
    for label, rows in examination.classes.items():
        name = f"{escape(label)} (good)" if label == recipe.good else escape(label)
        table.add_row(name, *(f"{rows[part]}" for part in parts))
    return table


def _columns(columns: Iterable[Column]) -> Table:
    table = _table("column", "kept as", "missing", "remark")
    table.columns[2].justify = "right"
    lines: dict[tuple[str, str, str], list[Column]] = {}
    columns = [*columns]
    for column in columns:
        field = column.field
        kind = (
            "-" if field is None else ", ".join([field.kind] + [field.unit] * (field.unit != "1"))
        )
        name = column.name if len(columns) <= _LINES else ""
        lines.setdefault((name, kind, column.reason), []).append(column)
    for (_, kind, reason), some in lines.items():
        names = [escape(column.name) for column in some]
        more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES and kind != "-" else ""
        shown = ", ".join(names[:_NAMES] if more else names) + more
        least, most = (pick(round(column.missing * 100) for column in some) for pick in (min, max))
        share = f"{most}%" if least == most else f"{least}-{most}%"
        # --keep is told of once, below the table.
        remark = reason if some[0].field else reason.partition(";")[0]
        table.add_row(shown, kind, share, escape(remark))
    return table


def _table(*names: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in names:
        table.add_column(name, overflow="fold")
    return table
