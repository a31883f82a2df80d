from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.schema import UNSEEN, Schema
from training.dataset.dataset import Dataset, Rows, groups_of, load_dataset, order_of
from training.dataset.schema_inference import infer_fields
from training.recipe import Recipe, RecipeError

MakeTable = Callable[..., pl.DataFrame]
MakeRecipe = Callable[..., Recipe]


def as_records(rows: Rows, schema: Schema) -> list[dict[str, object]]:
    """The rows as a client would send them."""
    records = rows.table.select(schema.names).to_dicts()
    return [
        {
            name: None if value == "" or (isinstance(value, float) and math.isnan(value)) else value
            for name, value in record.items()
        }
        for record in records
    ]


def assert_encoded_as_records(dataset: Dataset) -> None:
    for rows in (dataset.train, dataset.dev, dataset.test):
        encoded = dataset.schema.encode(as_records(rows, dataset.schema))
        assert rows.matrix.dtype == np.float32
        np.testing.assert_array_equal(rows.matrix, encoded)


def test_rows_are_encoded_as_the_service_encodes_records(small_dataset: Dataset) -> None:
    assert_encoded_as_records(small_dataset)


def test_real_rows_are_encoded_as_the_service_encodes_records(real_recipe: MakeRecipe) -> None:
    assert_encoded_as_records(load_dataset(real_recipe()))


numbers = st.one_of(st.none(), st.floats(-1e30, 1e30, width=64), st.just(float("nan")))
texts = st.one_of(st.none(), st.sampled_from(["", "a", "b", "c ", "ünï", "1", "true"]))


@settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_whatever_the_rows_hold_they_are_encoded_as_records(
    make_table: MakeTable, make_recipe: MakeRecipe, data: st.DataObject
) -> None:
    rows = 24
    # Values that only later rows have are another matter: the service would refuse them.
    values = data.draw(st.lists(numbers, min_size=rows, max_size=rows))
    words = data.draw(st.lists(texts, min_size=rows, max_size=rows))
    counts = data.draw(st.lists(st.integers(-(2**62), 2**62), min_size=rows, max_size=rows))
    table = make_table(
        3 * rows,
        gauge=pl.Series(values * 3, dtype=pl.Float64),
        word=pl.Series(words * 3, dtype=pl.String),
        count=pl.Series(counts * 3, dtype=pl.Int64),
        part=["train"] * rows + ["dev"] * rows + ["test"] * rows,
    )
    empty = [
        name
        for name, missing in (("gauge", float("nan")), ("word", ""))
        if (table[name].is_null() | table[name].eq_missing(missing)).all()
    ]
    keep = [name for name in ("gauge", "word", "count") if name not in empty]
    recipe = make_recipe(table, keep=keep, ignore=empty, least_records=2)
    assert_encoded_as_records(load_dataset(recipe))


def test_a_number_called_a_category_is_encoded_as_its_text(
    make_table: MakeTable, make_recipe: MakeRecipe
) -> None:
    table = make_table(code=[7, 8, None, 8] * 60)
    dataset = load_dataset(make_recipe(table, fields={"code": {"kind": "category"}}))
    column = dataset.train.matrix[:, dataset.schema.names.index("code")]
    np.testing.assert_array_equal(column[:3], [0, 1, np.nan])


def test_what_a_closed_field_would_refuse_is_missing_and_what_an_open_one_takes_is_unseen(
    make_table: MakeTable, make_recipe: MakeRecipe
) -> None:
    open_field = ["x"] * 60 + ["y"] * 59 + ["once"] + ["new"] * 120
    closed_field = ["x"] * 60 + ["y"] * 60 + ["new"] * 120
    dataset = load_dataset(make_recipe(make_table(a=open_field, b=closed_field)))
    a, b = (dataset.schema.names.index(name) for name in "ab")
    assert (dataset.dev.matrix[:, a] == UNSEEN).all()
    assert np.isnan(dataset.dev.matrix[:, b]).all()
    assert not np.isnan(dataset.train.matrix[:, [a, b]]).any()


def test_infinite_values_are_taken_as_missing_and_counted(
    make_table: MakeTable, make_recipe: MakeRecipe
) -> None:
    load = [1.0, 2.0, 4.0, float("inf"), -1e300] * 48
    dataset = load_dataset(make_recipe(make_table(load=load)))
    column = dataset.train.matrix[:, dataset.schema.names.index("load")]
    np.testing.assert_array_equal(column[:5], [1, 2, 4, np.nan, np.nan])
    assert "48 infinite values of the train rows are taken as missing" in dataset.notes


