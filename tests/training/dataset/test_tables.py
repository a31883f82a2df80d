from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from training.dataset.dataset import load_dataset
from training.dataset.tables import (
    PARTS,
    added_tables,
    assign_parts,
    labelled_rows,
    read_labelled,
    read_table,
)
from training.recipe import Recipe, RecipeError, Split, TableError

CSV = b"latency,vendor,up,label\n1.5,acme,true,good\n,bolt,false,slow\n3.25,,true,good\n"
TABLE = pl.DataFrame(
    {
        "latency": [1.5, None, 3.25],
        "vendor": ["acme", "bolt", None],
        "up": [True, False, True],
        "label": ["good", "slow", "good"],
    }
)

Write = Callable[[str, bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(name: str, data: bytes) -> Path:
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return to_file


def cut_by(rows: pl.DataFrame, split: Split, seed: int = 0) -> pl.DataFrame:
    """The rows with their parts; all of one label, unless they have labels."""
    if "label" not in rows.columns:
        rows = rows.with_columns(label=pl.lit("good"))
    return assign_parts(rows, split, seed, "label")


def parts_of(rows: pl.DataFrame, seed: int = 0, **split: Any) -> list[str | None]:
    parts: list[str | None] = cut_by(rows, Split(**split), seed)["__part__"].to_list()
    return parts


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("t.csv", CSV),
        ("t.csv.gz", gzip.compress(CSV, mtime=0)),
        ("t.tsv", CSV.replace(b",", b"\t")),
        ("t.tsv.gz", gzip.compress(CSV.replace(b",", b"\t"), mtime=0)),
        ("with.dots.in.its.name.csv", CSV),
    ],
)
def test_every_text_format_reads_the_same(write: Write, name: str, data: bytes) -> None:
    assert_frame_equal(read_table(write(name, data)), TABLE)


def test_parquet_reads_the_same(tmp_path: Path) -> None:
    TABLE.write_parquet(tmp_path / "t.parquet")
    assert_frame_equal(read_table(tmp_path / "t.parquet"), TABLE)


def test_a_type_that_only_shows_far_down_is_still_found(write: Write) -> None:
    table = read_table(write("t.csv", b"a,b\n" + b"1,1\n" * 5000 + b"1.5,x\n"))
    assert table.dtypes == [pl.Float64, pl.String]


def test_a_name_with_brackets_is_a_name_and_no_pattern(write: Write) -> None:
    write("t1.csv", b"other\n1\n")
    assert_frame_equal(read_table(write("t[1].csv", CSV)), TABLE)


