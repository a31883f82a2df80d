from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from models.schema import Field
from training.dataset.dataset import load_dataset
from training.dataset.schema_inference import Inference, infer_fields
from training.recipe import Recipe, RecipeError

Infer = Callable[..., Inference]


@pytest.fixture
def infer(make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe]) -> Infer:
    """Infers the fields of 240 training rows with more or other columns."""

    def of(options: dict[str, Any] | None = None, /, **columns: Any) -> Inference:
        table = make_table(**columns)
        return infer_fields(table, make_recipe(table, **(options or {})))

    return of


def field(inference: Inference, name: str) -> Field:
    return {each.name: each for each in inference.fields}[name]


def numbers(rows: int = 240) -> list[float]:
    return [float(i % 17) for i in range(rows)]


@pytest.mark.parametrize(
    ("name", "kind", "unit"),
    [
        ("latency_ms", "gauge", "ms"),
        ("cpu_percent", "gauge", "%"),
        ("ifUtilization", "gauge", "%"),
        ("temperature", "gauge", "°C"),
        ("uptime_seconds", "gauge", "s"),
        ("memory_free", "gauge", "bytes"),
        ("output-packet-rate", "rate", "packets/s"),
        ("in_octets_rate", "rate", "bytes/s"),
        ("error_rate", "rate", "errors/s"),
        ("throughput_mbps", "rate", "Mbit/s"),
        ("loadKbps", "rate", "kbit/s"),
        ("errors_total", "counter", "errors"),
        ("http_requests_total", "counter", "1"),
        ("active-routes-count", "gauge", "routes"),
        ("generate_score", "gauge", "1"),
        ("program", "gauge", "1"),
    ],
)
def test_kind_and_unit_of_a_number_are_read_from_its_name(
    infer: Infer, name: str, kind: str, unit: str
) -> None:
    found = field(infer({"keep": [name]}, **{name: numbers()}), name)
    assert (found.kind, found.unit) == (kind, unit)


def test_text_is_a_category_and_truth_a_boolean_without_units(infer: Infer) -> None:
    inference = infer(mode_ms=["a", "b"] * 120, packets_seen=[True, False] * 120)
    link, seen = field(inference, "mode_ms"), field(inference, "packets_seen")
    assert (link.kind, link.unit, link.categories) == ("category", "1", ("a", "b"))
    assert (seen.kind, seen.unit, seen.categories) == ("boolean", "1", ())


def test_the_user_knows_kind_unit_and_need_better(infer: Infer) -> None:
    overrides = {
        "latency_ms": {"unit": "us"},
        "drops_rate": {"kind": "counter", "unit": "drops", "required": True},
        "time_left": {"required": False},
    }
    options = {"fields": overrides, "keep": ["time_left"]}
    inference = infer(options, time_left=numbers(), drops_rate=numbers())
    latency, drops = field(inference, "latency_ms"), field(inference, "drops_rate")
    assert (latency.kind, latency.unit, latency.required) == ("gauge", "us", True)
    assert (drops.kind, drops.unit, drops.required) == ("counter", "drops", True)
    assert not field(inference, "time_left").required


def test_a_pattern_speaks_for_many_fields_and_a_name_for_its_own(infer: Infer) -> None:
    overrides = {
        "rel_*": {"unit": "ratio"},
        "rel_b*": {"unit": "never reached"},
        "rel_busy": {"kind": "counter"},
    }
    columns = {"rel_load": numbers(), "rel_back": [float(i % 7) for i in range(240)]}
    inference = infer({"fields": overrides}, **columns, rel_busy=[i % 5 for i in range(240)])
    found = [field(inference, name) for name in ("rel_load", "rel_back", "rel_busy", "latency_ms")]
    assert [(each.kind, each.unit) for each in found] == [
        ("gauge", "ratio"),
        ("gauge", "ratio"),
        ("counter", "1"),
        ("gauge", "ms"),
    ]


def test_a_number_called_a_category_becomes_one(infer: Infer) -> None:
    inference = infer({"fields": {"code": {"kind": "category"}}}, code=[7, 8, 9, 8] * 60)
    assert field(inference, "code").categories == ("7", "8", "9")


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["x", "y", "z", "x"] * 60, "gauge"),
        (["x", "y", "z", "x"] * 60, "boolean"),
        (numbers(), "boolean"),
    ],
    ids=["text as a gauge", "text as a boolean", "numbers to 16 as a boolean"],
)
def test_a_kind_that_the_values_do_not_have_is_refused(
    make_table: Callable[..., pl.DataFrame],
    make_recipe: Callable[..., Recipe],
    values: list[object],
    kind: str,
) -> None:
    recipe = make_recipe(make_table(load=values), fields={"load": {"kind": kind}})
    with pytest.raises(RecipeError, match=f"'load' is not a {kind} in every row"):
        load_dataset(recipe)