def test_a_field_that_had_infinite_values_may_be_missing_in_the_service(
    make_table: MakeTable, make_recipe: MakeRecipe
) -> None:
    load = [1.0, 2.0, 4.0, float("inf"), 5.0] * 48
    dataset = load_dataset(make_recipe(make_table(load=load)))
    assert not dataset.schema["load"].required


def test_decimals_and_unsigned_integers_are_numbers(
    make_table: MakeTable, make_recipe: MakeRecipe
) -> None:
    table = make_table(
        price=pl.Series([Decimal(i % 7) / 4 for i in range(240)], dtype=pl.Decimal(10, 2)),
        octets=pl.Series([2**63 + i % 5 for i in range(240)], dtype=pl.UInt64),
    )
    dataset = load_dataset(make_recipe(table))
    columns = {n: dataset.train.matrix[:, i] for i, n in enumerate(dataset.schema.names)}
    assert columns["price"][3] == 0.75
    assert columns["octets"][0] == 2.0**63


def test_good_traffic_is_first_and_faults_follow_by_name(small_dataset: Dataset) -> None:
    assert small_dataset.classes == ("good", "lossy", "slow")
    for rows in (small_dataset.train, small_dataset.dev, small_dataset.test):
        names = [small_dataset.classes[label] for label in rows.labels]
        assert names == rows.table["label"].to_list()


def test_labels_may_be_numbers_or_truth(make_table: MakeTable, make_recipe: MakeRecipe) -> None:
    assert load_dataset(make_recipe(make_table(label=[0, 1, 2] * 80), good="0")).classes == (
        "0",
        "1",
        "2",
    )
    truth = make_table(label=[False, True, True] * 80)
    assert load_dataset(make_recipe(truth, good="false")).classes == ("false", "true")


def test_labels_are_composed_as_all_names_are(
    make_table: MakeTable, make_recipe: MakeRecipe
) -> None:
    recipe = make_recipe(make_table(label=["good", "U\u0308berlast"] * 120))
    assert load_dataset(recipe).classes == ("good", "Überlast")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            ["fine", "slow", "lossy"] * 80,
            "no training row has the good label 'good'; the labels are",
        ),
        (["good"] * 240, "every training row is 'good'; a second class is needed"),
        (["good", "slow"] * 119 + ["good", "slow"], None),
        (["odd"] + ["good"] * 239, "no fault class has two training rows, and without one"),
        (["good"] * 8 + ["slow"] * 232, "good traffic, 'good', has 8 train and dev rows, 10 are"),
        (["good", "slow", "unknown"] * 80, "a class cannot be named 'unknown'"),
        (["good", "slow", "Unknown"] * 80, "a class cannot be named 'Unknown'"),
        (["good", "slow" * 60] * 120, "200"),
        (["good", "tx/rx"] * 120, "a class cannot be named 'tx/rx': expected a name without slash"),
    ],
)
def test_labels_that_cannot_be_learned_are_refused_with_the_reason(
    make_table: MakeTable, make_recipe: MakeRecipe, labels: list[str], message: str | None
) -> None:
    recipe = make_recipe(make_table(label=labels))
    if message is None:
        assert load_dataset(recipe).classes == ("good", "slow")
    else:
        with pytest.raises(RecipeError, match=message) as refusal:
            load_dataset(recipe)
        assert "\n" not in str(refusal.value)


def test_a_class_of_few_rows_is_carried_and_the_fit_does_not_see_it(
    make_table: MakeTable, make_recipe: MakeRecipe
) -> None:
    labels = ["odd"] + ["good", "slow", "slow"] * 79 + ["good"] * 2
    latency = [None, *make_table()["latency_ms"][1:]]
    vendors = ["odd one", *["acme", "bolt"] * 119, "acme"]
    table = make_table(label=labels, latency_ms=latency, vendor=vendors)
    dataset = load_dataset(make_recipe(table))
    assert dataset.classes == ("good", "slow", "odd")
    assert dataset.carried == ("odd",)
    alone = load_dataset(make_recipe(table, drop_labels=["odd"]))
    fitted = dataset.fitted
    assert (fitted.schema.fields, fitted.classes) == (alone.schema.fields, alone.classes)
    assert fitted.carried == ()
    for one, other in zip(fitted.parts.values(), alone.parts.values(), strict=True):
        np.testing.assert_array_equal(one.matrix, other.matrix)
        np.testing.assert_array_equal(one.labels, other.labels)
    # What only the class has is no reason to refuse its records.
    assert (fitted.schema["latency_ms"].required, fitted.schema["vendor"].open) == (True, False)
    assert_encoded_as_records(dataset)


