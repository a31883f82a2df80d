from __future__ import annotations

import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from training.dataset.cells import (
    MISSING,
    Decimal,
    clean,
    decimal_mark,
    factor_between,
    read_booleans,
    read_numbers,
)
from training.recipe import Reading

GROUPS = {".": ["", ",", " ", "\u00a0", "\u202f", "'"], ",": ["", ".", " ", "\u00a0", "'"]}


def read(*cells: str | None, decimal: Decimal | None = None, usual: Decimal = ".") -> list[object]:
    numbers = read_numbers(pl.Series("x", cells), decimal, usual)
    assert numbers is not None
    return numbers.values.to_list()


def written(value: float, digits: int, decimal: str, group: str) -> str:
    whole, _, rest = f"{value:,.{digits}f}".partition(".")
    return whole.replace(",", group) + (decimal + rest if digits else "")


@settings(deadline=None)
@given(
    st.lists(st.decimals(-(10**9), 10**9, places=4).map(float), min_size=1, max_size=30),
    st.sampled_from([(mark, group) for mark, groups in GROUPS.items() for group in groups]),
    st.sampled_from(["", " kB", "%", " ms", "Mbit/s", " furlongs"]),
    st.sampled_from([*MISSING]),
)
def test_a_number_in_any_format_reads_back(
    values: list[float], format_: tuple[str, str], unit: str, missing: str
) -> None:
    decimal, group = format_
    cells = [written(value, 4, decimal, group) + unit for value in values]
    assert read(*cells, missing, None) == pytest.approx([*values, None, None])
    numbers = read_numbers(pl.Series(cells))
    assert numbers
    assert numbers.unit == (unit.strip() or None if any(values) else None)


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 10**9), min_size=1, max_size=30),
    st.sampled_from([(mark, group) for mark, groups in GROUPS.items() for group in groups]),
)
def test_whole_numbers_in_groups_read_back_as_integers(
    values: list[int], format_: tuple[str, str]
) -> None:
    mark, group = format_
    cells = [f"{value:,}".replace(",", group) for value in values]
    assume(group != "." or max(values) >= 1000)
    numbers = read_numbers(pl.Series(cells), "," if mark == "," else ".")
    assert numbers
    assert numbers.values.to_list() == values
    assert numbers.values.dtype == pl.Int64


def test_numbers_with_a_decimal_mark_or_an_exponent_are_no_integers() -> None:
    for cells in (["5.0", "6.0"], ["5,0", "6"], ["5e1", "N/A"]):
        numbers = read_numbers(pl.Series(cells))
        assert numbers
        assert numbers.values.dtype == pl.Float64


@settings(deadline=None)
@given(st.text())
def test_text_of_any_kind_is_a_number_or_is_not(text: str) -> None:
    numbers = read_numbers(pl.Series([text, text]))
    assert numbers is None or not numbers.odd


@pytest.mark.parametrize(
    ("cells", "values", "unit"),
    [
        (["12 kB", "3 MB", "0"], [12e3, 3e6, 0], "bytes"),
        (["5 KiB", "1 MiB"], [5 * 1024, 2**20], "bytes"),
        (["3.5ms", "2 s", "8us"], [3.5e-3, 2, 8e-6], "s"),
        (["1.2K", "3M", "500"], [1200, 3e6, 500], None),
        (["900 kbps", "2 Gbps"], [9e5, 2e9], "bit/s"),
        (["10G", "100G"], [10, 100], "G"),
        (["-3 °C", "+4 °C"], [-3, 4], "°C"),
        (["1e5", "\u22123", "2E-1"], [1e5, -3, 0.2], None),
        (["1,234.50", "7"], [1234.5, 7], None),
        (["12,5", "12.5"], [12.5, 12.5], None),
    ],
)
def test_numbers_have_one_unit(cells: list[str], values: list[float], unit: str | None) -> None:
    numbers = read_numbers(pl.Series(cells))
    assert numbers
    assert numbers.values.to_list() == pytest.approx(values)
    assert numbers.unit == unit


