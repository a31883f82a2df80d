from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from models import cli
from training.dataset.dataset import Rows, load_dataset
from training.evaluation.few_shot import few_shot
from training.fitting.estimator import SiameseClassifier
from training.fitting.fit import fit
from training.recipe import FewShot, Recipe, RecipeError

Make = Callable[..., Recipe]


def quiet(*_: object) -> None:
    """Report nothing."""


def without(rows: Rows, label: int) -> Rows:
    """The rows of all other classes; the label has to be the last."""
    kept = rows.labels != label
    return Rows(rows.matrix[kept], rows.labels[kept])


def plan(*hold_out: str, shots: tuple[int, ...] = (1,), draws: int = 3) -> FewShot:
    return FewShot(hold_out=hold_out, shots=shots, draws=draws)


def test_every_space_answers_for_every_number_of_shots_with_shares(real_recipe: Make) -> None:
    result = few_shot(real_recipe(), plan("port_flap", shots=(1, 5)), quiet)
    assert set(result) == {"embedding", "raw", "lda"}
    for by_shots in result.values():
        assert set(by_shots) == {1, 5}
        for draws in by_shots.values():
            assert draws.events_named is not None
            for mean, deviation in (
                *(draws.accuracy, draws.macro_f1, draws.held_out_recall),
                *(draws.false_alarms, draws.events_named),
            ):
                assert 0 <= mean <= 1
                assert 0 <= deviation <= 0.5


def test_false_alarms_and_events_are_those_of_a_record_by_record_count(real_recipe: Make) -> None:
    recipe = real_recipe()
    (draws,) = few_shot(recipe, plan("port_flap"), quiet)["embedding"].values()
    assert draws.events_named is not None
    test = load_dataset(recipe).test
    events = test.table.filter(label="port_flap").unique(["run", "event_index", "device"])
    # every draw names a whole number of the events, counted for each device
    share = draws.events_named[0] * 3 * len(events)
    assert share == pytest.approx(round(share))
    assert 0 < draws.events_named[0] <= 1
    good = int((test.labels == 0).sum())
    alarms = draws.false_alarms[0] * 3 * good
    assert alarms == pytest.approx(round(alarms))


def test_without_events_in_the_recipe_none_are_counted(real_recipe: Make) -> None:
    result = few_shot(real_recipe(event=()), plan("port_flap"), quiet)
    assert all(draws.events_named is None for by in result.values() for draws in by.values())


def test_with_every_record_as_support_raw_fields_are_a_nearest_centroid_classifier(
    real_recipe: Make,
) -> None:
    recipe = real_recipe()
    dataset = load_dataset(recipe, held_out=("port_flap",))
    held = dataset.classes.index("port_flap")
    train, dev, test = dataset.train, dataset.dev, dataset.test
    seen = train.labels != held
    mean, deviation = train.matrix[seen].mean(axis=0), train.matrix[seen].std(axis=0)
    deviation[deviation == 0] = 1
    deviation[deviation == 0] = 1
    points = [(part.matrix - mean) / deviation for part in (train, dev, test)]
    support = np.concatenate([points[0][train.labels == held], points[1][dev.labels == held]])
    centroids = [
        support.mean(axis=0) if c == held else points[0][train.labels == c].mean(axis=0)
        for c in range(len(dataset.classes))
    ]
    nearest = [int(np.argmin([((p - c) ** 2).sum() for c in centroids])) for p in points[2]]
    result = few_shot(recipe, plan("port_flap", shots=(len(support),), draws=1), quiet)
    draws = result["raw"][len(support)]
    right = np.array(nearest) == test.labels
    assert draws.accuracy[0] == pytest.approx(right.mean())
    assert draws.held_out_recall[0] == pytest.approx(right[test.labels == held].mean())
    assert draws.accuracy[1] == draws.held_out_recall[1] == 0