def test_small_classes_are_fitted_if_there_is_no_other(
    make_table: MakeTable, make_recipe: MakeRecipe
) -> None:
    labels = ["rare", "odd", "rare", *["good"] * 237]
    dataset = load_dataset(make_recipe(make_table(label=labels)))
    assert (dataset.classes, dataset.carried) == (("good", "rare", "odd"), ("odd",))
    assert dataset.notes[0].startswith("no fault class has 10 train and dev rows")


@pytest.mark.parametrize("part", ["dev", "test"])
def test_a_class_that_vanishes_from_the_training_rows_is_refused_with_what_to_do(
    make_table: MakeTable, make_recipe: MakeRecipe, part: str
) -> None:
    elsewhere = (pl.col("part") == part) & (pl.col("label") == "slow")
    table = make_table().with_columns(
        pl.when(elsewhere).then(pl.lit("new")).otherwise("label").alias("label")
    )
    with pytest.raises(RecipeError, match=f"^{part} rows are of class 'new'.*--drop-label 'new'$"):
        load_dataset(make_recipe(table))
    kept = load_dataset(make_recipe(table, drop_labels=["new"]))
    assert len(getattr(kept, part).labels) == 40


@pytest.mark.parametrize("part", ["dev", "test"])
def test_a_part_of_unknown_classes_alone_is_refused(
    make_table: MakeTable, make_recipe: MakeRecipe, part: str
) -> None:
    label = pl.when(pl.col("part") == part).then(pl.lit("new")).otherwise("label").alias("label")
    with pytest.raises(RecipeError, match=f"{part} rows"):
        load_dataset(make_recipe(make_table().with_columns(label)))


def test_a_random_split_is_warned_of(make_table: MakeTable, make_recipe: MakeRecipe) -> None:
    table = make_table().drop("part")
    (note,) = load_dataset(make_recipe(table, split={"by": "random"})).notes
    assert "split at random" in note
    assert "flatter" in note
    groups = make_recipe(table, split={"by": "group", "column": "device"})
    assert load_dataset(groups).notes == ()


