from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydantic
import pytest

from training.recipe import Reading, Recipe, RecipeError

SHIPPED = Path(__file__).parents[2] / "training/iosxr.toml"
WHOLE = """
name = "small"
table = "sub/table.csv"
test_table = "later.csv"
label = "kind"
good = "fine"

[split]
by = "column"
column = "part"
table = "parts.csv"

[[backtests]]
name = "other"
[backtests.split]
by = "column"
column = "part"
table = "../other.csv"

[encoder]
dimensions = 8
gain = 2.0

[fit]
epochs = 7
"""
OPTIONS: dict[str, Any] = {
    "name": "small",
    "table": Path("t.csv"),
    "label": "kind",
    "good": "fine",
    "split": {"by": "random"},
}


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def to_file(text: str) -> Path:
        path = tmp_path / "recipe.toml"
        path.write_text(text)
        return path

    return to_file


def test_paths_in_the_file_are_relative_to_the_file(write: Callable[[str], Path]) -> None:
    path = write(WHOLE)
    recipe = Recipe.read(path, {})
    assert recipe.table == path.parent / "sub/table.csv"
    assert recipe.test_table == path.parent / "later.csv"
    assert recipe.split.table == path.parent / "parts.csv"
    assert recipe.backtests[0].split.table == path.parent / "../other.csv"


def test_an_absolute_path_in_the_file_stays_as_it_is(write: Callable[[str], Path]) -> None:
    path = write(WHOLE.replace("sub/table.csv", "/data/table.csv"))
    assert Recipe.read(path, {}).table == Path("/data/table.csv")


def test_options_win_over_the_file_and_leave_the_rest(write: Callable[[str], Path]) -> None:
    options = {"table": Path("mine.csv"), "good": "ok", "encoder": {"dimensions": 4}}
    recipe = Recipe.read(write(WHOLE), options)
    assert (recipe.table, recipe.good, recipe.encoder.dimensions) == (Path("mine.csv"), "ok", 4)
    assert (recipe.label, recipe.encoder.gain, recipe.fit.epochs) == ("kind", 2.0, 7)


def test_a_split_given_as_an_option_replaces_that_of_the_file(
    write: Callable[[str], Path],
) -> None:
    split = Recipe.read(write(WHOLE), {"split": {"by": "group", "column": "device"}}).split
    assert (split.by, split.column, split.table) == ("group", "device", None)


@pytest.mark.parametrize(
    ("left_out", "hint"),
    [
        ("table", "--recipe FILE"),
        ("label", "--label COLUMN"),
        ("good", "--good VALUE"),
        ("split", "--split-column, --split-time, --split-group, --split-random"),
        ("name", "--name"),
    ],
)
def test_what_is_missing_is_asked_for_by_its_option_in_one_line(left_out: str, hint: str) -> None:
    with pytest.raises(RecipeError) as refusal:
        Recipe.read(None, {key: value for key, value in OPTIONS.items() if key != left_out})
    assert hint in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_recipe_of_nothing_is_first_asked_for_its_table() -> None:
    with pytest.raises(RecipeError, match="give the table's path"):
        Recipe.read(None, {})


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("colour = 1", "colour"),
        ("[fit]\nepoch = 3", "fit.epoch"),
        ("[encoder]\nn = 3", "encoder.n"),
    ],
)
def test_an_unknown_key_is_refused_by_its_place(
    write: Callable[[str], Path], line: str, place: str
) -> None:
    with pytest.raises(RecipeError, match=rf"^{place}: "):
        Recipe.read(write(line), OPTIONS)


def test_a_beta_below_n_is_refused_with_both_numbers() -> None:
    with pytest.raises(RecipeError, match="beta = 7 is less than N = 8"):
        Recipe.read(None, OPTIONS | {"encoder": {"dimensions": 8}, "fit": {"beta": 7.0}})


def test_a_beta_of_exactly_n_is_taken() -> None:
    options = OPTIONS | {"encoder": {"dimensions": 8}, "fit": {"beta": 8.0}}
    assert Recipe.read(None, options).fit.beta == 8


@pytest.mark.parametrize(
    "split",
    [
        {"by": "column"},
        {"by": "time"},
        {"by": "group"},
        {"by": "random", "column": "device"},
        {"by": "random", "shares": (0.6, 0.2, 0.3)},
        {"by": "random", "shares": (0.0, 0.5, 0.5)},
        {"by": "random", "shares": (0.5, 0.0, 0.5)},
        {"by": "random", "shares": (1.2, 0.3, -0.5)},
        {"by": "random", "shares": (0.5, 0.5)},
        {"by": "luck"},
    ],
)
def test_an_impossible_split_is_refused_in_one_line(split: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=r"^split\S*: [^\n]+$"):
        Recipe.read(None, OPTIONS | {"split": split})


@pytest.mark.parametrize(
    "part",
    [
        {"fit": {"epsilon": 0.0}},
        {"fit": {"learning_rate": 0.0}},
        {"fit": {"epochs": 0}},
        {"fit": {"beta": float("nan")}},
        {"encoder": {"dimensions": 1}},
        {"encoder": {"gain": 0.0}},
        {"encoder": {"hidden": [0]}},
        {"unknown_rate": 0.0},
        {"unknown_rate": 0.5},
        {"name": "a/b"},
        {"name": ""},
        {"severity": {"slow": "none"}},
        {"roles": {"slow": {"lasting": "perhaps"}}},
        {"fields": {"latency": {"kind": "colour"}}},
    ],
)
def test_a_setting_out_of_range_is_refused_by_its_place(part: dict[str, Any]) -> None:
    (place,) = part
    with pytest.raises(RecipeError, match=rf"^{place}[^\n]*: [^\n]+$"):
        Recipe.read(None, OPTIONS | part)


