"""Tables that are added to the train rows."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from models.model import Model
from training.dataset.dataset import Addition, Dataset, load_dataset
from training.fitting.estimator import SiameseClassifier
from training.recipe import Recipe, RecipeError, TableError
from training.train import train

pytestmark = pytest.mark.usefixtures("blank_figures")
MakeTable = Callable[..., pl.DataFrame]
MakeRecipe = Callable[..., Recipe]
Make = Callable[..., Recipe]
FIELDS = ["latency_ms", "drops_rate", "up", "vendor"]


@pytest.fixture
def feedback(make_table: MakeTable) -> pl.DataFrame:
    """Twelve rows as they are exported: fields, a label and what else is known of them."""
    table = make_table(12, seed=7)
    return table.select(
        *FIELDS, "label", source=pl.lit("feedback"), time=pl.lit("2026-01-01T00:00:00Z")
    )


@pytest.fixture
def make(make_table: MakeTable, make_recipe: MakeRecipe, tmp_path: Path) -> Make:
    """A recipe of the small table to which tables are added."""

    def recipe(*added: pl.DataFrame, table: pl.DataFrame | None = None, **changes: Any) -> Recipe:
        paths = []
        for number, each in enumerate(added):
            paths.append(tmp_path / f"added{number}.csv")
            each.write_csv(paths[-1])
        return make_recipe(make_table() if table is None else table, add=paths, **changes)

    return recipe


def assert_same_but_train(one: Dataset, other: Dataset) -> None:
    for part in ("dev", "test"):
        np.testing.assert_array_equal(getattr(one, part).matrix, getattr(other, part).matrix)


def test_rows_are_added_to_the_train_rows_only(make: Make, feedback: pl.DataFrame) -> None:
    plain, more = load_dataset(make()), load_dataset(make(feedback))
    assert_same_but_train(plain, more)
    assert more.schema.names == plain.schema.names
    assert more.dropped == plain.dropped
    assert len(more.train.labels) == len(plain.train.labels) + 12
    np.testing.assert_array_equal(more.train.matrix[:-12], plain.train.matrix)
    assert more.added == (Addition("added0.csv", 12, 0),)
    assert "12 rows of added0.csv were added to the train rows" in more.notes
    assert plain.added == ()
    labels = [more.classes[c] for c in more.train.labels[-12:]]
    assert labels == feedback["label"].to_list()
    np.testing.assert_allclose(more.train.matrix[-12:, 0], feedback["latency_ms"], rtol=1e-6)


def test_several_tables_are_added_and_the_label_may_have_its_own_name(
    make: Make, make_table: MakeTable, feedback: pl.DataFrame
) -> None:
    table = make_table().rename({"label": "kind"})
    recipe = make(feedback, feedback.rename({"label": "kind"}), table=table, label="kind")
    dataset = load_dataset(recipe)
    assert [each.rows for each in dataset.added] == [12, 12]
    assert len(dataset.train.labels) == 120 + 24


def test_a_new_label_is_a_new_class(make: Make, feedback: pl.DataFrame) -> None:
    odd = feedback.with_columns(label=pl.lit(" odd "), latency_ms=pl.lit(500.0))
    dataset = load_dataset(make(odd, least_records=12))
    assert dataset.classes == ("good", "lossy", "odd", "slow")
    assert dataset.carried == ()
    assert (dataset.train.labels == 2).sum() == 12
    dataset = load_dataset(make(odd, least_records=13))
    assert dataset.classes == ("good", "lossy", "slow", "odd")
    assert dataset.carried == ("odd",)
    assert dataset.fitted.classes == ("good", "lossy", "slow")
    assert "class 'odd' has 12 train and dev rows: it is not fitted" in dataset.notes[0]
    known = load_dataset(make(odd, severity={"odd": "minor"}, least_records=13))
    assert known.classes == dataset.classes
    assert load_dataset(make(odd, drop_labels=["odd"])).classes == ("good", "lossy", "slow")


def test_a_bundle_with_a_class_that_only_added_rows_have_names_the_tables(
    make: Make, feedback: pl.DataFrame
) -> None:
    odd = feedback.with_columns(label=pl.lit("odd"), latency_ms=pl.lit(500.0))
    recipe = make(odd)
    bundle, _ = train(recipe, datetime(2026, 1, 1, tzinfo=UTC), lambda *_: None, "0" * 16)
    training = bundle.manifest.training
    assert training["added"] == [{"table": "added0.csv", "rows": 12, "left_out": 0}]
    assert training["retrained_from"] == "0" * 16
    assert "add" not in training["recipe"]
    assert str(recipe.add[0].parent) not in bundle.manifest.model_dump_json()
    assert "odd" in [known.name for known in bundle.manifest.classes]
    assert "12 rows of added0.csv were added" in bundle.files["card.md"].decode()


def test_without_added_tables_the_manifest_is_as_it_always_was(make: Make) -> None:
    bundle, _ = train(make(), datetime(2026, 1, 1, tzinfo=UTC), lambda *_: None)
    assert not {"added", "retrained_from"} & set(bundle.manifest.training)
    assert "add" not in bundle.manifest.training["recipe"]


@pytest.mark.parametrize("part", ["dev", "test"])
def test_rows_that_equal_held_out_rows_are_left_out(
    part: str, make: Make, make_table: MakeTable, feedback: pl.DataFrame
) -> None:
    held = make_table().filter(pl.col("part") == part).select(*FIELDS, "label").head(5)
    held = held.with_columns(label=pl.lit("slow"))  # whatever is said of them
    dataset = load_dataset(make(pl.concat([feedback.select(held.columns), held])))
    assert dataset.added == (Addition("added0.csv", 12, 5),)
    assert "5 more equal dev or test rows and were left out" in dataset.notes[-1]
    assert len(dataset.train.labels) == 120 + 12


def test_what_was_left_out_says_nothing_of_the_fields(make: Make, make_table: MakeTable) -> None:
    table = make_table()
    vendors = ["acme", "bolt"] * 60 + ["rare"] * 120
    table = table.with_columns(vendor=pl.Series(vendors))
    fields = {"vendor": {"kind": "category"}}
    held = table.filter(pl.col("part") == "test").select(*FIELDS, "label")
    dataset = load_dataset(make(held, table=table, fields=fields))
    assert dataset.added == (Addition("added0.csv", 0, 60),)
    assert dataset.schema["vendor"].categories == ("acme", "bolt")


def test_a_column_that_is_not_there_is_missing_and_others_are_ignored(
    make: Make, feedback: pl.DataFrame
) -> None:
    thin = feedback.drop("latency_ms", "vendor").with_columns(colour=pl.lit("red"))
    dataset = load_dataset(make(thin))
    assert dataset.schema.names == tuple(FIELDS)
    assert not dataset.schema["latency_ms"].required
    assert np.isnan(dataset.train.matrix[-12:, [0, 3]]).all()
    assert not np.isnan(dataset.train.matrix[:-12, [0, 3]]).any()


def test_a_column_that_is_no_field_becomes_none_by_missing_values(
    make: Make, make_table: MakeTable, feedback: pl.DataFrame
) -> None:
    label = make_table()["label"]
    table = make_table().with_columns(verdict=label.str.to_uppercase(), copy="latency_ms")
    plain = load_dataset(make(table=table))
    more = load_dataset(make(feedback, table=table))
    assert {"verdict", "copy"} <= set(plain.dropped)
    assert more.schema.names == plain.schema.names
    assert more.dropped == plain.dropped


def test_new_categories_are_learned(make: Make, feedback: pl.DataFrame) -> None:
    dataset = load_dataset(make(feedback.with_columns(vendor=pl.lit("delta"))))
    assert "delta" in dataset.schema["vendor"].categories


def test_types_follow_the_table_that_is_added_to(
    make: Make, make_table: MakeTable, feedback: pl.DataFrame
) -> None:
    table = make_table().with_columns(hops=pl.Series(np.arange(240) % 5), code=pl.lit("x"))
    table = table.with_columns(code=pl.Series([f"c{i % 7}" for i in range(240)]))
    more = feedback.with_columns(
        up=pl.Series(["1", "0", "true", "FALSE"] * 3), hops=pl.lit(2.5), code=pl.lit(12)
    )
    dataset = load_dataset(make(more, table=table))
    columns = [dataset.schema.names.index(name) for name in ("up", "hops", "code")]
    added = dataset.train.matrix[-12:, columns]
    np.testing.assert_array_equal(added[:, 0], [1, 0] * 6)
    assert (added[:, 1] == 2.5).all()
    assert dataset.schema["code"].categories[0] == "12"


def test_names_that_look_like_numbers_are_the_same_in_added_rows(
    make: Make, make_table: MakeTable, feedback: pl.DataFrame, tmp_path: Path
) -> None:
    named = (
        pl.col("vendor").replace({"acme": "007", "bolt": "7.10"}),
        pl.col("label").replace("slow", "1.10"),
    )
    table = make_table().with_columns(named)
    fields = {"vendor": {"kind": "category"}}
    plain = load_dataset(make(table=table, fields=fields))
    assert "1.10" in plain.classes
    held = table.filter(pl.col("part") == "test", label="1.10").select(*FIELDS, "label").head(5)
    added = pl.concat([feedback.select(*FIELDS, "label").with_columns(named), held])
    # As people write it: nothing but numbers, and none of them in quotes.
    numbers = added.filter(pl.col("vendor").is_in(["007", "7.10"]), label="1.10")
    numbers.write_csv(tmp_path / "more.csv", quote_style="never")
    recipe = make(table=table, fields=fields).model_copy(update={"add": (tmp_path / "more.csv",)})
    more = load_dataset(recipe)
    assert more.classes == plain.classes
    assert more.schema["vendor"].categories == plain.schema["vendor"].categories
    (addition,) = more.added
    assert addition.left_out == held["vendor"].is_in(["007", "7.10"]).sum() > 0


def test_codes_with_gaps_are_the_same_in_added_rows(
    make_table: MakeTable, make_recipe: MakeRecipe, feedback: pl.DataFrame, tmp_path: Path
) -> None:
    codes = pl.Series([None if i % 9 == 0 else float(i * i % 7) for i in range(240)])
    table = make_table().with_columns(code=codes)
    path = tmp_path / "more.parquet"
    feedback.with_columns(code=codes.head(12)).write_parquet(path)
    table.write_parquet(tmp_path / "table.parquet")
    recipe = make_recipe(table, add=[path], fields={"code": {"kind": "category"}})
    recipe = recipe.model_copy(update={"table": tmp_path / "table.parquet"})
    assert load_dataset(recipe).schema["code"].categories == ("0", "1", "2", "4")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"latency_ms": pl.lit("fast")}, "column 'latency_ms' of added0.csv is not a column of"),
        ({"up": pl.lit("maybe")}, "column 'up' of added0.csv is not a column of Boolean"),
        ({"up": pl.lit(2)}, "column 'up' of added0.csv is not a column of Boolean"),
        ({"label": pl.lit("unknown")}, "a class cannot be named 'unknown'"),
    ],
)
def test_rows_that_do_not_fit_are_refused(
    change: dict[str, pl.Expr], why: str, make: Make, feedback: pl.DataFrame
) -> None:
    with pytest.raises(RecipeError, match=why):
        load_dataset(make(feedback.with_columns(**change)))


def test_a_table_without_labels_or_that_is_not_there_is_refused(
    make: Make, feedback: pl.DataFrame, small_recipe: Recipe
) -> None:
    with pytest.raises(RecipeError, match=r"added0.csv has no label column 'label'"):
        load_dataset(make(feedback.drop("label")))
    missing = small_recipe.model_copy(update={"add": (Path("none.csv"),)})
    with pytest.raises(RecipeError, match=r"there is no table none.csv"):
        load_dataset(missing)


def test_tables_of_the_recipe_and_of_the_options_are_both_added(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(
        'name = "x"\ntable = "t.csv"\nadd = ["a.csv"]\nlabel = "l"\ngood = "g"\n'
        'split = {by = "random"}\n'
    )
    assert Recipe.read(path, {}).add == (tmp_path / "a.csv",)
    more = Recipe.read(path, {"add": [Path("b.csv")]})
    assert more.add == (tmp_path / "a.csv", Path("b.csv"))
    path.write_text(path.read_text().replace('["a.csv"]', "3"))
    with pytest.raises(RecipeError, match="add: "):
        Recipe.read(path, {})


@pytest.mark.parametrize("calibration", ["auto", "dev"])
def test_a_class_of_few_records_harms_no_other_and_is_as_if_enrolled(
    make: Make, feedback: pl.DataFrame, calibration: str
) -> None:
    quick: dict[str, Any] = {
        "encoder": {"dimensions": 4, "members": 1, "hidden": [16], "dropout": 0},
        "fit": {"epochs": 2, "steps": 10, "batch": 48, "learning_rate": 0.02},
        "calibration": calibration,
        "leave_out": ["device"],
    }
    made = datetime(2026, 1, 1, tzinfo=UTC)
    plain, fitted = train(make(**quick), made, lambda *_: None)
    test = fitted.dataset.test
    before = fitted.rule.decide(fitted.encoder.embed(test.matrix))
    for count in (1, 2, 5):
        odd = feedback.head(count).with_columns(
            label=pl.lit("a storm"), latency_ms=400.0 + pl.row_index(), vendor=pl.lit("delta")
        )
        bundle, more = train(make(odd, **quick), made, lambda *_: None)
        # The same fit to the byte, and so is all that was calibrated on it.
        assert bundle.files["encoder.onnx"] == plain.files["encoder.onnx"]
        assert bundle.manifest.classes[:3] == plain.manifest.classes
        assert bundle.manifest.calibration == plain.manifest.calibration.model_copy(
            update={"records": {**plain.manifest.calibration.records, "a storm": 0}}
        )
        carried = bundle.manifest.classes[3]
        assert (carried.name, carried.records, carried.share) == ("a storm", count, None)
        after = more.rule.decide(more.encoder.embed(test.matrix))
        np.testing.assert_array_equal(after.nearest, before.nearest)
        np.testing.assert_array_equal(after.accepted, before.accepted)
        # What is carried decides as if it were enrolled while the bundle without it serves.
        old, new = Model(plain), Model(bundle)
        points = old.encoder.embed(more.dataset.train.matrix[-count:])
        served = old.with_classes([old.enrol("a storm", points)])
        for name in ("centroids", "radii", "support", "log_prior"):
            np.testing.assert_allclose(
                getattr(new.rule, name), getattr(served.rule, name), rtol=1e-6, atol=1e-7
            )
        assert new.labels(new.decide(more.dataset.train.matrix[-count:])) == ["a storm"] * count
        # Its records are accepted as they are, though no other has their vendor.
        verdicts = new.classify(odd.select(FIELDS).to_dicts())
        assert [verdict.label for verdict in verdicts] == ["a storm"] * count
        noun = "record" if count == 1 else "records"
        words = f"`a storm` (known from {count} {noun}, carried as enrolled) | {count} | 0 | 0 |"
        assert words in bundle.files["card.md"].decode()
        assert len(json.loads(bundle.files["examples.json"])["records"]) == 4


def test_added_tables_that_spell_a_new_label_differently_are_refused_or_united(
    make: Make, feedback: pl.DataFrame
) -> None:
    tables = [feedback.with_columns(label=pl.lit(name)) for name in ("Port flap", "port flap")]
    with pytest.raises(TableError, match="differ only in case or blanks: 'Port flap'"):
        load_dataset(make(*tables))
    united = load_dataset(make(*tables, merge_labels=True))
    assert united.classes == ("good", "Port flap", "lossy", "slow")


def test_added_rows_take_the_spelling_of_the_table_even_if_they_are_more(
    make: Make, make_table: MakeTable
) -> None:
    more = make_table(600, seed=7).select(*FIELDS, "label").filter(pl.col("label") == "slow")
    dataset = load_dataset(make(more.with_columns(label=pl.lit("SLOW")), merge_labels=True))
    assert dataset.classes == ("good", "lossy", "slow")
    assert len(dataset.train) == 120 + 200


def counting(table: pl.DataFrame, start: float = 0.0) -> pl.DataFrame:
    """The table with a counter that grows by 7 a second."""
    return table.with_columns(octets=start + 7.0 * pl.col("time"))


def test_added_rows_with_a_clock_get_its_rate(make: Make, make_table: MakeTable) -> None:
    table = counting(make_table())
    options: dict[str, Any] = {"time": "time", "series": ["device"], "ignore": ["vendor"]}
    added = counting(make_table(80, seed=7), start=1e6).drop("part")
    # A record without a label counts for the rate of the next one.
    added = added.with_columns(
        label=pl.when(pl.int_range(pl.len()) // 8 == 4).then(None).otherwise("label")
    )
    dataset = load_dataset(make(added, table=table, **options))
    rates = dataset.train.matrix[-72:, dataset.schema.names.index("octets_per_s")]
    assert (rates[:8] == 0).all()
    assert (rates[8:] == 7).all()
    again = load_dataset(make(table.drop("part"), table=table, **options))
    assert again.added == (Addition("added0.csv", 120, 120),)


def test_a_rate_that_added_rows_have_is_theirs_and_one_that_they_lack_is_noted(
    make: Make, make_table: MakeTable, feedback: pl.DataFrame
) -> None:
    table = counting(make_table())
    options: dict[str, Any] = {"time": "time", "series": ["device"]}
    lacking = load_dataset(make(feedback, table=table, **options))
    rate = lacking.schema.names.index("octets_per_s")
    assert np.isnan(lacking.train.matrix[-12:, rate]).all()
    assert "no added row has 'octets_per_s', a field" in "\n".join(lacking.notes)
    having = feedback.with_columns(octets_per_s=3.0)
    dataset = load_dataset(make(having, table=table, **options))
    assert (dataset.train.matrix[-12:, rate] == 3).all()
    assert "no added row has" not in "\n".join(dataset.notes)


def test_the_estimator_enrols_what_its_dataset_carries(make: Make, feedback: pl.DataFrame) -> None:
    odd = feedback.head(3).with_columns(label=pl.lit("odd"), latency_ms=500.0 + pl.row_index())
    dataset = load_dataset(make(odd))
    made = SiameseClassifier.of(make(odd), dataset, lambda *_: None)
    assert made.classes_.tolist() == [0, 1, 2, 3]
    mean = made.transform(dataset.train.matrix[-3:]).mean(axis=0)
    np.testing.assert_array_equal(made.centroids_[3], mean)
    assert made.rule_.support is not None
    assert made.rule_.support.tolist() == [math.inf] * 3 + [3]


def test_a_new_class_has_the_severity_that_it_was_enrolled_with(
    make: Make, feedback: pl.DataFrame
) -> None:
    enrolled = feedback.with_columns(
        label=pl.Series(["storm"] * 4 + ["flap"] * 4 + ["slow"] * 4),
        label_severity=pl.Series(["minor"] * 4 + [None] * 4 + ["warning"] * 4),
    )
    dataset = load_dataset(make(enrolled))
    assert dataset.severity == {"storm": "minor", "slow": "warning"}
    recipe = make(enrolled, severity={"slow": "critical"})
    bundle, _ = train(recipe, datetime(2026, 1, 1, tzinfo=UTC), lambda *_: None)
    assert {known.name: known.severity for known in bundle.manifest.classes} == {
        "good": "none",
        "slow": "critical",
        "lossy": "major",
        "storm": "minor",
        "flap": "major",
    }


def test_a_severity_that_is_none_is_refused(make: Make, feedback: pl.DataFrame) -> None:
    odd = feedback.with_columns(label_severity=pl.lit("bad"))
    with pytest.raises(RecipeError, match="column 'label_severity' holds 'bad'; expected one of"):
        load_dataset(make(odd))
    good = feedback.with_columns(label_severity=pl.lit("none"))
    assert load_dataset(make(good)).severity == {}