def test_random_dev_rows_beside_a_test_table_are_warned_of_for_what_they_are(
    make_table: MakeTable, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    make_table(60, seed=1).write_parquet(tmp_path / "later.parquet")
    recipe = make_recipe(
        make_table(),
        ignore=["part"],
        split={"by": "random"},  # whose shares are train's, dev's and test's
        test_table=tmp_path / "later.parquet",
    )
    read = load_dataset(recipe)
    assert (len(read.train), len(read.dev), len(read.test)) == (192, 48, 60)  # nothing is lost
    assert read.notes == ()  # they are trained on, and calibrate nothing
    (note,) = load_dataset(recipe.model_copy(update={"calibration": "dev"})).notes
    assert "dev rows were drawn at random" in note
    assert "flatter" not in note


def test_a_test_table_changes_no_field_whatever_its_types(
    make_table: MakeTable, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    later = (
        make_table(60, seed=1)
        .drop("part")
        .with_columns(pl.Series("latency_ms", [*["1.5"] * 59, "n/a"]), pl.lit(3.5).alias("up"))
    )
    later.write_parquet(tmp_path / "later.parquet")
    options: dict[str, Any] = {"split": {"by": "random", "shares": (0.8, 0.2, 0.0)}}
    table = make_table().drop("part")
    both = make_recipe(table, **options, test_table=tmp_path / "later.parquet")
    kinds = {f.name: f.kind for f in infer_fields(table, both).fields}
    try:
        found = {f.name: f.kind for f in load_dataset(both).schema.fields}
    except RecipeError as refusal:
        assert "latency_ms" in str(refusal)  # noqa: PT017
    else:
        assert found == kinds


def test_a_test_table_without_a_field_is_refused_by_its_name(
    make_table: MakeTable, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    make_table(60).drop("latency_ms", "part").write_parquet(tmp_path / "later.parquet")
    split = {"by": "random", "shares": (0.8, 0.2, 0.0)}
    recipe = make_recipe(
        make_table().drop("part"), split=split, test_table=tmp_path / "later.parquet"
    )
    with pytest.raises(RecipeError, match=r"the test rows.* no column 'latency_ms'"):
        load_dataset(recipe)


def test_another_split_can_be_asked_for(small_recipe: Recipe) -> None:
    split = small_recipe.split.model_copy(update={"by": "group", "column": "device"})
    dataset = load_dataset(small_recipe, split)
    devices = [set(rows.table["device"]) for rows in (dataset.train, dataset.dev, dataset.test)]
    assert not devices[0] & devices[1]
    assert not devices[0] & devices[2]
    assert not devices[1] & devices[2]


def test_names_that_look_like_numbers_stay_as_they_are_written(
    make_table: MakeTable, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    versions = ["7.1", "7.10", "007"]
    table = make_table(
        version=[versions[i // 5 % 3] for i in range(240)],
        port=[["1.1", "1.10"][i % 2] for i in range(240)],
    ).with_columns(pl.col("label").replace({"slow": "1.1", "lossy": "1.10"}))
    recipe = make_recipe(table, series=["port"], fields={"version": {"kind": "category"}})
    table.write_csv(tmp_path / "t.csv")
    dataset = load_dataset(recipe.model_copy(update={"table": tmp_path / "t.csv"}))
    assert dataset.schema["version"].categories == ("007", "7.1", "7.10")
    assert dataset.classes == ("good", "1.1", "1.10")
    assert set(dataset.train.table["port"]) == {"1.1", "1.10"}


def test_added_rows_have_the_codes_of_a_category_as_the_table_has_them(
    make_table: MakeTable, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    table = make_table(oper=[1 + i % 2 for i in range(240)])
    added = table.filter(part="train").head(30).with_columns(latency_ms=pl.col("latency_ms") + 1)
    added.drop("part").write_csv(tmp_path / "more.csv")
    recipe = make_recipe(table, fields={"oper": {"kind": "category"}}, add=[tmp_path / "more.csv"])
    dataset = load_dataset(recipe)
    at = dataset.schema.names.index("oper")
    assert dataset.schema["oper"].categories == ("1", "2")
    assert len(dataset.train) == 150
    for rows in (dataset.train, dataset.dev):
        assert set(rows.matrix[:, at]) == {0.0, 1.0}


def test_more_fields_than_a_bundle_holds_are_refused_before_the_fit(
    make_table: MakeTable, make_recipe: MakeRecipe
) -> None:
    random = np.random.default_rng(0)
    for count, words in ((4100, "a model takes 4,096"), (3000, "too many to be whitened")):
        values = {f"f{i}": [None, *random.normal(size=239)] for i in range(count)}
        table = pl.DataFrame(values).hstack(make_table().select("part", "label"))
        with pytest.raises(RecipeError, match=words):
            load_dataset(make_recipe(table, encoder={"linear": True}))


def test_numbers_to_split_by_are_times_though_they_are_no_field(
    make_table: MakeTable, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    table = make_table().with_columns(day=pl.Series([i // 24 + 1 for i in range(240)]))
    table.sample(240, shuffle=True, seed=1).write_csv(tmp_path / "days.csv")
    split = {"by": "time", "column": "day", "shares": (0.5, 0.2, 0.3)}
    recipe = make_recipe(table, split=split, leave_out=["day"])
    dataset = load_dataset(recipe.model_copy(update={"table": tmp_path / "days.csv"}))
    train, dev, test = (dataset.parts[part].table["day"] for part in ("train", "dev", "test"))
    assert (train.max(), test.min()) == (5, 8)
    assert set(dev) == {6, 7}


@given(
    st.lists(
        st.tuples(st.sampled_from([None, "e1", "e2", "e3"]), st.integers(0, 99)),
        min_size=1,
        max_size=60,
    )
)
def test_rows_of_no_event_are_groups_of_neighbours_in_time(
    records: list[tuple[str | None, int]],
) -> None:
    table = pl.DataFrame(records, {"event": pl.String, "time": pl.Int64}, orient="row")
    rows = Rows(np.zeros((len(table), 1), np.float32), np.zeros(len(table), np.int64), table)
    order = order_of(rows, "time")
    found = groups_of(rows, [("event",)], 4, order)
    if found is None:
        events = Counter(event for event, _ in records)
        without = events.pop(None, 0)
        largest = max([*events.values(), -(-without // 4)])
        assert len(events) + min(without, 4) < 4 or 2 * largest > len(table)
        return
    names = [event for event, _ in records]
    serves_whole = len(set(names)) >= 4 and 2 * max(Counter(names).values()) <= len(names)
    assert found.is_cut == (not serves_whole)
    by_event = table.with_columns(order=order, group=found.numbers)
    assert by_event.drop_nulls("event").group_by("event").n_unique()["group"].eq(1).all()
    assert by_event.group_by("group").n_unique()["event"].eq(1).all()
    late = by_event.filter(pl.col("event").is_null()).sort("order")["group"].rle_id()
    assert late.n_unique() == min(len(late), 4 if found.is_cut else 1)