def test_a_category_met_only_once_leaves_the_field_open(infer: Infer) -> None:
    inference = infer(
        model=["m1", "m2"] * 119 + ["m1", "m3"],
        plan=["p1", "p2"] * 118 + ["p1", "p2", "p3", "p3"],
    )
    assert field(inference, "model").open
    assert not field(inference, "plan").open


def test_only_what_was_missing_may_be_missing(infer: Infer) -> None:
    inference = infer(
        gap=[None, *numbers(239)],
        nan=[1.0, float("nan"), *numbers(238)],
        text=["", *["p", "q", "q"] * 79, "p", "q"],
        full=numbers(),
    )
    needed = {each.name: each.required for each in inference.fields}
    assert not needed["gap"]
    assert not needed["nan"]
    assert not needed["text"]
    assert needed["full"]
    assert field(inference, "text").categories == ("p", "q")


def test_typical_values_are_those_of_good_traffic(infer: Infer) -> None:
    inference = infer(
        load=[10.0, 500.0, 900.0] * 79 + [30.0, 0.0, 0.0],
        plan=["p", "q", "q"] * 79 + ["q", "p", "q"],
        lit=[True, False, False] * 79 + [False, True, True],
    )
    assert field(inference, "load").typical == 10
    assert field(inference, "plan").typical == "p"
    assert field(inference, "lit").typical is True


def test_numbers_that_never_moved_are_fields_each_of_them_for_they_may_move_yet(
    infer: Infer,
) -> None:
    still = [None if i % 9 == 0 else 1.0 for i in range(240)]
    inference = infer({}, carrier_changes=[0] * 240, crc_errors=[0] * 240, a_up=still, b_up=still)
    names = {field.name for field in inference.fields}
    assert names >= {"carrier_changes", "crc_errors", "a_up", "b_up"}


DROPPED: dict[str, tuple[list[Any], str]] = {
    "void_but_one_value": (["x"] * 240, "constant"),
    "latency_again": ([], "equal to 'latency_ms'"),
    "session_id": (list(range(240)), "an identifier"),
    "rowIndex": (list(range(240)), "an identifier"),
    "hostname": (["h1", "h2"] * 120, "an identifier"),
    "free_text": ([f"t{i}" for i in range(240)], "an identifier"),
    "timestamp": (list(range(240)), "a time"),
    "seen": ([datetime(2026, 1, 1) + timedelta(i) for i in range(240)], "a time"),  # noqa: DTZ001
    "verdict": (["G", "S", "L"] * 80, "a second label"),
    "code": ([0.0, 1.0, 2.0] * 80, "a second label"),
    "remark": ([None, "a", "b"] * 40 + [None, "b", "a"] * 40, "a note on faults"),
    "part": ([], "the rows are split by it"),
}


@pytest.mark.parametrize("name", DROPPED)
def test_a_column_that_is_no_field_is_dropped_with_the_reason(
    infer: Infer, make_table: Callable[..., pl.DataFrame], name: str
) -> None:
    values, reason = DROPPED[name]
    if name == "latency_again":
        values = make_table()["latency_ms"].to_list()
    inference = infer(**({name: values} if values else {}))
    assert reason in inference.dropped[name]
    assert name not in {each.name for each in inference.fields}


@pytest.mark.parametrize(
    "name",
    [
        "latency_again",
        "session_id",
        "hostname",
        "free_text",
        "timestamp",
        "verdict",
        "code",
        "remark",
    ],
)
def test_keep_wins(infer: Infer, make_table: Callable[..., pl.DataFrame], name: str) -> None:
    values = DROPPED[name][0] or make_table()["latency_ms"].to_list()
    inference = infer({"keep": [name]}, **{name: values})
    assert name in {each.name for each in inference.fields}
    assert name not in inference.dropped


def test_every_column_but_the_label_is_a_field_or_dropped(
    infer: Infer, make_table: Callable[..., pl.DataFrame]
) -> None:
    inference = infer({"ignore": ["up"]}, flat=["x"] * 240)
    names = [each.name for each in inference.fields] + list(inference.dropped)
    assert sorted(names) == sorted(set(make_table().columns) - {"label"} | {"flat"})
    assert inference.dropped["up"] == "ignored, as asked"


