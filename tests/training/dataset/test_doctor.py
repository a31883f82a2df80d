from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from training.dataset.doctor import NO_LABEL, NO_SPLIT, Column, Examination, examine
from training.recipe import Recipe, RecipeError, TableError

Check = Callable[..., Examination]


@pytest.fixture
def check(make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe]) -> Check:
    """Examines the small table with more or other columns."""

    def of(options: dict[str, Any] | None = None, /, **columns: Any) -> Examination:
        return examine(make_recipe(make_table(**columns), **(options or {})))

    return of


def column(examination: Examination, name: str) -> Column:
    return next(column for column in examination.columns if column.name == name)


def test_every_column_is_kept_or_left_out_with_a_reason(check: Check) -> None:
    found = check(size=[f"{i % 13} kB" for i in range(238)] + ["-", "N/A"], empty=[None] * 240)
    assert [each.name for each in found.columns][:4] == ["latency_ms", "drops_rate", "up", "vendor"]
    size = column(found, "size")
    assert size.field
    assert (size.field.kind, size.field.unit) == ("gauge", "kB")
    assert size.missing == pytest.approx(2 / 240)
    assert size.reason == "numbers in text; 2 cells such as '-' are missing"
    assert column(found, "vendor").field
    for name, reason in {
        "device": "an identifier",
        "time": "a time",
        "part": "the rows are split by it",
        "label": "the label",
        "empty": "no training row has a value",
    }.items():
        left = column(found, name)
        assert left.field is None
        assert left.reason.startswith(reason)
    assert 0 < column(found, "drops_rate").missing < 0.2
    assert found.fields == 5
    assert found.stops == found.notes == ()


def test_classes_are_counted_by_part(check: Check) -> None:
    assert check().classes == {
        name: {"train": 40, "dev": 20, "test": 20} for name in ("good", "lossy", "slow")
    }


def test_all_that_stops_training_is_found_at_once(check: Check) -> None:
    labels = np.resize(np.array(["good", "slow", "SLOW", "lossy"]), 240)
    odd = ["1"] * 239 + ["ERR"]
    found = check(label=list(labels), load=odd, jitter=odd)
    assert len(found.stops) == 3
    for stop, words in zip(found.stops, ["'load'", "'jitter'", "'SLOW' (60 rows)"], strict=True):
        assert words in stop
    assert column(found, "load").reason == "odd cells"


def test_without_a_label_only_columns_are_examined(check: Check) -> None:
    found = check({"label": NO_LABEL, "good": NO_LABEL, "split": NO_SPLIT.model_dump()})
    assert found.classes == {}
    assert column(found, "latency_ms").field
    assert column(found, "device").field is None


def test_without_a_good_label_or_a_split_classes_are_counted_over_all_rows(check: Check) -> None:
    split = NO_SPLIT.model_dump()
    for good in (NO_LABEL, "good"):
        found = check({"good": good, "split": split})
        assert found.classes == {name: {"rows": 80} for name in ("good", "lossy", "slow")}
        assert column(found, "label").reason == "the label"
        assert column(found, "latency_ms").field
        assert found.stops == ()


def test_a_wrong_good_label_stops_but_columns_are_still_examined(check: Check) -> None:
    for split in ({"by": "random"}, NO_SPLIT.model_dump()):
        found = check({"good": "fine", "split": split})
        assert "good label 'fine'; the labels are good, lossy, slow" in found.stops[0]
        assert column(found, "latency_ms").field


def test_without_a_field_every_column_still_has_its_reason(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe]
) -> None:
    found = examine(make_recipe(make_table().select("device", "time", "part", "label")))
    assert found.fields == 0
    assert found.stops[0].startswith("no column is left to be a field")
    assert all(column.reason for column in found.columns)


def test_a_backtest_that_cannot_be_made_stops(check: Check) -> None:
    backtests = [
        {"name": "fine", "split": {"by": "random"}},
        {"name": "wrong", "split": {"by": "group", "column": "no"}},
    ]
    found = check({"backtests": backtests})
    (stop,) = found.stops
    assert stop.startswith("backtest 'wrong': the table has no group column 'no'")
    assert found.fields == 4


