"""Parse the options of the commands of training, from `faultcube train` to `faultcube compare`."""

import shlex
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer


def _option(help_text: str, *names: str, panel: str | None = None, **limits: Any) -> Any:
    return typer.Option(*names, help=help_text, rich_help_panel=panel, **limits)


_split = partial(_option, panel="Split")
_reading = partial(_option, panel="Reading")

Table = Annotated[
    Path | None,
    typer.Argument(help="Text with any separator, NDJSON, Parquet, Arrow, Excel; a record a row."),
]
Text = str | None
Texts = list[str] | None
Number = int | None
RecipeFile = Annotated[Path, _option("TOML file of the recipe.", "--recipe")]
AnyRecipeFile = Annotated[
    Path | None, _option("TOML file that holds any of the options.", "--recipe")
]
Label = Annotated[Text, _option("Column that holds the classes.")]
Good = Annotated[Text, _option("Label of good traffic.")]
Time = Annotated[Text, _option("Column with the time of a record.")]
Series = Annotated[
    Texts, _option("Column that names the series of a record: run, device (repeatable).")
]
Sites = Annotated[
    Texts,
    _option("Column that names a network or device with levels of its own (repeatable)."),
]
Event = Annotated[
    Texts, _option("Column that names the event of a record: run, number (repeatable).")
]
Ignore = Annotated[Texts, _option("Column that is no field (repeatable).")]
Keep = Annotated[
    Texts, _option("Column that is a field although it looks like an identifier (repeatable).")
]
DropLabel = Annotated[Texts, _option("Leave out rows with this label (repeatable).")]
Add = Annotated[
    list[Path] | None, _option("Table whose rows are added to the train rows (repeatable).")
]
TestTable = Annotated[Path | None, _option("Second table, all of it test rows.")]
MostRows = Annotated[
    Number, _option("Most rows to take of a table, of every class, device and time.", "--rows")
]
MergeLabels = Annotated[
    bool, _option("Unite labels that differ only in case or blanks.", "--merge-labels")
]
Separator = Annotated[
    Text,
    _reading("Character between the cells of a text, or the word tab; detected if not given."),
]
DecimalMark = Annotated[
    Text, _reading("Decimal mark of numbers, '.' or ','; detected if not given.")
]
Encoding = Annotated[
    Text, _reading("Encoding of a text, such as utf-16 or cp1252; detected if not given.")
]
Missing = Annotated[
    Texts, _reading("Cell that is a missing value, beside N/A, - and the like (repeatable).")
]
SplitTable = Annotated[Path | None, _split("Table that holds --split-column, row for row.")]
SplitTime = Annotated[
    Text, _split("Column with the time to split by: train before dev before test.")
]
SplitWithin = Annotated[
    Text, _split("Column whose values --split-time cuts on their own: run, device.")
]
SplitGroup = Annotated[Text, _split("Column whose values stay whole: event, device.")]
SplitRandom = Annotated[bool, _split("Split at random: results will flatter.", "--split-random")]
Shares = Annotated[Text, _split("Shares of train, dev, test: 0.6,0.15,0.25.")]
SplitColumn = Annotated[Text, _split("Column that says train, dev or test.")]
FitDevice = Annotated[
    Literal["cpu", "cuda", "auto"] | None,
    _option("Where to fit; auto: on a CUDA device if there is one.", show_default="cpu"),
]
FitJobs = Annotated[
    int | None,
    _option("Most fits of cross calibration to run side by side.", min=1, show_default="cores"),
]
FitsOn = Annotated[
    Literal["local", "ray"] | None,
    _option("Where fits of cross calibration run; ray is an extra.", show_default="local"),
]
Seed = Annotated[Number, _option("Seed of everything random.")]


