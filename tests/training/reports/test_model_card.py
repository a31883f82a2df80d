from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import polars as pl
import pytest

from models.bundle import Bundle
from training.evaluation.operations import measure_operations
from training.recipe import Recipe
from training.reports.model_card import Calibrated, _code, write_card
from training.reports.plain_words import in_words, series_rows, verdict_on_data
from training.train import Fitted

Trained = tuple[Recipe, Bundle, Fitted]


def rows_of(card: str, heading: str) -> list[list[str]]:
    """Cells of the rows of the first table under a heading."""
    section = card.partition(f"## {heading}\n\n")[2].partition("\n\n")[0]
    lines = section.splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.fixture(scope="module")
def card(real_trained: Trained) -> str:
    return real_trained[1].files["card.md"].decode()


def test_results_are_the_metrics_of_the_manifest(card: str, real_trained: Trained) -> None:
    metrics = real_trained[1].manifest.metrics
    results = {"this bundle": metrics["test"], **metrics["backtests"]}
    rows = rows_of(card, "Results on the test rows")
    assert len(rows) == 2 * len(results)
    for (name, of), nearest, served in zip(results.items(), rows[::2], rows[1::2], strict=True):
        assert nearest[:3] == [name, str(of["records"]), "nearest class"]
        assert served[:3] == ["", "", "as served"]
        for row, key in ((nearest, "nearest"), (served, "served")):
            scores = [of[key][each] for each in ("accuracy", "balanced_accuracy", "macro_f1")]
            assert [float(cell) for cell in row[3:6]] == pytest.approx(scores, abs=6e-4)
        extra = ["false_unknown_rate", "calibration_error", "excess_loss", "tightness"]
        extra += ["false_alarm_rate"]
        assert [float(cell) for cell in served[6:-1]] == pytest.approx(
            [of[each] for each in extra], abs=6e-4
        )
        events = of["operations"]["events"]
        assert served[-1] == f"{events['found']} of {events['total']}"


def test_the_card_opens_with_what_an_operator_would_see(card: str, real_trained: Trained) -> None:
    operations = real_trained[2].evaluation.operations
    opening = card.partition("\n## ")[0]
    assert opening.startswith(
        "# Model card: real\n\nOn the test rows, which it has not learned from:\n\n- Of 1,000 good "
    )
    for sentence in (*in_words(operations, _code), verdict_on_data(operations, _code)):
        assert sentence in opening
    header, _, *rows = [line for line in opening.splitlines() if line.startswith("|")]
    assert header.startswith("| `run` / `device` | good records |")
    assert len(rows) == len(series_rows(operations)) > 1
    for jargon in ("triplet", "embedding", "centroid", "F1", "radius", "loss"):
        assert jargon not in opening


def test_a_card_without_times_and_series_still_opens_with_false_alarms(
    real_trained: Trained,
) -> None:
    rows = real_trained[2].dataset.test
    bare = measure_operations(rows.labels, rows.labels, ("normal",) * 4, pl.DataFrame())
    evaluation = dataclasses.replace(real_trained[2].evaluation, operations=bare)
    opening = rewritten(real_trained, evaluation=evaluation).partition("\n## ")[0]
    assert "Of 1,000 good records 0 raise a false alarm" in opening
    assert "The recipe could name more columns: `time`" in opening
    assert "timeline.png" not in opening
    assert "episode" not in opening


def test_classes_are_listed_with_rows_radius_and_recall(card: str, real_trained: Trained) -> None:
    manifest = real_trained[1].manifest
    test = manifest.metrics["test"]
    rows = rows_of(card, "Classes")
    assert [row[0] for row in rows] == [f"`{known.name}`" for known in manifest.classes]
    for row, known in zip(rows, manifest.classes, strict=True):
        assert int(row[1]) == known.records
        assert int(row[2]) == manifest.calibration.records[known.name]
        assert float(row[4]) == pytest.approx(known.radius, abs=6e-5)
        assert float(row[5]) == pytest.approx(test["recall"][known.name], abs=6e-4)
        assert float(row[6]) == pytest.approx(test["false_unknown_by_class"][known.name], abs=6e-4)
    assert sum(int(row[3]) for row in rows) == test["records"]


def test_the_rates_in_words_are_those_of_the_manifest(card: str, real_trained: Trained) -> None:
    test = real_trained[1].manifest.metrics["test"]
    for words, key in (
        (r"on these test rows it was (\S+)%", "false_unknown_rate"),
        (r"Of good records (\S+)% raised an alarm", "false_alarm_rate"),
        (r"of faults (\S+)% were called good", "missed_fault_rate"),
    ):
        found = re.search(words, card)
        assert found, words
        assert float(found[1]) == pytest.approx(100 * test[key], abs=0.06)