def test_a_state_that_settles_one_class_is_still_a_field(infer: Infer) -> None:
    inference = infer(port_down=[False, True, False] * 80, mode=["on", "off", "on"] * 80)
    assert field(inference, "port_down").kind == "boolean"


def test_the_columns_of_every_split_are_no_fields(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe]
) -> None:
    table = make_table(fold=["train", "dev", "train", "test"] * 60)
    other = {"by": "column", "column": "fold"}
    recipe = make_recipe(table, backtests=[{"name": "other", "split": other}])
    for split in (recipe.split, recipe.backtests[0].split):
        names = load_dataset(recipe, split).schema.names
        assert not {"part", "fold"} & set(names)


def test_a_column_without_a_value_is_no_field_and_cannot_be_made_one(infer: Infer) -> None:
    nothing = {
        "gone": pl.Series([None] * 240, dtype=pl.Float64),
        "void": [""] * 240,
        "none": [None] * 240,
        "load": [float("inf"), float("-inf")] * 120,
    }
    dropped = infer(**nothing).dropped
    assert {name: dropped[name] for name in nothing} == dict.fromkeys(
        nothing, "no training row has a value"
    )
    with pytest.raises(RecipeError, match="no training row has a value of 'gone': leave out"):
        infer({"keep": ("gone",)}, **nothing)


def test_text_of_few_values_is_a_field_though_a_part_of_its_name_is_a_thing(infer: Infer) -> None:
    random = np.random.default_rng(0)
    states = random.choice(["yes", "no"], 240)
    places = [f"leaf{i}" for i in random.integers(0, 40, 240)]
    few = [f"leaf{i}" for i in random.integers(0, 8, 240)]
    found = infer(link_up=states, link_peer=places, event_role=states, next_device=few)
    assert {field.name: field.kind for field in found.fields}["link_up"] == "category"
    for name in ("link_peer", "event_role", "next_device"):
        assert found.dropped[name].startswith("an identifier")


@pytest.mark.parametrize(
    "options",
    [
        {"ignore": ["nope"]},
        {"keep": ["nope"]},
        {"fields": {"nope": {"unit": "s"}}},
        {"fields": {"nop*": {}}},
    ],
)
def test_a_name_that_the_table_does_not_have_is_refused(
    infer: Infer, options: dict[str, Any]
) -> None:
    with pytest.raises(RecipeError, match=r"no column 'nop[e*]'"):
        infer(options)


def test_a_column_cannot_be_both_ignored_and_kept(infer: Infer) -> None:
    with pytest.raises(RecipeError, match="'up' cannot be both ignored and kept"):
        infer({"ignore": ["up"], "keep": ["up"]})


def test_a_table_without_a_field_is_refused(infer: Infer) -> None:
    options = {"ignore": ["latency_ms", "drops_rate", "up", "vendor"]}
    with pytest.raises(RecipeError, match="no column is left to be a field"):
        infer(options)


def test_values_that_only_dev_and_test_rows_have_change_nothing(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe]
) -> None:
    plain = load_dataset(make_recipe(make_table()))
    trains = pl.col("part") == "train"
    altered = make_table().with_columns(
        pl.when(trains).then("vendor").otherwise(pl.lit("new")).alias("vendor"),
        pl.when(trains).then("latency_ms").otherwise(None).alias("latency_ms"),
        pl.when(trains).then("drops_rate").otherwise(1e9).alias("drops_rate"),
        pl.when(trains).then("up").otherwise(None).alias("up"),
    )
    dataset = load_dataset(make_recipe(altered))
    assert dataset.schema.fields == plain.schema.fields
    assert dataset.dropped == plain.dropped


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [(pl.Categorical, "category"), (pl.Enum(["a", "b"]), "category")],
    ids=["categorical", "enum"],
)
def test_dictionary_columns_of_parquet_are_categories(
    infer: Infer, dtype: pl.DataType, kind: str
) -> None:
    inference = infer(
        link=pl.Series(["a", "b", "b"] * 80), mode=pl.Series(["a", "b"] * 120, dtype=dtype)
    )
    found = field(inference, "mode")
    assert (found.kind, found.categories) == (kind, ("a", "b"))