@pytest.mark.parametrize("name", ["none.csv", "none.parquet", "none.tsv.gz"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(RecipeError, match=f"there is no table .*{name}"):
        read_table(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("junk.csv", np.random.default_rng(0).bytes(4000)),
        ("junk.csv.gz", b"\x1f\x8b" + np.random.default_rng(0).bytes(400)),
        ("cut.csv.gz", gzip.compress(CSV * 100, mtime=0)[:40]),
        ("junk.parquet", np.random.default_rng(0).bytes(4000)),
        ("empty.csv", b""),
        ("empty.parquet", b""),
    ],
)
def test_an_unreadable_file_is_named_in_one_line(write: Write, name: str, data: bytes) -> None:
    with pytest.raises(RecipeError) as refusal:
        read_table(write(name, data))
    assert f"{name} cannot be read" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_folder_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be read"):
        read_table(tmp_path)


def test_a_table_of_a_header_alone_is_refused(write: Write) -> None:
    with pytest.raises(RecipeError, match="holds no rows"):
        read_table(write("t.csv", b"a,b\n"))


@given(st.integers(20, 300), st.integers(0, 5), st.sampled_from(["random", "time"]))
def test_random_and_time_splits_keep_their_shares(rows: int, seed: int, by: str) -> None:
    table = pl.DataFrame({"t": np.random.default_rng(seed).permutation(rows)})
    column = "t" if by == "time" else None
    parts = parts_of(table, seed, by=by, column=column, shares=(0.5, 0.2, 0.3))
    assert [parts.count(part) for part in PARTS] == pytest.approx(
        [0.5 * rows, 0.2 * rows, 0.3 * rows], abs=1
    )


def test_a_random_split_is_decided_by_the_seed() -> None:
    table = pl.DataFrame({"a": range(100)})
    assert parts_of(table, 1, by="random") == parts_of(table, 1, by="random")
    assert parts_of(table, 1, by="random") != parts_of(table, 2, by="random")


def test_a_random_split_gives_every_label_its_shares() -> None:
    labels = ["good"] * 400 + ["slow"] * 40 + ["rare"] * 8
    split = Split(by="random", shares=(0.5, 0.25, 0.25))
    cut = cut_by(pl.DataFrame({"label": labels}), split, seed=3)
    for (label,), rows in cut.group_by("label"):
        counts = [(rows["__part__"] == part).sum() for part in PARTS]
        whole = labels.count(str(label))
        assert counts == [whole // 2, whole // 4, whole // 4]


def test_a_time_split_trains_before_dev_and_dev_before_test() -> None:
    table = pl.DataFrame({"t": np.random.default_rng(0).permutation(200) * 0.5})
    cut = cut_by(table, Split(by="time", column="t"))
    t = {part: cut.filter(pl.col("__part__") == part)["t"].to_numpy() for part in PARTS}
    assert t["train"].max() < t["dev"].min()
    assert t["dev"].max() < t["test"].min()


def test_a_time_split_within_runs_cuts_each_run_on_its_own() -> None:
    runs = ["a"] * 40 + ["b"] * 80 + [None] * 20
    time = np.random.default_rng(0).permutation(140)
    table = pl.DataFrame({"run": runs, "t": time})
    split = Split(by="time", column="t", within="run", shares=(0.5, 0.25, 0.25))
    cut = cut_by(table, split)
    for (_,), rows in cut.group_by("run"):
        pieces = [rows.filter(pl.col("__part__") == part) for part in PARTS]
        assert [len(piece) for piece in pieces] == [len(rows) // 2, len(rows) // 4, len(rows) // 4]
        ends = [(piece["t"].to_numpy().min(), piece["t"].to_numpy().max()) for piece in pieces]
        assert ends[0][1] < ends[1][0]
        assert ends[1][1] < ends[2][0]


@given(st.lists(st.integers(1, 30), min_size=4, max_size=40), st.integers(0, 9))
def test_a_group_split_keeps_groups_whole(sizes: list[int], seed: int) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    cut = cut_by(pl.DataFrame({"g": groups}), Split(by="group", column="g"), seed)
    assert cut.group_by("g").agg(pl.col("__part__").n_unique())["__part__"].max() == 1
    assert cut["__part__"].null_count() == 0


@given(st.integers(40, 80), st.integers(0, 9))
def test_a_group_split_keeps_its_shares_to_within_a_group(groups: int, seed: int) -> None:
    parts = parts_of(pl.DataFrame({"g": range(groups)}), seed, by="group", column="g")
    assert [parts.count(part) / groups for part in PARTS] == pytest.approx(
        [0.6, 0.15, 0.25], abs=1.01 / groups
    )


@pytest.mark.parametrize("groups", range(3, 13))
def test_a_group_split_leaves_no_part_empty(groups: int) -> None:
    table = pl.DataFrame({"g": [i % groups for i in range(groups * 10)]})
    for seed in range(5):
        assert set(parts_of(table, seed, by="group", column="g")) == set(PARTS)


def test_rows_without_a_group_stay_together() -> None:
    table = pl.DataFrame({"g": ["a", None, "b", None, "c", "d", None, "e"] * 5})
    cut = cut_by(table, Split(by="group", column="g"))
    assert cut.filter(pl.col("g").is_null())["__part__"].n_unique() == 1


def test_fewer_than_three_groups_are_refused() -> None:
    table = pl.DataFrame({"site": ["a", "b"] * 10})
    with pytest.raises(RecipeError, match="'site' has 2 groups; a split needs at least three"):
        cut_by(table, Split(by="group", column="site"))


def test_a_given_column_leaves_out_rows_with_any_other_value() -> None:
    given_parts = ["train", "dev", "test", "later", None, "", "Train", "train"]
    parts = parts_of(pl.DataFrame({"part": given_parts}), by="column", column="part")
    assert parts == ["train", "dev", "test", None, None, None, None, "train"]


def test_a_split_may_come_from_a_second_table(tmp_path: Path) -> None:
    pl.DataFrame({"s": ["test", "train", "dev"]}).write_csv(tmp_path / "s.csv")
    split: dict[str, Any] = {"by": "column", "column": "s", "table": tmp_path / "s.csv"}
    assert parts_of(pl.DataFrame({"a": [1, 2, 3]}), **split) == ["test", "train", "dev"]
    with pytest.raises(RecipeError, match=r"s\.csv has 3 rows, the table 4"):
        parts_of(pl.DataFrame({"a": [1, 2, 3, 4]}), **split)


@pytest.mark.parametrize(
    ("split", "role"),
    [
        ({"by": "column", "column": "no"}, "split column"),
        ({"by": "time", "column": "no"}, "time column"),
        ({"by": "time", "column": "a", "within": "no"}, "column to split within"),
        ({"by": "group", "column": "no"}, "group column"),
    ],
)
def test_a_column_that_is_not_there_is_named_with_those_that_are(
    split: dict[str, Any], role: str
) -> None:
    with pytest.raises(RecipeError, match=f"no {role} 'no'; its columns are a, b, label"):
        parts_of(pl.DataFrame({"a": [1, 2], "b": [3, 4]}), **split)


def test_an_empty_part_is_refused_by_its_name(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe]
) -> None:
    for part in PARTS:
        table = make_table().filter(pl.col("part") != part)
        recipe = make_recipe(table)
        with pytest.raises(RecipeError, match=f"leaves no {part} rows"):
            labelled_rows(recipe, recipe.split)


def test_rows_without_a_label_and_dropped_labels_are_left_out_and_labels_are_trimmed(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe]
) -> None:
    labels = np.resize(np.array(["good", " slow ", "", "  ", None, "extra"], dtype=object), 240)
    recipe = make_recipe(make_table(label=list(labels)), drop_labels=("extra",))
    parts = labelled_rows(recipe, recipe.split)
    assert set(pl.concat(parts.values())["label"]) == {"good", "slow"}
    assert sum(map(len, parts.values())) == 80


def test_the_parts_hold_the_tables_own_columns_and_each_row_once(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe]
) -> None:
    table = make_table()
    recipe = make_recipe(table)
    assert_frame_equal(pl.concat(labelled_rows(recipe, recipe.split).values()), table)