def test_groups_with_rows_in_two_parts_are_named(check: Check) -> None:
    events = [None] * 60 + ["e1"] * 100 + [None] * 20 + ["e2"] * 60
    found = check({"event": "event", "series": ["device"]}, event=events)
    (event,) = found.notes
    assert "1 of 2 values of event (event)" in event
    assert "'e1' in dev, train" in event or "'e1' in train, dev" in event
    mixed = check({"series": ["device"], "split": {"by": "random"}})
    assert any("8 of 8 values of series (device)" in note for note in mixed.notes)
    apart = check({"event": "part", "split": {"by": "group", "column": "part"}})
    assert not any("two parts" in note for note in apart.notes)


def test_counters_uptimes_small_classes_and_rows_without_a_label_are_noted(check: Check) -> None:
    labels: list[str | None] = ["good", "slow", "lossy"] * 80
    labels[0:3] = [None, "rare", "rare"]
    growing = [float(i % 20) for i in range(240)]
    notes = "\n".join(check(label=labels, errors_total=growing, uptime_s=growing[::-1]).notes)
    assert "1 of 240 rows have no label" in notes
    assert "class 'rare' has 2 train and dev rows: it is not fitted, but carried" in notes
    assert "'errors_total' are counters" in notes
    assert "'uptime_s' are times since a start" in notes


def test_text_of_which_most_is_numbers_is_noted(check: Check) -> None:
    cells = [str(i) if i % 3 else f"over {i}" for i in range(240)]
    few = [str(i % 9) if i % 3 else "over" for i in range(240)]
    assert check(load=few).notes == ()
    assert "67% of the cells of 'load' are numbers, not all: 'over 0'" in "\n".join(
        check(load=cells).notes
    )


@pytest.mark.parametrize(
    "options",
    [
        {"label": "no"},
        {"ignore": ["no"]},
        {"keep": ["no"]},
        {"event": "no"},
        {"split": {"by": "time", "column": "no"}},
        {"split": {"by": "time", "column": "time", "within": "no"}},
    ],
)
def test_a_column_that_is_not_there_is_a_wrong_option(
    check: Check, options: dict[str, Any]
) -> None:
    with pytest.raises(RecipeError, match="'no'; its columns are latency_ms") as refusal:
        check(options)
    assert not isinstance(refusal.value, TableError)


def test_a_column_of_lists_has_no_part_but_to_be_ignored(check: Check) -> None:
    lists = [[i] for i in range(240)]
    for options in ({"label": "l"}, {"event": "l"}, {"split": {"by": "group", "column": "l"}}):
        with pytest.raises(RecipeError, match="'l' must hold text, numbers or times"):
            check(options, l=lists)
    assert column(check({"ignore": ["l"]}, l=lists), "l").reason == "ignored, as asked"


def test_what_is_done_is_said(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe]
) -> None:
    said: list[str] = []
    recipe = make_recipe(make_table())
    examine(recipe, said.append)
    assert said == [
        f"reading {recipe.table}",
        "looking at 8 columns of 240 rows",
        "choosing fields",
    ]


def test_five_hundred_columns_and_a_nameless_one_are_examined(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    wide = make_table(**{f"m{i}": np.random.default_rng(i).normal(size=240) for i in range(500)})
    (tmp_path / "t.csv").write_text(wide.with_columns(pl.lit(1).alias("  ")).write_csv())
    found = examine(make_recipe(wide).model_copy(update={"table": tmp_path / "t.csv"}))
    assert found.fields == 504
    assert [each.reason for each in found.columns if not each.name.strip()] == [
        "it has no name: a row index?"
    ]


def test_a_second_table_without_a_column_of_the_context_is_no_hindrance(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    table = make_table(event=[i // 20 for i in range(240)])
    make_table(60, seed=1).drop("part").write_csv(tmp_path / "later.csv")
    recipe = make_recipe(
        table.drop("part"),
        split={"by": "random"},
        event=["event"],
        test_table=tmp_path / "later.csv",
    )
    assert column(examine(recipe), "latency_ms").field is not None