@pytest.mark.parametrize(
    "values",
    [
        pl.Series([[i] for i in range(240)]),
        pl.Series([{"x": i} for i in range(240)]),
        pl.Series([str(i).encode() for i in range(240)]),
    ],
    ids=["lists", "structs", "bytes"],
)
def test_a_column_of_nested_values_is_dropped_or_refused_by_its_name(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe], values: pl.Series
) -> None:
    try:
        dataset = load_dataset(make_recipe(make_table(nested=values)))
    except RecipeError as refusal:
        assert "'nested'" in str(refusal)  # noqa: PT017
    else:
        assert "nested" in dataset.dropped


PLAIN = Recipe.read(
    None,
    {"name": "x", "table": "t", "label": "label", "good": "good", "split": {"by": "random"}},
)


def table_with(name: str, values: list[Any]) -> pl.DataFrame:
    rows = len(values)
    return pl.DataFrame(
        {
            name: values,
            "load": [float(i * 7 % 11) for i in range(rows)],
            "label": ["good", "bad"] * (rows // 2),
        }
    )


@pytest.mark.parametrize(
    ("name", "values", "why"),
    [
        ("", list(range(40)), "row index"),
        ("router", [i % 8 for i in range(40)], "identifier"),
        ("seq", [3 * i + i % 2 for i in range(40)], "identifier"),
        ("when", [1_700_000_000 + 37 * i % 1000 for i in range(40)], "a time"),
        ("seen_at", [1.7e12 + 37 * i % 1000 for i in range(40)], "a time"),
    ],
)
def test_numbers_that_name_rows_things_or_times_are_no_fields(
    name: str, values: list[Any], why: str
) -> None:
    table = table_with(name, values)
    inference = infer_fields(table, PLAIN)
    assert why in inference.dropped[name]
    assert [field.name for field in inference.fields] == ["load"]


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("x" * 201, "201 characters"),
        ("rx_duplicated_0", "called 'rx'"),
        ('rx "a"', "rename it, or leave it out"),
        ("rx\\tx", "rename it"),
        ("rx\ttx", "rename it"),
    ],
)
def test_a_column_name_that_cannot_be_served_is_refused(name: str, complaint: str) -> None:
    table = table_with(name, [float(i % 3) for i in range(40)])
    with pytest.raises(RecipeError, match=complaint):
        infer_fields(table, PLAIN)


def recordings(rows: int = 240) -> dict[str, list[float]]:
    """Two recordings in which a counter runs on and a gauge does not."""
    half = rows // 2
    at = [float(10 * (i % half)) for i in range(rows)]
    return {"taken": at, "run": [float(i // half) for i in range(rows)], "updates": at}


def test_a_clock_is_replaced_by_its_increase_per_second(infer: Infer) -> None:
    inference = infer({"time": "taken", "series": ["run"]}, **recordings())
    rate = field(inference, "updates_per_s")
    assert (rate.kind, rate.typical, rate.required) == ("rate", 1.0, True)
    assert inference.dropped["updates"] == (
        "a clock: it never decreases, so its value tells the time of recording; its increase per "
        "second is a field, updates_per_s"
    )


def test_without_a_time_column_a_clock_is_left_out(infer: Infer) -> None:
    inference = infer({"series": ["run"], "ignore": ["taken"]}, **recordings())
    assert "updates_per_s" not in [field.name for field in inference.fields]
    assert "name the time column (--time)" in inference.dropped["updates"]


def test_a_clock_that_is_kept_stays_as_it_is(infer: Infer) -> None:
    options = {"time": "taken", "series": ["run"], "keep": ["updates"]}
    assert field(infer(options, **recordings()), "updates").kind == "gauge"


@pytest.mark.parametrize("ignore", [[], ["updates_per_s"]])
def test_a_rate_that_the_table_has_is_not_computed_again(infer: Infer, ignore: list[str]) -> None:
    options = {"time": "taken", "series": ["run"], "ignore": ignore}
    inference = infer(options, **recordings(), updates_per_s=numbers())
    names = [each.name for each in inference.fields]
    assert ("updates_per_s" in names) == (not ignore)
    assert "its rate is there already, updates_per_s" in inference.dropped["updates"]
    if not ignore:
        assert field(inference, "updates_per_s").typical == 8  # of the table's own numbers


@pytest.mark.parametrize("pattern", ["drops_rate", "drops*"])
def test_a_field_that_is_missing_in_training_rows_cannot_be_required(
    infer: Infer, pattern: str
) -> None:
    with pytest.raises(RecipeError, match="'drops_rate' is missing in 28 training rows"):
        infer({"fields": {pattern: {"required": True}}})


def test_the_label_cannot_be_kept_as_a_field(infer: Infer) -> None:
    with pytest.raises(RecipeError, match="'label' is the label column"):
        infer({"keep": ["label"]})


@pytest.mark.parametrize("name", ["count", "rows", "value", "label"])
def test_no_name_of_a_column_is_taken(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe], name: str
) -> None:
    table = make_table(mode=["a", "b"] * 120).rename({"label": "kind"})
    for mode, label in ((name, "kind"), ("mode", name)):
        renamed = table.rename({"mode": mode, "kind": label})
        dataset = load_dataset(make_recipe(renamed, label=label, keep=[mode], merge_labels=True))
        assert dataset.classes == ("good", "lossy", "slow")
        assert dataset.schema[mode].categories == ("a", "b")


def test_a_kept_text_that_only_a_carried_class_has_is_refused(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe]
) -> None:
    label = ["rare", *["good", "slow", "lossy"] * 80][:240]
    table = make_table(label=label, note=["seen", *[None] * 239])
    with pytest.raises(RecipeError, match="of a class that is fitted has a value of 'note'"):
        load_dataset(make_recipe(table, keep=["note"]))


def test_the_rate_of_a_clock_has_the_unit_of_the_clock_per_second(infer: Infer) -> None:
    options = {"time": "taken", "series": ["run"], "fields": {"upd*": {"unit": "messages"}}}
    assert field(infer(options, **recordings()), "updates_per_s").unit == "messages/s"


def test_rates_of_test_rows_need_the_records_between_that_have_no_label(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe]
) -> None:
    table = make_table(**recordings())
    table = table.with_columns(
        label=pl.when(pl.int_range(pl.len()) % 7 == 0).then(None).otherwise(pl.col("label"))
    )
    dataset = load_dataset(make_recipe(table, time="taken", series=["run"]))
    column = dataset.schema.names.index("updates_per_s")
    values = {float(v) for rows in dataset.parts.values() for v in rows.matrix[:, column]}
    assert values == {0.0, 1.0}  # 0 for the first record of a recording, never 2


