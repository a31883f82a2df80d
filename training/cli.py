"""Parse the options of `faultcube train`, `retrain`, `evaluate`, `compare` and `schema`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

__all__ = ["compare", "evaluate", "retrain", "schema", "train"]

Table = Annotated[
    Path | None, typer.Argument(help="CSV, CSV.gz, TSV or Parquet; one record a row.")
]
RecipeFile = Annotated[
    Path | None, typer.Option("--recipe", help="TOML file that holds any of the options.")
]
Label = Annotated[str | None, typer.Option(help="Column that holds the classes.")]
Good = Annotated[str | None, typer.Option(help="Label of good traffic.")]
Ignore = Annotated[list[str] | None, typer.Option(help="Column that is no field (repeatable).")]
Keep = Annotated[
    list[str] | None,
    typer.Option(help="Column that is a field although it looks like an identifier (repeatable)."),
]
DropLabel = Annotated[
    list[str] | None, typer.Option(help="Leave out rows with this label (repeatable).")
]
Add = Annotated[
    list[Path] | None,
    typer.Option(help="Table whose rows are added to the train rows (repeatable)."),
]
TestTable = Annotated[Path | None, typer.Option(help="Second table, all of it test rows.")]
SplitColumn = Annotated[
    str | None, typer.Option(help="Column that says train, dev or test.", rich_help_panel="Split")
]
SplitTable = Annotated[
    Path | None,
    typer.Option(help="Table that holds --split-column, row for row.", rich_help_panel="Split"),
]
SplitTime = Annotated[
    str | None,
    typer.Option(help="Time column: train before dev before test.", rich_help_panel="Split"),
]
SplitWithin = Annotated[
    str | None,
    typer.Option(help="With --split-time: cut each value on its own.", rich_help_panel="Split"),
]
SplitGroup = Annotated[
    str | None,
    typer.Option(help="Column whose values stay whole: event, device.", rich_help_panel="Split"),
]
SplitRandom = Annotated[
    bool,
    typer.Option(
        "--split-random", help="At random: results will flatter.", rich_help_panel="Split"
    ),
]
Shares = Annotated[
    str | None,
    typer.Option(help="Shares of train, dev, test: 0.6,0.15,0.25.", rich_help_panel="Split"),
]


def train(
    table: Table = None,
    recipe: RecipeFile = None,
    label: Label = None,
    good: Good = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write the bundle to; models/NAME by default.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the model.")] = None,
    test_table: TestTable = None,
    add: Add = None,
    ignore: Ignore = None,
    keep: Keep = None,
    drop_label: DropLabel = None,
    split_column: SplitColumn = None,
    split_table: SplitTable = None,
    split_time: SplitTime = None,
    split_within: SplitWithin = None,
    split_group: SplitGroup = None,
    split_random: SplitRandom = False,
    shares: Shares = None,
    dimensions: Annotated[int | None, typer.Option(help="N, width of the embedding.")] = None,
    beta: Annotated[float | None, typer.Option(help="beta of the loss, at least N.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Most epochs.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.")] = None,
    unknown_rate: Annotated[
        float | None, typer.Option(help="Share of records of known classes that may be unknown.")
    ] = None,
) -> None:
    """Train a model on a labelled TABLE and write it as a bundle."""
    from training.console import train_and_write

    ways = _given(
        column=split_column, time=split_time, group=split_group, random=split_random or None
    )
    if name is None and recipe is None and table is not None:
        name = table.name.split(".")[0][:64]
    options = _given(
        table=table,
        test_table=test_table,
        add=add,
        name=name,
        label=label,
        good=good,
        ignore=ignore,
        keep=keep,
        drop_labels=drop_label,
        split=_split_options(ways, table=split_table, within=split_within, shares=shares),
        encoder=_given(dimensions=dimensions),
        fit=_given(beta=beta, epochs=epochs, seed=seed),
        unknown_rate=unknown_rate,
    )
    raise typer.Exit(train_and_write(recipe, options, out))


def retrain(
    recipe: Annotated[Path, typer.Option("--recipe", help="TOML file: table, split, how to fit.")],
    running: Annotated[Path, typer.Option(help="Folder of the bundle that runs.")],
    out: Annotated[Path, typer.Option(help="New folder, or folder of bundles to write to.")],
    add: Add = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Macro-F1 that the test rows may lose.", show_default="0.01"
        ),
    ] = None,
) -> None:
    """Fit anew with added rows, and write the bundle if it is not worse than the one that runs."""
    from training.console import retrain_and_write

    raise typer.Exit(retrain_and_write(recipe, _given(add=add), running, out, tolerance))


def evaluate(
    recipe: Annotated[Path, typer.Option("--recipe", help="TOML file: table, split, how to fit.")],
    hold_out: Annotated[
        list[str], typer.Option(help="Fault class that training must not see (repeatable).")
    ],
    shots: Annotated[str, typer.Option(help="Numbers of support records.")] = "1,5",
    draws: Annotated[int, typer.Option(min=1, help="How often support records are drawn.")] = 30,
    split_column: SplitColumn = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.")] = None,
) -> None:
    """Enrol fault classes that training never saw from a few records, and classify test rows."""
    from training.console import evaluate_few_shot

    options = {"split": _given(column=split_column), "fit": _given(seed=seed)}
    plan = {"hold_out": hold_out, "shots": shots.split(","), "draws": draws}
    raise typer.Exit(evaluate_few_shot(recipe, _given(**options), plan))


def compare(
    recipe: Annotated[Path, typer.Option("--recipe", help="TOML file: table, split, how to fit.")],
    out: Annotated[Path, typer.Option(help="Folder to write the comparison to.")],
    losses: Annotated[
        str, typer.Option(help="Losses to compare.")
    ] = "lossless,linear,triplet,contrastive",
    seeds: Annotated[int, typer.Option(help="Fits of each loss, each with its own seed.")] = 5,
    split_column: SplitColumn = None,
    hold_out: Annotated[
        list[str] | None,
        typer.Option(help="Fault class that a second fit must not see (repeatable)."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of every fit.")] = None,
    linear: Annotated[
        bool | None,
        typer.Option(help="With or without the dimensions that no loss learns; as the recipe has."),
    ] = None,
    animate: Annotated[
        list[str] | None,
        typer.Option(help="Fault class of the animation (twice); the two with most test rows."),
    ] = None,
    jobs: Annotated[int, typer.Option(help="Processes that fit at the same time.")] = 1,
) -> None:
    """Compare losses: the same encoder, budget and seeds under each of them."""
    options = {
        "split": _given(column=split_column),
        "encoder": _given(linear=linear),
        "fit": _given(epochs=epochs),
    }
    plan = {
        "losses": tuple(losses.split(",")),
        "seeds": seeds,
        "hold_out": tuple(hold_out or ()),
        "animate": tuple(animate or ()),
        "jobs": jobs,
    }
    command = shlex.join(["faultcube", *sys.argv[1:]])
    from training.console import compare_and_write

    raise typer.Exit(compare_and_write(recipe, _given(**options), plan, out, command))


def schema(
    table: Table = None,
    recipe: RecipeFile = None,
    label: Label = None,
    good: Good = None,
    ignore: Ignore = None,
    keep: Keep = None,
    drop_label: DropLabel = None,
) -> None:
    """Print the schema that TABLE gives, as the part of a recipe that overrides it."""
    from training.console import print_schema

    options = _given(
        table=table, label=label, good=good, ignore=ignore, keep=keep, drop_labels=drop_label
    )
    raise typer.Exit(print_schema(recipe, options))


def _given(**options: Any) -> dict[str, Any]:
    """Return the options that the user gave."""
    return {key: value for key, value in options.items() if value not in (None, [], {})}


def _split_options(ways: dict[str, Any], shares: str | None, **others: Any) -> dict[str, Any]:
    """Return the split of a recipe, or exit with code 2."""
    try:
        parts = [float(share) for share in shares.split(",")] if shares else None
    except ValueError:
        _refuse("--shares takes three numbers: 0.6,0.15,0.25")
    if len(ways) > 1:
        _refuse("give one way to split, not " + " and ".join(sorted(ways)))
    by, column = next(iter(ways.items()), (None, None))
    return _given(by=by, column=None if by == "random" else column, shares=parts, **others)


def _refuse(message: str) -> NoReturn:
    typer.echo(f"faultcube: {message}", err=True)
    raise typer.Exit(2)