def test_a_second_table_is_the_test_part_and_all_of_it(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    later = make_table(60, seed=9).drop("part")
    later.write_parquet(tmp_path / "later.parquet")
    recipe = make_recipe(
        make_table().drop("part"),
        test_table=tmp_path / "later.parquet",
        split={"by": "random", "shares": (0.8, 0.2, 0.0)},
    )
    parts = labelled_rows(recipe, recipe.split)
    assert_frame_equal(parts["test"], later)
    assert (len(parts["train"]), len(parts["dev"])) == (192, 48)


def test_a_second_table_without_the_label_is_refused_by_its_name(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    make_table(60).drop("label").write_parquet(tmp_path / "later.parquet")
    recipe = make_recipe(make_table(), test_table=tmp_path / "later.parquet")
    with pytest.raises(RecipeError, match=r"later\.parquet has no label column 'label'"):
        labelled_rows(recipe, recipe.split)


def test_times_written_as_text_are_ordered_as_times() -> None:
    hours = [f"2026-01-31 {hour}:00:00" for hour in ("09", "10", "23", "11")]
    table = pl.DataFrame({"t": hours, "label": ["a"] * 4})
    split = Split(by="time", column="t", shares=(0.5, 0.25, 0.25))
    parts = assign_parts(table, split, 0, "label").to_series(-1).to_list()
    assert parts == ["train", "train", "test", "dev"]


ORDERED = [
    ["2026-01-31T23:59:59Z", "2026-02-01T00:00:00.5Z", "2026-02-01T02:00:00+01:00"],
    ["2026-01-31 23:59:59+0000", "2026-01-31 19:00:00.000000001-05:00", "2026-02-01 00:00:01 UTC"],
    ["31.1.2026 9:30", "31.01.2026 10:30", "01.02.2026 00:00:00,5"],
    ["30.12.2025", "31.12.2025", "1.1.2026"],
    ["2026-01-31", "2026-02-01", "2026-02-02"],
    ["2026-01-31T10:00", "2026-01-31 10:01:00", "2026-01-31T10:01:00.25"],
]


@pytest.mark.parametrize("times", ORDERED)
def test_times_of_every_form_are_ordered_as_times(times: list[str]) -> None:
    table = pl.DataFrame({"t": times[::-1], "label": ["a"] * 3})
    split = Split(by="time", column="t", shares=(0.34, 0.33, 0.33))
    assert assign_parts(table, split, 0, "label")["__part__"].to_list() == ["test", "dev", "train"]


@pytest.mark.parametrize(
    ("times", "complaint"),
    [
        (["1/1/2017 0:00", "10/1/2017 0:00"], "text that is no time, such as '1/1/2017 0:00'"),
        (["2026-02-30", "2026-02-01"], "text that is no time, such as '2026-02-30'"),
        (["2026-01-31T10:00Z", "2026-01-31T10:01"], "some times of 't' have an offset and some"),
        ([1, None], "1 rows have no"),
    ],
)
def test_times_that_cannot_be_ordered_are_refused(times: list[object], complaint: str) -> None:
    table = pl.DataFrame({"t": times, "label": ["a"] * 2})
    with pytest.raises(RecipeError, match=complaint):
        assign_parts(table, Split(by="time", column="t"), 0, "label")


def wide(make_table: Callable[..., pl.DataFrame], **columns: Any) -> pl.DataFrame:
    """A table whose `size` is written with units, for 240 rows."""
    sizes = [f"{i % 17} kB" for i in range(239)] + ["N/A"]
    return make_table(**({"size": sizes} | columns))


def test_numbers_in_text_become_fields_with_their_unit(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe]
) -> None:
    recipe = make_recipe(wide(make_table), fields={"si*": {"required": False}})
    read = read_labelled(recipe, recipe.split)
    assert read.parts["train"]["size"].to_list()[:3] == [0, 1, 2]
    assert read.recipe.fields["size"].model_dump(exclude_none=True) == {
        "unit": "kB",
        "required": False,
    }
    field = next(f for f in load_dataset(recipe).schema.fields if f.name == "size")
    assert (field.kind, field.unit, field.required) == ("gauge", "kB", False)


def test_a_unit_that_the_user_gives_wins(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe]
) -> None:
    recipe = make_recipe(wide(make_table), fields={"size": {"unit": "kilobytes"}})
    assert read_labelled(recipe, recipe.split).recipe.fields["size"].unit == "kilobytes"


