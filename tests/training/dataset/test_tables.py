from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from training.dataset.dataset import load_dataset
from training.dataset.splits import PARTS
from training.dataset.tables import (
    added_tables,
    read_labelled,
    read_table,
)
from training.recipe import Recipe, RecipeError, TableError

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


def test_an_empty_part_is_refused_by_its_name(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe]
) -> None:
    for part in PARTS:
        table = make_table().filter(pl.col("part") != part)
        recipe = make_recipe(table)
        with pytest.raises(RecipeError, match=f"leaves no {part} rows"):
            read_labelled(recipe, recipe.split)


def test_rows_without_a_label_and_dropped_labels_are_left_out_and_labels_are_trimmed(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe]
) -> None:
    labels = np.resize(np.array(["good", " slow ", "", "  ", None, "extra"], dtype=object), 240)
    recipe = make_recipe(make_table(label=list(labels)), drop_labels=("extra",))
    parts = read_labelled(recipe, recipe.split).parts
    assert set(pl.concat(parts.values())["label"]) == {"good", "slow"}
    assert sum(map(len, parts.values())) == 80


def test_the_parts_hold_the_tables_own_columns_and_each_row_once(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe]
) -> None:
    table = make_table()
    recipe = make_recipe(table)
    assert_frame_equal(pl.concat(read_labelled(recipe, recipe.split).parts.values()), table)


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
    parts = read_labelled(recipe, recipe.split).parts
    assert_frame_equal(parts["test"], later)
    assert (len(parts["train"]), len(parts["dev"])) == (192, 48)


def test_a_second_table_without_the_label_is_refused_by_its_name(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    make_table(60).drop("label").write_parquet(tmp_path / "later.parquet")
    recipe = make_recipe(make_table(), test_table=tmp_path / "later.parquet")
    with pytest.raises(RecipeError, match=r"later\.parquet has no label column 'label'"):
        read_labelled(recipe, recipe.split)


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
    parts = read_labelled(recipe, recipe.split).parts
    assert parts["test"]["size"].to_list()[:2] == [2000, 1000]
    assert added_tables(recipe)[0].rows["size"].to_list()[:2] == [5, 5]
    wide(make_table, size=["2 ms", "1 ms"] * 120).write_csv(tmp_path / "later.csv")
    with pytest.raises(TableError, match=r"later\.csv: column 'size' is in ms, and in kB in the f"):
        read_labelled(recipe, recipe.split)


def test_odd_cells_are_named_unless_the_user_has_decided(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    cells = [f"{i % 17}" for i in range(236)] + ["ERR", "ERR", "over", "12 kB"]
    make_table(load=cells).write_csv(tmp_path / "odd.csv")
    recipe = make_recipe(make_table()).model_copy(update={"table": tmp_path / "odd.csv"})
    with pytest.raises(TableError) as refusal:
        read_labelled(recipe, recipe.split)
    told = str(refusal.value)
    assert "'ERR' in line 238, 'ERR' in line 239, 'over' in line 240 and 1 more" in told
    assert all(option in told for option in ("--missing 'ERR'", "--ignore 'load'", "--keep 'load'"))
    for decided in (
        {"ignore": ["load"]},
        {"keep": ["load"]},
        {"series": ["load"]},
        {"reading": {"missing": ["ERR", "over", "12 kB"]}},
    ):
        assert read_labelled(Recipe.model_validate(recipe.model_dump() | decided), recipe.split)


def test_odd_cells_of_an_identifier_do_not_matter(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe]
) -> None:
    serials = [str(i) for i in range(239)] + ["A-17"]
    recipe = make_recipe(make_table(serial=serials, port=serials))
    assert read_labelled(recipe, recipe.split).parts


def test_labels_of_two_spellings_are_refused_or_united(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    labels = np.resize(np.array(["good", "slow", "lossy", "GOOD ", "good", "Slow"]), 240)
    table = make_table(label=list(labels))
    table.with_columns(label=pl.lit("SLOW")).write_csv(tmp_path / "more.csv")
    recipe = make_recipe(table, add=[tmp_path / "more.csv"])
    with pytest.raises(TableError, match=r"'good' \(80 rows\), 'GOOD' \(40 rows\)"):
        read_labelled(recipe, recipe.split)
    united = recipe.model_copy(update={"merge_labels": True, "severity": {"Slow": "minor"}})
    parts = read_labelled(united, united.split).parts
    assert set(pl.concat(parts.values())["label"]) == {"good", "Slow", "lossy"}
    assert set(added_tables(united)[0].rows["label"]) == {"Slow"}
    dropped = recipe.model_copy(update={"drop_labels": ("GOOD", "Slow")})
    assert set(read_labelled(dropped, dropped.split).parts["train"]["label"]) == {
        "good",
        "slow",
        "lossy",
    }


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