def train(
    table: Table = None,
    recipe: AnyRecipeFile = None,
    label: Label = None,
    good: Good = None,
    out: Annotated[
        Path | None, _option("Folder to write the bundle to; models/NAME by default.")
    ] = None,
    name: Annotated[Text, _option("Name of the model.")] = None,
    test_table: TestTable = None,
    add: Add = None,
    time: Time = None,
    series: Series = None,
    sites: Sites = None,
    event: Event = None,
    ignore: Ignore = None,
    keep: Keep = None,
    drop_label: DropLabel = None,
    rows: MostRows = None,
    merge_labels: MergeLabels = False,
    separator: Separator = None,
    decimal: DecimalMark = None,
    encoding: Encoding = None,
    missing: Missing = None,
    split_column: SplitColumn = None,
    split_table: SplitTable = None,
    split_time: SplitTime = None,
    split_within: SplitWithin = None,
    split_group: SplitGroup = None,
    split_random: SplitRandom = False,
    shares: Shares = None,
    dimensions: Annotated[Number, _option("N, width of the embedding.")] = None,
    beta: Annotated[float | None, _option("beta of the loss, at least N.")] = None,
    epochs: Annotated[Number, _option("Most epochs of a fit.")] = None,
    seed: Seed = None,
    device: FitDevice = None,
    jobs: FitJobs = None,
    engine: FitsOn = None,
    unknown_rate: Annotated[
        float | None, _option("Share of records of known classes that may be unknown.")
    ] = None,
) -> None:
    """Train a model on a labelled TABLE and write it as a bundle."""
    about_table = _about_table(locals())
    from training.check import status

    with status("loading torch"):
        from training.console import train_and_write

    if name is None and recipe is None and table is not None:
        name = table.name.split(".")[0][:64]
    options = about_table | _given(
        name=name,
        encoder=_given(dimensions=dimensions),
        fit=_given(beta=beta, epochs=epochs, seed=seed, device=device, jobs=jobs, engine=engine),
        unknown_rate=unknown_rate,
    )
    raise typer.Exit(train_and_write(recipe, options, out))


def check(
    table: Table = None,
    recipe: AnyRecipeFile = None,
    label: Label = None,
    good: Good = None,
    test_table: TestTable = None,
    add: Add = None,
    time: Time = None,
    series: Series = None,
    sites: Sites = None,
    event: Event = None,
    ignore: Ignore = None,
    keep: Keep = None,
    drop_label: DropLabel = None,
    rows: MostRows = None,
    merge_labels: MergeLabels = False,
    separator: Separator = None,
    decimal: DecimalMark = None,
    encoding: Encoding = None,
    missing: Missing = None,
    split_column: SplitColumn = None,
    split_table: SplitTable = None,
    split_time: SplitTime = None,
    split_within: SplitWithin = None,
    split_group: SplitGroup = None,
    split_random: SplitRandom = False,
    shares: Shares = None,
    seed: Seed = None,
) -> None:
    """Say what training would make of every column and class of TABLE, and what is odd.

    Without --label only columns are looked at. The exit code is 1 if something would stop training.
    """
    about_table = _about_table(locals())
    from training.check import check_and_print

    options = about_table | _given(
        fit=_given(seed=seed),
    )
    raise typer.Exit(check_and_print(recipe, options))


def assemble(
    points: Annotated[
        Path,
        typer.Argument(
            help="Metric points: a column a series, or time, metric, value, tags; a table, or a "
            "folder or pattern of Parquet files."
        ),
    ],
    mapping: Annotated[Path, _option("TOML file of the mapping: how points become records.")],
    out: Annotated[
        Path,
        _option(
            "Table to write: .parquet, .csv or .csv.gz. For many files or units, or an engine "
            "other than local: folder to write to."
        ),
    ],
    keep: Annotated[
        Texts, _option("Column of POINTS to carry along, such as a label (repeatable).")
    ] = None,
    time: Annotated[str, _option("Column with the time of a point.")] = "time",
    time_unit: Annotated[
        Literal["s", "ms", "us", "ns"], _option("Unit of times that are numbers.")
    ] = "s",
    units: Annotated[
        int, _option("Shares of the keys that are assembled by themselves.", min=1, max=64)
    ] = 1,
    engine: Annotated[
        Literal["local", "ray", "spark"],
        _option("Engine that assembles units; ray and spark are extras."),
    ] = "local",
    jobs: Annotated[int, _option("Number of units to assemble side by side.", min=1)] = 1,
) -> None:
    """Make records of metric POINTS, as the service makes them by the same mapping."""
    from training.assembly.command import assemble_and_write, assemble_archive

    if units == 1 and points.is_file() and engine == "local":
        raise typer.Exit(assemble_and_write(points, mapping, out, keep or [], time, time_unit))
    wanted = (mapping, out, keep or [], time, time_unit, units, engine, jobs)
    raise typer.Exit(assemble_archive(str(points), *wanted))