def test_a_category_stays_as_it_is_written(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe]
) -> None:
    recipe = make_recipe(
        make_table(speed=["10G", "100G"] * 120), fields={"sp*": {"kind": "category"}}
    )
    field = next(f for f in load_dataset(recipe).schema.fields if f.name == "speed")
    assert (field.kind, field.categories) == ("category", ("100G", "10G"))


def test_a_second_table_and_added_rows_come_in_the_units_of_the_first(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    wide(make_table, size=["2 MB", "1 MB"] * 120).write_csv(tmp_path / "later.csv")
    wide(make_table, size=[5] * 240).write_csv(tmp_path / "plain.csv")
    recipe = make_recipe(
        wide(make_table), test_table=tmp_path / "later.csv", add=[tmp_path / "plain.csv"]
    )
    parts = labelled_rows(recipe, recipe.split)
    assert parts["test"]["size"].to_list()[:2] == [2000, 1000]
    assert added_tables(recipe)[0].rows["size"].to_list()[:2] == [5, 5]
    wide(make_table, size=["2 ms", "1 ms"] * 120).write_csv(tmp_path / "later.csv")
    with pytest.raises(TableError, match=r"later\.csv: column 'size' is in ms, and in kB in the f"):
        labelled_rows(recipe, recipe.split)


def test_odd_cells_are_named_unless_the_user_has_decided(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    cells = [f"{i % 17}" for i in range(236)] + ["ERR", "ERR", "over", "12 kB"]
    make_table(load=cells).write_csv(tmp_path / "odd.csv")
    recipe = make_recipe(make_table()).model_copy(update={"table": tmp_path / "odd.csv"})
    with pytest.raises(TableError) as refusal:
        labelled_rows(recipe, recipe.split)
    told = str(refusal.value)
    assert "'ERR' in line 238, 'ERR' in line 239, 'over' in line 240 and 1 more" in told
    assert all(option in told for option in ("--missing 'ERR'", "--ignore 'load'", "--keep 'load'"))
    for decided in (
        {"ignore": ["load"]},
        {"keep": ["load"]},
        {"series": ["load"]},
        {"reading": {"missing": ["ERR", "over", "12 kB"]}},
    ):
        assert labelled_rows(Recipe.model_validate(recipe.model_dump() | decided), recipe.split)


def test_odd_cells_of_an_identifier_do_not_matter(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe]
) -> None:
    serials = [str(i) for i in range(239)] + ["A-17"]
    recipe = make_recipe(make_table(serial=serials, port=serials))
    assert labelled_rows(recipe, recipe.split)


def test_labels_of_two_spellings_are_refused_or_united(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    labels = np.resize(np.array(["good", "slow", "lossy", "GOOD ", "good", "Slow"]), 240)
    table = make_table(label=list(labels))
    table.with_columns(label=pl.lit("SLOW")).write_csv(tmp_path / "more.csv")
    recipe = make_recipe(table, add=[tmp_path / "more.csv"])
    with pytest.raises(TableError, match=r"'good' \(80 rows\), 'GOOD' \(40 rows\)"):
        labelled_rows(recipe, recipe.split)
    united = recipe.model_copy(update={"merge_labels": True, "severity": {"Slow": "minor"}})
    parts = labelled_rows(united, united.split)
    assert set(pl.concat(parts.values())["label"]) == {"good", "Slow", "lossy"}
    assert set(added_tables(united)[0].rows["label"]) == {"Slow"}
    dropped = recipe.model_copy(update={"drop_labels": ("GOOD", "Slow")})
    assert set(labelled_rows(dropped, dropped.split)["train"]["label"]) == {"good", "slow", "lossy"}


def test_added_labels_of_another_spelling_are_refused(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    make_table().with_columns(label=pl.lit("SLOW")).write_csv(tmp_path / "more.csv")
    with pytest.raises(TableError, match=r"'SLOW' \(240 rows\), 'slow' \(80 rows\)"):
        added_tables(make_recipe(make_table(), add=[tmp_path / "more.csv"]))


def test_rows_without_a_label_and_guesses_are_noted(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    labels = np.resize(np.array(["good", "slow", None], dtype=object), 240)
    text = "# from a tool\n" + make_table(label=list(labels)).write_csv()
    (tmp_path / "t.csv").write_text(text)
    recipe = make_recipe(make_table()).model_copy(update={"table": tmp_path / "t.csv"})
    assert load_dataset(recipe).notes == (
        "1 lines of t.csv that begin with # were skipped",
        "80 of 240 rows have no label and are left out",
    )


def test_a_column_name_with_blanks_is_shown_with_them() -> None:
    with pytest.raises(RecipeError, match=r"its columns are a, ' b', label"):
        parts_of(pl.DataFrame({"a": [1], " b": [2]}), by="column", column="b")