def test_a_number_has_the_median_and_the_spread_of_good_traffic(infer: Infer) -> None:
    seldom = [5.0 if i % 20 == 0 else 0.0 for i in range(240)]
    inference = infer(load=numbers(), mode=["a", "b"] * 120, seldom=seldom, never=[1.0] * 240)
    load, mode = field(inference, "load"), field(inference, "mode")
    assert (field(inference, "seldom").spread or 0) > 0.5
    assert field(inference, "never").spread == 0
    assert load.spread is not None
    assert 4 < load.spread < 8  # of numbers that are spread evenly over 0 to 16
    assert (mode.spread, mode.relative) == (None, False)


@pytest.mark.parametrize(
    ("name", "relative"),
    [
        ("cpu_percent", True),
        ("ifUtilization", True),
        ("rel_load", True),
        ("dropRatio", True),
        ("share_of_ports", True),
        ("relay_load", False),
        ("load", False),
    ],
)
def test_a_field_is_relative_by_its_name_or_unit(infer: Infer, name: str, relative: bool) -> None:
    assert field(infer(**{name: numbers()}), name).relative == relative


def test_the_user_knows_better_what_is_relative(infer: Infer) -> None:
    overrides = {"rel_*": {"relative": False}, "load": {"relative": True}}
    inference = infer({"fields": overrides}, rel_load=numbers(), load=[i % 7 for i in range(240)])
    assert [field(inference, name).relative for name in ("rel_load", "load")] == [False, True]


def test_a_busy_counter_of_one_device_becomes_a_rate_and_no_identifier(infer: Infer) -> None:
    octets = np.cumsum(1000 + 100 * np.random.default_rng(0).random(240)).astype(int).tolist()
    found = infer({"time": "time", "ignore": ["device"]}, in_octets=octets)
    assert field(found, "in_octets_per_s").kind == "rate"
    assert "its increase per second is a field" in found.dropped["in_octets"]


def test_the_rate_of_a_counter_may_be_described_by_its_name(infer: Infer) -> None:
    octets = np.cumsum(1000 + 100 * np.random.default_rng(0).random(240)).astype(int).tolist()
    options = {"time": "time", "fields": {"in_octets_per_s": {"kind": "rate", "unit": "By/s"}}}
    assert field(infer(options, in_octets=octets), "in_octets_per_s").unit == "By/s"
