"""A candidate against the bundle that runs, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import typer
from typer.testing import CliRunner, Result

from models.bundle import Bundle
from models.model import Model
from training import cli
from training import retrain as module
from training.console import retrain_and_write
from training.dataset.dataset import load_dataset
from training.evaluation.evaluate import score
from training.recipe import Recipe, RecipeError
from training.retrain import (
    TOLERANCE,
    Outcome,
    _halves,
    _newer_half,
    _worse,
    recipe_changes,
    retrain,
    target_of,
)
from training.train import train

pytestmark = pytest.mark.usefixtures("blank_figures")
MADE = datetime(2026, 1, 1, tzinfo=UTC)
FIELDS = ["latency_ms", "drops_rate", "up", "vendor"]
RECIPE = """
name = "small"
table = "t.parquet"
label = "label"
good = "good"
least_records = 5
split = {by = "column", column = "part"}
encoder = {dimensions = 4, members = 1, linear = false, hidden = [16], gain = 4, dropout = 0}
fit = {epochs = 4, steps = 10, batch = 48, learning_rate = 0.02}
"""


def quiet(*_: object) -> None:
    """Report to nobody."""


@pytest.fixture
def folder(tmp_path: Path, make_table: Callable[..., pl.DataFrame]) -> Path:
    """A recipe, its table, and exported records: some of a class that the table lacks."""
    make_table(seed=1).write_parquet(tmp_path / "t.parquet")
    (tmp_path / "r.toml").write_text(RECIPE)
    more = make_table(24, seed=9).with_columns(
        label=pl.when(pl.col("time") % 2 == 0).then(pl.lit("storm")).otherwise("label"),
        latency_ms=pl.when(pl.col("time") % 2 == 0).then(400.0).otherwise("latency_ms")
        + pl.col("time") / 1000,
        source=pl.lit("feedback"),
        note=pl.lit(""),
    )
    times = [f"2026-02-{day + 1:02}T00:00:00Z" for day in range(24)]
    more = more.select(*FIELDS, "label", "source", "note", time=pl.Series(times))
    more.write_csv(tmp_path / "feedback.csv")
    return tmp_path


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, make_table: Callable[..., pl.DataFrame]
) -> Bundle:
    """The bundle that the table alone gives."""
    folder = tmp_path_factory.mktemp("trained")
    make_table(seed=1).write_parquet(folder / "t.parquet")
    (folder / "r.toml").write_text(RECIPE)
    bundle, _ = train(Recipe.read(folder / "r.toml", {}), MADE, quiet)
    return bundle


@pytest.fixture
def running(folder: Path, trained: Bundle) -> Path:
    trained.write(folder / "running")
    return folder / "running"


def call(folder: Path, running: Path, out: Path, tolerance: float | None = None) -> int:
    options = {"add": [folder / "feedback.csv"]}
    return retrain_and_write(folder / "r.toml", options, running, out, tolerance)


def test_a_candidate_that_is_not_worse_is_written_with_what_it_follows(
    folder: Path, running: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shelf = folder / "shelf"
    shelf.mkdir()
    assert call(folder, running, shelf, tolerance=0.2) == 0
    said = capsys.readouterr()
    for words in ("test rows (60)", "added rows held back", "macro-F1", "recall of storm", "wrote"):
        assert words in said.out
    assert "24 rows of feedback.csv were added" in said.err
    (target,) = shelf.iterdir()
    bundle = Bundle.read(target)
    assert target.name == f"small-{bundle.manifest.version}"
    assert bundle.manifest.training["retrained_from"] == Bundle.read(running).manifest.version
    assert bundle.manifest.training["added"][0]["rows"] == 24
    assert "storm" in Model(bundle).names


def test_what_differs_from_the_recipe_of_the_running_bundle_is_said_and_it_goes_on(
    folder: Path, running: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (folder / "r.toml").read_text().replace("epochs = 4", "epochs = 3, beta = 5")
    (folder / "r.toml").write_text(text + "severity = {slow = 'minor'}\n")
    (folder / "moved").mkdir()
    (folder / "t.parquet").rename(folder / "moved/t.parquet")
    (folder / "r.toml").write_text((folder / "r.toml").read_text().replace("t.pa", "moved/t.pa"))
    assert call(folder, running, folder / "new", tolerance=0.5) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "recipe" in line]
    start = "warning: the recipe is not that of the running bundle: "
    assert said == [
        f'{start}severity.slow: none -> "minor"',
        f"{start}fit.beta: null -> 5.0",
        f"{start}fit.epochs: 4 -> 3",
    ]


def test_nothing_is_said_of_a_recipe_that_is_the_same_or_that_a_bundle_does_not_record(
    folder: Path, running: Path
) -> None:
    recipe = Recipe.read(folder / "r.toml", {"add": [folder / "feedback.csv"]})
    model = Model.load(running)
    assert recipe_changes(recipe, model) == []
    changed = recipe.model_copy(update={"name": "other", "ignore": ("x" * 30, "y" * 40)})
    first, second = recipe_changes(changed, model)
    assert first == 'name: "small" -> "other"'
    assert second.startswith('ignore: [] -> ["xxx')
    assert len(second) < 80
    del model.manifest.training["recipe"]
    assert recipe_changes(changed, model) == []


def test_the_running_bundle_is_wrong_about_what_it_does_not_know(
    folder: Path, running: Path
) -> None:
    recipe = Recipe.read(folder / "r.toml", {"add": [folder / "feedback.csv"]})
    outcome = retrain(recipe, Model.load(running), MADE, quiet, 0.2)
    assert outcome.feedback
    before, after = outcome.feedback
    assert before.recall["storm"] == 0
    assert after.recall["storm"] == 1
    assert before.records == after.records == 6 + 2 * 3 - (12 % 3)
    assert outcome.worse == ()
    assert outcome.fitted.dataset.added[0].rows == 24
    assert outcome.test[1].records == 60


def test_a_new_class_that_no_test_row_is_of_is_told_of_and_not_compared(
    folder: Path, running: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One correction, and four records of a class that lies among those of another one."""
    rows = pl.read_parquet(folder / "t.parquet").filter(part="train")
    thief = rows.filter(label="lossy").head(4).with_columns(label=pl.lit("thief"))
    more = pl.concat([rows.filter(label="good").head(1), thief]).select(*FIELDS, "label")
    more.write_csv(folder / "feedback.csv")
    recipe = Recipe.read(folder / "r.toml", {"add": [folder / "feedback.csv"]})
    outcome = retrain(recipe, Model.load(running), MADE, quiet)
    assert (outcome.new, outcome.worse) == (("thief",), ())
    assert outcome.whole.recall["lossy"] < outcome.test[1].recall["lossy"]
    # All of the candidate's classes would not have passed.
    assert _worse((outcome.test[0], outcome.whole), None, TOLERANCE)
    assert call(folder, running, folder / "new") == 0
    said = capsys.readouterr().out
    assert "(both without thief, of which there is no test row and which the running" in said
    assert "with it: recall of lossy " in said