def retrain(
    recipe: RecipeFile,
    running: Annotated[Path, _option("Folder of the bundle that runs.")],
    out: Annotated[Path, _option("New folder, or folder of bundles to write to.")],
    add: Add = None,
    tolerance: Annotated[
        float | None,
        _option("Macro-F1 that the test rows may lose.", min=0, max=1, show_default="0.01"),
    ] = None,
    jobs: FitJobs = None,
    engine: FitsOn = None,
) -> None:
    """Fit anew with added rows, and write the bundle if it is not worse than the one that runs."""
    from training.console import retrain_and_write

    options = _given(add=add, fit=_given(jobs=jobs, engine=engine))
    raise typer.Exit(retrain_and_write(recipe, options, running, out, tolerance))


def evaluate(
    recipe: RecipeFile,
    hold_out: Annotated[list[str], _option("Fault class that training must not see (repeatable).")],
    shots: Annotated[str, _option("Numbers of support records, separated by commas.")] = "1,5",
    draws: Annotated[int, _option("How often support records are drawn.", min=1)] = 30,
    split_column: SplitColumn = None,
    seed: Seed = None,
) -> None:
    """Enrol fault classes that training never saw from a few records, and classify test rows."""
    from training.console import evaluate_few_shot

    options = _given(split=_given(column=split_column), fit=_given(seed=seed))
    plan = {"hold_out": hold_out, "shots": shots.split(","), "draws": draws}
    raise typer.Exit(evaluate_few_shot(recipe, options, plan))


def compare(
    recipe: RecipeFile,
    out: Annotated[Path, _option("Folder to write the comparison to.")],
    losses: Annotated[
        str, _option("Losses to compare, separated by commas.")
    ] = "lossless,linear,triplet,contrastive",
    seeds: Annotated[int, _option("Fits of each loss, each with its own seed.")] = 5,
    split_column: SplitColumn = None,
    hold_out: Annotated[
        Texts, _option("Fault class that a second fit must not see (repeatable).")
    ] = None,
    epochs: Annotated[Number, _option("Epochs of every fit.")] = None,
    linear: Annotated[
        bool | None,
        _option(
            "Fit with or without the dimensions that no loss learns.",
            show_default="as the recipe has",
        ),
    ] = None,
    animate: Annotated[
        Texts,
        _option("Fault class to animate (give two).", show_default="the two with most test rows"),
    ] = None,
    jobs: Annotated[int, _option("Number of processes that fit side by side.")] = 1,
) -> None:
    """Compare losses: the same encoder, budget and seeds under each of them."""
    from training.console import compare_and_write

    options = _given(
        split=_given(column=split_column), encoder=_given(linear=linear), fit=_given(epochs=epochs)
    )
    plan = {
        "losses": tuple(losses.split(",")),
        "seeds": seeds,
        "hold_out": tuple(hold_out or ()),
        "animate": tuple(animate or ()),
        "jobs": jobs,
    }
    command = shlex.join(["faultcube", *sys.argv[1:]])
    raise typer.Exit(compare_and_write(recipe, options, plan, out, command))


def schema(
    table: Table = None,
    recipe: AnyRecipeFile = None,
    label: Label = None,
    good: Good = None,
    ignore: Ignore = None,
    keep: Keep = None,
    drop_label: DropLabel = None,
    rows: MostRows = None,
    merge_labels: MergeLabels = False,
    separator: Separator = None,
    decimal: DecimalMark = None,
    encoding: Encoding = None,
    missing: Missing = None,
) -> None:
    """Print the schema that TABLE gives, as the part of a recipe that overrides it."""
    about_table = _about_table(locals())
    from training.console import print_schema

    raise typer.Exit(print_schema(recipe, about_table))


def _about_table(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the options of a command, by their names, say about its table and its split."""
    alike = (
        "table",
        "test_table",
        "add",
        "rows",
        "label",
        "good",
        "time",
        "series",
        "sites",
        "event",
    )
    reading = ("separator", "decimal", "encoding", "missing")
    ways = {name: options.get(f"split_{name}") for name in ("column", "time", "group", "random")}
    return _given(
        **{name: options.get(name) for name in (*alike, "ignore", "keep")},
        drop_labels=options["drop_label"],
        merge_labels=options["merge_labels"] or None,
        reading=_given(**{name: options[name] for name in reading}),
        split=_split_options(
            _given(**ways | {"random": ways["random"] or None}),
            options.get("shares"),
            table=options.get("split_table"),
            within=options.get("split_within"),
        ),
    )


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