def test_every_figure_the_card_shows_is_in_the_bundle(card: str, real_trained: Trained) -> None:
    shown = re.findall(r"!\[[^]]+\]\(([^)]+)\)", card)
    files = set(real_trained[1].files)
    assert len(shown) == 5
    assert set(shown) == {name for name in files if name.startswith("figures/")}


def test_every_column_that_is_no_field_is_listed_with_the_reason(
    card: str, real_trained: Trained
) -> None:
    dropped = real_trained[2].dataset.dropped
    assert dropped
    for name, reason in dropped.items():
        assert f"- `{name}`: {reason}\n" in card


def test_classes_with_too_few_calibration_rows_are_named(real_trained: Trained) -> None:
    recipe = real_trained[0].model_copy(update={"unknown_rate": 0.01})
    limits = rewritten(real_trained, recipe=recipe).partition("## Limits")[2]
    for name in ("normal", "bgp_clear", "bgp_clear_elsewhere", "port_flap"):
        assert f"`{name}` (20)" in limits


def rewritten(trained: Trained, **changes: Any) -> str:
    recipe, _, fitted = trained
    return write_card(
        changes.get("recipe", recipe),
        changes.get("dataset", fitted.dataset),
        fitted.rule,
        changes.get("evaluation", fitted.evaluation),
        {},
        Calibrated(fitted.calibration, fitted.held_out.labels),
        changes.get("choice", fitted.choice.note),
    )


def test_the_promised_rate_is_the_recipes(real_trained: Trained) -> None:
    recipe = real_trained[0].model_copy(update={"unknown_rate": 0.2})
    assert "at most 20% of the records" in rewritten(real_trained, recipe=recipe)


@pytest.mark.parametrize(("rate", "words"), [(0.005, "0.5%"), (0.015, "1.5%"), (0.01, "1%")])
def test_a_promise_of_a_fraction_of_a_percent_is_not_rounded_away(
    real_trained: Trained, rate: float, words: str
) -> None:
    recipe = real_trained[0].model_copy(update={"unknown_rate": rate})
    assert f"at most {words} of the" in rewritten(real_trained, recipe=recipe)


def test_how_many_calibration_rows_are_few_depends_on_the_promise(real_trained: Trained) -> None:
    # at 5 % a class needs 19 rows, and each class has 20
    recipe = real_trained[0]
    assert recipe.unknown_rate == 0.05
    assert "Too few calibration rows" not in rewritten(real_trained)
    strict = recipe.model_copy(update={"unknown_rate": 0.01})
    assert "Too few calibration rows" in rewritten(real_trained, recipe=strict)


def test_a_class_without_test_rows_has_dashes(real_trained: Trained) -> None:
    evaluation = real_trained[2].evaluation
    recall = {name: value for name, value in evaluation.recall.items() if name != "port_flap"}
    less = dataclasses.replace(evaluation, recall=recall, false_unknown_by_class=recall)
    card = rewritten(real_trained, evaluation=less)
    (line,) = [line for line in card.splitlines() if line.startswith("| `port_flap` |")]
    assert line.endswith("| - | - |")


def test_what_the_data_is_and_what_was_noted_is_told(real_trained: Trained) -> None:
    recipe = real_trained[0].model_copy(update={"about": "\nFrom a lab. Licence: none.\n"})
    dataset = dataclasses.replace(real_trained[2].dataset, notes=("mind the gap",))
    card = rewritten(real_trained, recipe=recipe, dataset=dataset)
    assert "\n\n## The model\n\nFrom a lab. Licence: none.\n\nIt tells good" in card
    assert "Notes:\n\n- mind the gap\n" in card


def test_settings_of_the_fit_are_told(real_trained: Trained, card: str) -> None:
    recipe = real_trained[0]
    assert "beta = 4, epsilon = 0.0001" in card
    assert f"batches of {recipe.fit.batch}, 8 epochs of 15; 2 perceptrons of hidden layers" in card
    assert "[32] to 4 dimensions each, gain 4, and the whitened fields beside them; seed 0" in card
    assert "Rows split by column `part`" in card


def test_the_card_says_that_raw_records_travel_with_the_model(
    card: str, real_trained: Trained
) -> None:
    assert "`reference.npz` holds the dev rows as raw records" in card
    dataset = real_trained[2].dataset
    dev = dataclasses.replace(dataset.dev, labels=np.zeros(2001, dtype=np.int64))
    many = rewritten(real_trained, dataset=dataclasses.replace(dataset, dev=dev))
    assert "`reference.npz` holds 2000 of the 2001 dev rows as raw records" in many


def test_the_card_holds_no_path_of_this_machine(card: str) -> None:
    assert not re.search(r"/(home|root|tmp|work|usr)/", card)


def test_a_name_from_a_table_cannot_break_the_card() -> None:
    assert _code("a|b`c\nd") == "`a\\|b'c d`"