def test_with_every_record_as_support_the_embedding_is_the_estimator_after_enrolment(
    real_recipe: Make,
) -> None:
    recipe = real_recipe()
    dataset = load_dataset(recipe, held_out=("port_flap",))
    held = dataset.classes.index("port_flap")
    train, dev = without(dataset.train, held), without(dataset.dev, held)
    seen = dataclasses.replace(dataset, train=train, dev=dev)
    support = np.concatenate(
        [part.matrix[part.labels == held] for part in (dataset.train, dataset.dev)]
    )
    made = SiameseClassifier.of(recipe, seen, quiet).enrol(support, held)
    right = made.predict(dataset.test.matrix) == dataset.test.labels
    result = few_shot(recipe, plan("port_flap", shots=(len(support),), draws=1), quiet)
    draws = result["embedding"][len(support)]
    assert draws.accuracy[0] == pytest.approx(right.mean())
    assert draws.held_out_recall[0] == pytest.approx(right[dataset.test.labels == held].mean())


def test_records_of_the_class_held_out_do_not_reach_the_fit(
    real_recipe: Make, real_table: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits: list[bytes] = []

    def spy(*arguments: object) -> object:
        encoder, history = fit(*arguments)  # type: ignore[arg-type]
        fits.append(b"".join(v.numpy().tobytes() for v in encoder.state_dict().values()))
        return encoder, history

    monkeypatch.setattr("training.fitting.estimator.fit", spy)
    held = pl.col("label") == "port_flap"
    changed = real_table.with_columns(
        pl.when(held).then(pl.col(pl.Float64) * 7 + 1).otherwise(pl.col(pl.Float64))
    )
    for table in (real_table, changed):
        few_shot(real_recipe(table), plan("port_flap"), quiet)
    assert fits[0] == fits[1]


def test_the_same_seed_draws_the_same_records(real_recipe: Make) -> None:
    first, second = (few_shot(real_recipe(), plan("port_flap"), quiet) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        (plan("fire"), "'fire' cannot be held out; the fault classes are bgp_clear"),
        (plan("normal"), "'normal', cannot be held out"),
        (plan("port_flap", shots=(1, 500)), "'port_flap' has 60 train and dev rows, 500 are asked"),
        (plan("bgp_clear", "bgp_clear_elsewhere", "port_flap"), "hold out fewer"),
    ],
)
def test_what_cannot_be_held_out_is_refused(
    real_recipe: Make, asked: FewShot, complaint: str
) -> None:
    with pytest.raises(RecipeError, match=re.escape(complaint)):
        few_shot(real_recipe(), asked, quiet)


def test_a_class_without_a_test_row_is_refused_before_the_fit(
    real_recipe: Make, real_table: pl.DataFrame
) -> None:
    rest = real_table.filter((pl.col("label") != "port_flap") | (pl.col("part") != "test"))
    with pytest.raises(RecipeError, match="'port_flap' has no test row"):
        few_shot(real_recipe(rest), plan("port_flap"), quiet)


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        (["--shots", "one"], "shots.0: "),
        (["--shots", "0"], "shots.0: "),
        (["--split-column", "nowhere"], "no split column 'nowhere'"),
        (["--hold-out", "fire"], "'fire' cannot be held out"),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    option: list[str],
    complaint: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    recipe = Path(__file__).parents[3] / "training/iosxr.toml"
    asked = ["evaluate", "--recipe", str(recipe), "--hold-out", "port_flap", *option]
    monkeypatch.setattr(sys, "argv", ["faultcube", *asked])
    with pytest.raises(SystemExit) as end:
        cli.main()
    told = capfd.readouterr().err
    assert end.value.code == 2
    assert told.startswith("faultcube: ")
    assert told.count("\n") == 1
    assert complaint in told


def test_a_class_of_few_rows_is_no_class_to_fit_and_the_results_hold_beside_it(
    real_recipe: Make, real_table: pl.DataFrame
) -> None:
    rare = pl.when(pl.int_range(pl.len()) < 3).then(pl.lit("rare")).otherwise("label")
    few = pl.when(pl.col("label") == "bgp_clear").then(rare.over("label")).otherwise("label")
    recipe = real_recipe(real_table.with_columns(label=few))
    assert load_dataset(recipe).carried == ("rare",)
    result = few_shot(recipe, plan("port_flap"), quiet)
    assert all(0 < draws[1].macro_f1[0] < 1 for draws in result.values())
    every = plan("bgp_clear", "bgp_clear_elsewhere", "port_flap")
    with pytest.raises(RecipeError, match="a fault class must be left to train on"):
        few_shot(recipe, every, quiet)