def test_a_class_that_only_the_running_bundle_knows_is_not_compared_either(
    folder: Path, running: Path
) -> None:
    model = Model.load(running)
    recipe = Recipe.read(folder / "r.toml", {})
    matrix = model.schema.encode(model.examples)
    own = model.enrol("own", model.encoder.embed(matrix[1:2]))
    ours = retrain(recipe, model.with_classes([own]), MADE, quiet)
    assert ours.test == retrain(recipe, model, MADE, quiet).test
    assert ours.new == ()


def test_a_worse_candidate_is_not_written(
    folder: Path, running: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = pl.read_csv(folder / "feedback.csv").sample(
        400, with_replacement=True, shuffle=True, seed=0
    )
    random = np.random.default_rng(0)
    wrong.with_columns(
        latency_ms=pl.Series(random.normal(5, 20, 400)),
        label=pl.Series(random.choice(["good", "slow", "lossy"], 400)),
    ).write_csv(folder / "feedback.csv")
    before = sorted(folder.rglob("*"))
    assert call(folder, running, folder / "new", tolerance=0) == 1
    said = capsys.readouterr().err
    assert "fell from 0." in said
    assert "; nothing was written" in said
    assert sorted(folder.rglob("*")) == before


def test_both_figures_may_fall() -> None:
    good = score(["good", "bad"] * 2, ["good", "bad"] * 2)
    bad = score(["good", "bad"] * 2, ["good", "unknown"] * 2)
    assert _worse((good, good), (good, good), 0) == ()
    assert _worse((bad, good), (bad, good), 0) == ()
    assert _worse((good, bad), None, 0.6) == ()
    test, feedback = _worse((good, bad), (good, bad), 0.005)
    assert test == (
        "macro-F1 on the test rows fell from 1.0000 to 0.5000, by 0.5000, where 0.005 is allowed "
        "(recall of bad 1.000 to 0.000)"
    )
    assert feedback == (
        "accuracy on the added rows that were held back fell from 1.0000 to 0.5000, by 0.5000 "
        "(recall of bad 1.000 to 0.000)"
    )


def test_a_refusal_names_the_classes_that_fell_the_one_that_fell_most_first() -> None:
    labels = ["good", "good", "a", "b", "c"]
    before, after = score(labels, labels), score(labels, ["good", "a", "a", "c", "unknown"])
    (line,) = _worse((before, after), None, 0)
    assert line.endswith("(recall of b 1.000 to 0.000, c 1.000 to 0.000, good 1.000 to 0.500)")


def test_sides_count_unknown_as_wrong() -> None:
    side = score(["good", "good", "a", "b"], ["good", "unknown", "a", "a"])
    assert side.accuracy == 0.5
    assert side.balanced_accuracy == pytest.approx(0.5)
    assert side.false_alarm_rate("good") == 0.5
    assert side.recall == {"good": 0.5, "a": 1, "b": 0}
    assert side.macro_f1 == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    assert score(["a"], ["a"]).false_alarm_rate("good") is None


def held(rows: pl.DataFrame, since: datetime | None = None) -> list[int]:
    return np.flatnonzero(_newer_half(rows, "label", since)).tolist()


def test_the_newer_half_of_each_label_is_held_back() -> None:
    rows = pl.DataFrame({"label": ["a", "b"] * 4 + ["c", "c", "d"], "time": [*range(10, -1, -1)]})
    assert held(rows) == [0, 1, 2, 3, 8]
    assert held(rows.drop("time")) == [4, 5, 6, 7, 9]


@pytest.mark.parametrize(
    "time",
    [
        "2026-01-0{}T00:00:00Z",
        "2026-01-0{}T00:00:00+00:00",
        "2026-01-0{} 00:00:00",
        "seconds",
        "datetime",
    ],
)
def test_rows_that_the_running_bundle_may_know_by_heart_are_not_held_back(time: str) -> None:
    days = [datetime(2026, 1, day, tzinfo=UTC) for day in range(1, 9)]
    times: list[object] = [time.format(day.day) for day in days]
    if time == "seconds":
        times = [day.timestamp() for day in days]
    if time == "datetime":
        times = [*days]
    rows = pl.DataFrame({"label": ["a"] * 8, "time": times})
    assert held(rows) == [4, 5, 6, 7]
    assert held(rows, datetime(2026, 1, 5, tzinfo=UTC)) == [6, 7]
    assert held(rows, datetime(2027, 1, 5, tzinfo=UTC)) == []
    assert held(rows.with_columns(time=pl.lit("then")), datetime(2027, 1, 5, tzinfo=UTC)) == [
        4, 5, 6, 7,
    ]  # fmt: skip


def test_feedback_that_the_running_bundle_learned_is_not_compared_again(
    folder: Path, running: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = folder / "first"
    assert call(folder, running, first, tolerance=0.2) == 0
    capsys.readouterr()
    rows = pl.read_csv(folder / "feedback.csv")
    rows.with_columns(time=pl.lit("2020-01-01T00:00:00Z")).write_csv(folder / "feedback.csv")
    assert call(folder, first, folder / "second", tolerance=0.2) == 0
    assert "no added rows could be held back" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("out", "why"),
    [
        ("running", "running is no folder of bundles"),
        ("r.toml", "r.toml is no folder of bundles"),
        ("r.toml/new", "r.toml is no folder that can be written to"),
    ],
)
def test_nothing_is_overwritten(
    out: str, why: str, folder: Path, running: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(folder.rglob("*"))
    assert call(folder, running, folder / out) == 2
    assert why in capsys.readouterr().err
    assert sorted(folder.rglob("*")) == before


def test_what_is_on_the_shelf_already_is_not_written_again(folder: Path, running: Path) -> None:
    bundle = Bundle.read(running)
    assert target_of(folder / "new", bundle) == folder / "new"
    (folder / "shelf").mkdir()
    target = target_of(folder / "shelf", bundle)
    bundle.write(target)
    with pytest.raises(RecipeError, match="nothing new was learned"):
        target_of(folder / "shelf", bundle)


def test_a_running_bundle_that_cannot_be_read_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(folder, folder / "none", folder / "new") == 2
    assert "is this a bundle's folder?" in capsys.readouterr().err
    assert not (folder / "new").exists()


def test_a_kill_while_fitting_leaves_nothing(
    folder: Path, running: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> Outcome:
        raise KeyboardInterrupt

    before = sorted(folder.rglob("*"))
    monkeypatch.setattr(module, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        call(folder, running, folder / "new")
    assert sorted(folder.rglob("*")) == before


def run(*arguments: object) -> Result:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command("train")(cli.train)
    app.command("retrain")(cli.retrain)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_lines_add_tables(folder: Path, running: Path) -> None:
    recipe, add = ("--recipe", folder / "r.toml"), ("--add", folder / "feedback.csv")
    trained = run("train", *recipe, *add, "--epochs", 1, "--out", folder / "one")
    assert trained.exit_code == 0
    assert "storm" in Model.load(folder / "one").names
    asked = ("--running", running, "--out", folder / "two", "--tolerance", 0.3)
    retrained = run("retrain", *recipe, *add, *asked)
    assert retrained.exit_code == 0
    assert f"wrote {folder / 'two'}" in retrained.stdout
    refused = run("retrain", *recipe, "--add", folder / "none.csv", *asked[:2], "--out", "x")
    assert refused.exit_code == 2
    assert refused.stderr.startswith("faultcube: there is no table")


def test_rows_that_are_held_back_have_the_rates_of_clocks_as_the_others_do(
    folder: Path, trained: Bundle, make_table: Callable[..., pl.DataFrame]
) -> None:
    octets = (7.0 * pl.col("time")).alias("octets")
    make_table(seed=1).with_columns(octets).write_parquet(folder / "t.parquet")
    make_table(24, seed=9).with_columns(octets).write_csv(folder / "feedback.csv")
    options = {"add": [folder / "feedback.csv"], "time": "time", "series": ["device"]}
    recipe = Recipe.read(folder / "r.toml", options)
    dataset = load_dataset(recipe)
    like = dataset.train.table.select(*dataset.schema.names, "label")
    (kept,), held = _halves(recipe, Model(trained), like, dataset.clocks)
    assert set(kept.rows["octets_per_s"]) == {0.0, 7.0}
    assert set(held["octets_per_s"]) == {7.0}  # the newer ones, each with one before