def test_a_doubtful_comma_follows_its_column_then_the_table_then_what_the_user_says() -> None:
    assert read("1,234", "0,5") == [1.234, 0.5]
    assert read("1,234", "2.5") == [1234, 2.5]
    assert read("1,234", "7") == [1234, 7]
    assert read("1,234", "7", usual=",") == [1.234, 7]
    assert read("1,234", "7", decimal=",") == [1.234, 7]
    both = read_numbers(pl.Series(["12,5", "12.5", "1,234"]))
    assert both
    assert both.odd == (2,)


@pytest.mark.parametrize(
    "cells",
    [
        ["acme", "bolt", "core"],
        ["1st", "2nd", "3rd", "4th"],
        ["10.0.0.1", "10.0.0.2"],
        ["12:30", "13:40"],
        ["2026-01-31", "2026-02-01"],
        ["1/0/1", "1/0/2"],
        ["00:1b:44:11:3a:b7"],
        ["v1.2", "v1.3"],
        ["3f2a", "77b1", "9c01"],
        ["200", "404", "timeout", "refused"],
    ],
)
def test_text_stays_text(cells: list[str]) -> None:
    assert read_numbers(pl.Series(cells)) is None


@pytest.mark.parametrize("odd", ["ERR", "12 kB", "1.2.3", "0x1F", "12 34", "1,2,3"])
def test_a_cell_that_is_no_number_of_the_column_is_named_by_its_row(odd: str) -> None:
    numbers = read_numbers(pl.Series(["1.5"] * 20 + [odd] + ["2.5"] * 20))
    assert numbers
    assert numbers.odd == (20,)


def test_half_of_a_column_in_another_unit_is_odd_too() -> None:
    numbers = read_numbers(pl.Series(["1", "2", "3", "4 kB", "5 kB"]))
    assert numbers
    assert numbers.odd == (3, 4)


def test_a_mark_of_the_user_is_missing_in_text_and_among_numbers() -> None:
    table = pl.DataFrame(
        {"a": ["1", "gone", "3"], "b": [1, -999, 3], "c": ["x", "gone", "y"], "label": ["gone"] * 3}
    )
    rows = clean(table, ["label"], reading=Reading(missing=("gone", "-999"))).rows
    assert rows.to_dict(as_series=False) == {
        "a": [1, None, 3],
        "b": [1, None, 3],
        "c": ["x", None, "y"],
        "label": ["gone"] * 3,
    }


def test_cleaning_keeps_labels_units_and_odd_cells_apart() -> None:
    table = pl.DataFrame(
        {
            "size": ["1 kB", "N/A", "2 kB"],
            "label": ["1", "2", "N/A"],
        }
    )
    cleaned = clean(table, ["label"])
    assert cleaned.rows["label"].to_list() == ["1", "2", "N/A"]
    assert cleaned.rows["size"].to_list() == [1, None, 2]
    assert cleaned.units == {"size": "kB"}
    assert cleaned.remarks["size"] == "1 cells such as 'N/A' are missing"


def test_truth_with_marks_is_truth() -> None:
    flags = read_booleans(pl.Series(["true", "False ", "-", None]))
    assert flags is not None
    assert flags.to_list() == [True, False, None, None]
    assert read_booleans(pl.Series(["true", "up"])) is None
    assert read_booleans(pl.Series(["-", None])) is None


def test_the_decimal_mark_is_the_one_that_most_cells_show() -> None:
    assert decimal_mark(["1,5", "2,5", "1.234,5", "x"]) == ","
    assert decimal_mark(["1.5", "1,234.5", "7"]) == "."
    assert decimal_mark(["1,234", "7", "x"]) is None


@pytest.mark.parametrize(
    ("unit", "other", "factor"),
    [("kB", "kB", 1), ("kB", "bytes", 1e3), ("MB", "kB", 1e3), ("K", "", 1e3), ("ms", "s", 1e-3)],
)
def test_units_of_one_base_have_a_factor(unit: str, other: str, factor: float) -> None:
    assert factor_between(unit, other) == pytest.approx(factor)


def test_units_of_different_bases_have_none() -> None:
    assert factor_between("kB", "ms") is None
    assert factor_between("kB", "") is None


@pytest.mark.parametrize("name", ["rows", "cell", "text", "count"])
def test_a_column_of_any_name_is_read(name: str) -> None:
    numbers = read_numbers(pl.Series(name, ["1,234", "5", None]))
    assert numbers is not None
    assert numbers.values.to_list() == [1234, 5, None]
    assert numbers.values.name == name