@pytest.mark.parametrize(
    "text",
    ["[[", "name = ", "= 3", "\x00"],
)
def test_a_file_that_is_no_toml_is_refused_by_its_name(
    write: Callable[[str], Path], text: str
) -> None:
    with pytest.raises(RecipeError, match=r"recipe\.toml cannot be read"):
        Recipe.read(write(text), OPTIONS)


@pytest.mark.parametrize(
    "text",
    [
        "table = 3",
        "test_table = 3",
        "split = 'table'",
        "split = 3",
        "backtests = 3",
        "backtests = ['other']",
        "backtests = {name = 'other'}",
        "fields = 3",
        "fit = 'fast'",
    ],
)
def test_a_key_of_the_wrong_type_is_refused_by_its_name(
    write: Callable[[str], Path], text: str
) -> None:
    options = {key: value for key, value in OPTIONS.items() if not text.startswith(key)}
    with pytest.raises(RecipeError, match=rf"^{text.partition(' ')[0]}"):
        Recipe.read(write(text), options)


def test_bytes_that_are_no_text_and_a_missing_file_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match=r"recipe\.toml cannot be read"):
        Recipe.read(path, OPTIONS)
    with pytest.raises(RecipeError, match=r"none\.toml cannot be read"):
        Recipe.read(tmp_path / "none.toml", OPTIONS)
    with pytest.raises(RecipeError, match="cannot be read"):
        Recipe.read(tmp_path, OPTIONS)


def test_the_shipped_recipe_parses_and_points_to_files_that_are_there() -> None:
    recipe = Recipe.read(SHIPPED, {})
    assert recipe.name == "iosxr"
    assert recipe.table.is_file()
    assert recipe.split.table is not None
    assert recipe.split.table.is_file()
    assert all(each.split.table == recipe.split.table for each in recipe.backtests)


def test_a_recipe_says_itself_back_unchanged(write: Callable[[str], Path]) -> None:
    recipe = Recipe.read(write(WHOLE), {})
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


@pytest.mark.parametrize("fit", [{"seed": -1}, {"seed": 2**63}, {"beta": float("inf")}])
def test_settings_that_torch_would_stumble_over_are_refused(fit: dict[str, float]) -> None:
    content = {"name": "x", "table": "t", "label": "l", "good": "g", "split": {"by": "random"}}
    with pytest.raises(RecipeError, match=f"fit.{next(iter(fit))}: "):
        Recipe.read(None, content | {"fit": fit})


def test_a_single_column_may_name_series_or_event_without_a_list() -> None:
    recipe = Recipe.checked(
        OPTIONS | {"time": "at", "series": "router", "event": ["run", "number"]}
    )
    assert (recipe.series, recipe.event) == (("router",), ("run", "number"))
    assert recipe.context == ("router", "at", "run", "number")


def test_a_tab_may_be_called_by_its_name() -> None:
    assert {Reading(separator=name).separator for name in ("tab", r"\t", "\t")} == {"\t"}
    assert Reading(encoding="UTF8").encoding == "utf-8"


def test_families_in_a_recipe_are_refused_instead_of_ignored() -> None:
    with pytest.raises(RecipeError, match="pool says which to pool"):
        Recipe.checked(OPTIONS | {"encoder": {"families": [["load_1", "load_2"]]}})


@pytest.mark.parametrize(
    ("roles", "why"),
    [
        ({"normal": {"lasting": False}}, "good traffic"),
        ({"slow": {"echo_of": "normal"}}, "good traffic"),
        ({"far": {"echo_of": "slow"}, "slow": {"echo_of": "down"}}, "slow is an echo itself"),
    ],
)
def test_a_role_that_no_fault_can_have_is_refused(roles: dict[str, Any], why: str) -> None:
    with pytest.raises(RecipeError, match=why):
        Recipe.read(None, OPTIONS | {"good": "normal", "roles": roles})


def test_a_recipe_without_roles_is_recorded_as_it_was_before_there_were_any() -> None:
    recipe = Recipe.read(None, OPTIONS)
    assert "roles" not in recipe.as_recorded()
    roles = {"slow": {"lasting": False}, "far": {"echo_of": "slow"}, "cut": {"echo_of": "cut"}}
    assert Recipe.read(None, OPTIONS | {"roles": roles}).as_recorded()["roles"]["far"] == {
        "echo_of": "slow",
        "lasting": True,
    }


def test_a_recipe_of_before_trees_could_be_boosted_means_random_ones() -> None:
    recipe = Recipe.model_validate({**OPTIONS, "encoder": {"trees": "yes"}})
    assert recipe.encoder.trees == "random"
    with pytest.raises(pydantic.ValidationError, match=r"should be 'auto', 'random', 'boosted' or"):
        Recipe.model_validate({**OPTIONS, "encoder": {"trees": "forest"}})
