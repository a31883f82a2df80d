from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from models.bundle import Bundle
from models.model import Model
from models.reference import MOST
from training.dataset.dataset import Rows, load_dataset
from training.fitting import estimator
from training.fitting.cross import FOLDS, blocks_of
from training.fitting.estimator import SiameseClassifier
from training.fitting.fit import Epoch, fit
from training.recipe import Recipe, RecipeError
from training.train import Fitted, _reference, fit_and_test, join_training, train

Trained = tuple[Recipe, Bundle, Fitted]


def ignore(*_: object) -> None:
    """Report to nobody."""


def strings(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for key, each in value.items():
                yield key
                yield from strings(each)
        case list() | tuple():
            for each in value:
                yield from strings(each)


def test_what_was_trained_is_a_bundle_that_loads_and_serves(
    real_trained: Trained, tmp_path: Path
) -> None:
    recipe, bundle, fitted = real_trained
    bundle.write(tmp_path / "real")
    model = Model.load(tmp_path / "real")
    assert model.manifest == bundle.manifest
    assert model.manifest.name == recipe.name
    records = fitted.dataset.test.table.select(model.schema.names).to_dicts()
    verdicts = model.classify(records)
    unknown = np.mean([verdict.label == "unknown" for verdict in verdicts])
    assert unknown == pytest.approx(fitted.evaluation.false_unknown_rate)
    labels = fitted.dataset.test.table["label"].to_list()
    right = np.mean([v.label == label for v, label in zip(verdicts, labels, strict=True)])
    assert right == pytest.approx(fitted.evaluation.served.accuracy)


def test_each_example_is_a_real_record_of_its_class_and_gets_its_label(
    real_model: Model, real_trained: Trained
) -> None:
    names = [known.name for known in real_model.manifest.classes]
    assert [verdict.label for verdict in real_model.classify(real_model.examples)] == names
    table = pl.concat(
        [p.table for p in (real_trained[2].dataset.test, real_trained[2].dataset.dev)]
    )
    for name, example in zip(names, real_model.examples, strict=True):
        rows = table.filter(pl.col("label") == name).select(real_model.schema.names).to_dicts()
        assert example in rows


def test_the_manifest_tells_of_rows_classes_and_severities(real_trained: Trained) -> None:
    _, bundle, fitted = real_trained
    manifest = bundle.manifest
    assert [(c.name, c.good, c.severity, c.records) for c in manifest.classes] == [
        ("normal", True, "none", 40),
        ("bgp_clear", False, "critical", 40),
        ("bgp_clear_elsewhere", False, "major", 40),
        ("port_flap", False, "major", 40),
    ]
    assert manifest.training["rows"] == {"train": 160, "dev": 80, "test": 100}
    assert manifest.calibration.records == dict.fromkeys(fitted.dataset.classes, 20)
    assert manifest.calibration.unknown_rate == 0.05
    assert manifest.fields == fitted.dataset.schema.fields
    assert manifest.training["dropped"] == dict(fitted.dataset.dropped)
    assert manifest.training["recipe"]["fit"]["learning_rate"] == 0.02
    assert {"torch", "onnxruntime", "numpy"} <= set(manifest.training["libraries"])


def test_centroids_are_the_means_of_the_training_rows_as_onnxruntime_embeds_them(
    real_trained: Trained, real_model: Model
) -> None:
    rows = real_trained[2].dataset.train
    points = real_model.encoder.embed(rows.matrix)
    for c, known in enumerate(real_model.manifest.classes):
        mean = points[rows.labels == c].mean(axis=0)
        np.testing.assert_allclose(known.centroid, mean, atol=1e-6)


def test_what_is_served_is_the_estimator_to_the_last_digits_of_the_graph(
    real_trained: Trained,
) -> None:
    recipe, _, fitted = real_trained
    made = SiameseClassifier.of(recipe, fitted.dataset, ignore)
    matrix = fitted.dataset.test.matrix
    np.testing.assert_allclose(made.transform(matrix), fitted.encoder.embed(matrix), atol=1e-5)
    np.testing.assert_allclose(made.centroids_, fitted.rule.centroids, atol=1e-5)
    np.testing.assert_allclose(made.rule_.radii, fitted.rule.radii, atol=1e-5)
    assert made.rule_.temperature == pytest.approx(fitted.rule.temperature, rel=0.01)
    assert made.history_ == fitted.history


def test_what_operators_care_about_is_in_the_manifest(real_trained: Trained) -> None:
    metrics = real_trained[1].manifest.metrics
    for of in (metrics["test"], metrics["backtests"]["by time"]):
        operations = of["operations"]
        assert operations["missing"] == []
        assert operations["gap"] == 60
        assert operations["false_alarms"]["share"] == of["false_alarm_rate"]
        assert operations["events"]["total"] > 0
        assert operations["values"]["device"] > 1


def test_verdicts_of_the_operations_are_those_that_are_served(
    real_trained: Trained, real_model: Model
) -> None:
    rows = real_trained[2].dataset.test
    verdicts = real_model.classify(rows.table.select(real_model.schema.names).to_dicts())
    good = [verdict.good for verdict, label in zip(verdicts, rows.labels, strict=True) if not label]
    assert real_trained[2].evaluation.operations.false_alarms.alarms == good.count(False)


def test_without_a_time_there_is_no_timeline(small_recipe: Recipe) -> None:
    bundle, fitted = train(small_recipe, datetime(2026, 1, 2, tzinfo=UTC), ignore)
    assert fitted.evaluation.operations.missing == ("time", "series", "event")
    assert "figures/timeline.png" not in bundle.files
    assert "timeline" not in bundle.files["card.md"].decode()


def test_a_time_that_is_none_is_refused_before_the_fit(small_recipe: Recipe) -> None:
    fits: list[Epoch | None] = []
    recipe = small_recipe.model_copy(update={"time": "vendor"})
    with pytest.raises(RecipeError, match="'vendor' holds text that is no time"):
        fit_and_test(recipe, recipe.split, lambda epoch, _: fits.append(epoch))
    assert not fits


def test_a_backtest_that_cannot_be_made_is_refused_before_the_first_fit(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe]
) -> None:
    fits: list[Epoch | None] = []
    split = {"by": "group", "column": "no"}
    recipe = make_recipe(make_table(), backtests=[{"name": "wrong", "split": split}])
    with pytest.raises(RecipeError, match="backtest 'wrong': the table has no group column 'no'"):
        train(recipe, datetime(2026, 1, 2, tzinfo=UTC), lambda _, epoch, __: fits.append(epoch))
    assert not fits


def test_a_mapping_may_make_what_is_no_field_but_nothing_that_the_table_lacks(
    make_table: Callable[..., pl.DataFrame],
    make_recipe: Callable[..., Recipe],
    tmp_path: Path,
) -> None:
    table = make_table().rename({"latency_ms": "load", "drops_rate": "level"})
    table = table.select("load", "level", "part", "label", same=pl.col("load"))
    recipe = make_recipe(table)
    columns = {"good": ["load", "level", "same"], "wrong": ["laod", "level"], "few": ["level"]}
    for name, metrics in columns.items():
        (tmp_path / name).write_text(
            'name = "m"\nkey = ["device"]\ninterval = 5\n'
            f'[[fields]]\nname = "{{metric}}"\nmetric = {metrics}\n'
        )
    fits: list[Epoch | None] = []
    for name, words in (("wrong", "no field 'laod'; did you mean 'load'"), ("few", "needs a")):
        bad = recipe.model_copy(update={"mapping": tmp_path / name})
        with pytest.raises(RecipeError, match=words):
            train(bad, datetime(2026, 1, 2, tzinfo=UTC), lambda _, epoch, __: fits.append(epoch))
    assert not fits
    good = recipe.model_copy(update={"mapping": tmp_path / "good"})
    bundle, fitted = train(good, datetime(2026, 1, 2, tzinfo=UTC), ignore)
    assert "same" in fitted.dataset.dropped
    mapping = Model(bundle).mapping
    assert mapping is not None
    assert mapping.names == ("load", "level")


def test_training_leaves_torch_as_it_was(small_recipe: Recipe) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        torch.manual_seed(42)
        state = torch.get_rng_state()
        fit_and_test(small_recipe, small_recipe.split, ignore)
        assert torch.get_num_threads() == 3
        assert torch.equal(torch.get_rng_state(), state)
    finally:
        torch.set_num_threads(threads)


def test_the_bundle_holds_the_calibration_rows(real_model: Model, real_trained: Trained) -> None:
    dev = real_trained[2].dataset.dev
    assert real_model.reference is not None
    np.testing.assert_array_equal(real_model.reference.records, dev.matrix)
    np.testing.assert_array_equal(real_model.reference.labels, dev.labels)


def test_of_many_calibration_rows_a_sample_is_kept_in_order(real_trained: Trained) -> None:
    dev = real_trained[2].dataset.dev
    matrix = np.arange(3 * MOST, dtype=np.float32)[:, None]
    rows = dataclasses.replace(dev, matrix=matrix, labels=np.arange(3 * MOST) // MOST)
    kept = _reference(rows, seed=0)
    places = kept.records[:, 0].astype(int)
    assert len(places) == len(set(places)) == MOST
    assert (np.diff(places) > 0).all()
    np.testing.assert_array_equal(kept.labels, rows.labels[places])
    assert np.bincount(kept.labels).min() > MOST / 4
    assert _reference(rows, seed=0).to_bytes() == kept.to_bytes()
    assert _reference(rows, seed=1).to_bytes() != kept.to_bytes()


def test_backtests_land_in_the_metrics_and_in_the_card(real_trained: Trained) -> None:
    _, bundle, fitted = real_trained
    metrics = bundle.manifest.metrics
    assert metrics["test"] == fitted.evaluation.as_json()
    assert list(metrics["backtests"]) == ["by time"]
    assert metrics["backtests"]["by time"]["records"] > 0
    assert metrics["backtests"]["by time"] != metrics["test"]
    assert "| by time |" in bundle.files["card.md"].decode()


def test_nothing_in_the_manifest_is_an_absolute_path_or_of_this_machine(
    real_trained: Trained, tmp_path: Path
) -> None:
    recipe, bundle, _ = real_trained
    document = json.loads(bundle.manifest.model_dump_json())
    assert document["training"]["recipe"]["table"] == "real.parquet"
    for text in strings(document):
        assert not text.startswith(("/", "~"))
        assert str(recipe.table.parent) not in text
        assert str(tmp_path.parent) not in text


def test_every_table_is_named_without_its_folder(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    table = make_table()
    table.select("part").write_parquet(tmp_path / "s.parquet")
    make_table(60, seed=4).drop("part").write_parquet(tmp_path / "later.parquet")
    split = {"by": "column", "column": "part", "table": tmp_path / "s.parquet"}
    recipe = make_recipe(
        table.drop("part"),
        split=split,
        test_table=tmp_path / "later.parquet",
        backtests=[{"name": "again", "split": split}],
    )
    dataset = load_dataset(recipe)
    said = recipe.as_recorded()
    assert said["split"]["table"] == said["backtests"][0]["split"]["table"] == "s.parquet"
    assert said["test_table"] == "later.parquet"
    assert len(dataset.test.labels) == 60
    assert not [text for text in strings(said) if "/" in text]


def test_a_second_run_gives_the_same_version_whenever_it_is_made(real_trained: Trained) -> None:
    recipe, bundle, _ = real_trained
    reported: list[tuple[str, Epoch | None]] = []
    again, _ = train(
        recipe,
        datetime(2031, 5, 6, tzinfo=UTC),
        lambda name, epoch, _: reported.append((name, epoch)),
    )
    assert again.manifest.created != bundle.manifest.created
    assert again.manifest.version == bundle.manifest.version
    assert again.files == bundle.files
    assert {name for name, _ in reported} == {"real", "by time"}
    assert [e.number for name, e in reported if name == "real" and e][:3] == [1, 2, 3]


def test_test_rows_decide_nothing_before_the_evaluation(
    real_table: pl.DataFrame, real_recipe: Callable[..., Recipe], real_trained: Trained
) -> None:
    _, _, fitted = real_trained
    is_test = real_table["part"] == "test"
    test = real_table.filter(is_test)
    shuffled = test["label"].sample(fraction=1, shuffle=True, seed=1)
    spoiled = test.with_columns(shuffled, pl.col("rel_active-routes-count") * -1e6)
    recipe = real_recipe(pl.concat([real_table.filter(~is_test), spoiled]))
    other = fit_and_test(recipe, recipe.split, ignore)
    assert other.evaluation != fitted.evaluation
    assert other.graph == fitted.graph
    assert other.history == fitted.history
    assert other.rule.temperature == fitted.rule.temperature
    np.testing.assert_array_equal(other.rule.radii, fitted.rule.radii)
    np.testing.assert_array_equal(other.rule.centroids, fitted.rule.centroids)


def test_two_classes_of_every_kind_of_field_make_a_bundle(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe]
) -> None:
    table = make_table(
        note=["x", None, "y", "x", None, "x", "once"] + ["x", "y", None, ""] * 58 + ["y"]
    )
    table = table.filter(pl.col("label") != "lossy")
    bundle, _ = train(make_recipe(table), datetime(2026, 1, 2, tzinfo=UTC), ignore)
    model = Model(bundle)
    assert [known.name for known in bundle.manifest.classes] == ["good", "slow"]
    assert len(model.classify(model.examples)) == 2
    assert {field.kind for field in model.schema.fields} == {"gauge", "rate", "boolean", "category"}


def test_a_bundle_loads_whatever_its_fields_were_in_the_table(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe]
) -> None:
    seconds = pl.Series([7 * i % 50 for i in range(240)])
    columns = {
        "truth": pl.Series([i % 5 < 2 for i in range(240)]),
        "decimal": seconds.cast(pl.Decimal(10, 2)),
        "moment": (seconds * 2).cast(pl.Duration("ms")),
    }
    recipe = make_recipe(
        make_table(**columns),
        keep=["moment"],
        fields={"truth": {"kind": "category"}},
        fit={"epochs": 1, "steps": 2, "batch": 48},
    )
    bundle, _ = train(recipe, datetime(2026, 1, 2, tzinfo=UTC), ignore)
    assert set(columns) <= set(Model(bundle).schema.names)


def test_with_groups_the_last_fit_takes_dev_rows_and_fits_without_them_calibrate(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe]
) -> None:
    recipe = make_recipe(make_table(), series=["device"], fault_share=0.1)
    bundle, fitted = train(recipe, datetime(2026, 1, 2, tzinfo=UTC), lambda *_: None)
    manifest, known = bundle.manifest, len(fitted.dataset.known)
    assert known == len(fitted.dataset.train) + len(fitted.dataset.dev)
    assert sum(class_.records for class_ in manifest.classes) == known
    assert sum(manifest.calibration.records.values()) == known
    assert "4 fits, each without some groups" in bundle.files["card.md"].decode()
    shares = {class_.name: class_.share for class_ in manifest.classes}
    assert shares["good"] == pytest.approx(0.9)
    assert "prior" not in manifest.training  # the operator's word is not weighed
    assert sum(filter(None, shares.values())) == pytest.approx(1)
    model = Model(bundle)
    np.testing.assert_allclose(model.rule.log_prior, fitted.rule.log_prior)  # type: ignore[arg-type]


def test_groups_that_hold_a_class_each_cannot_calibrate_and_blocks_do(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe]
) -> None:
    """As where every scenario is a capture of its own."""
    table = make_table()
    captures = {"good": "c0", "slow": "c1", "lossy": "c2"}
    capture = pl.col("label").replace(captures)
    late = (pl.col("label") == "lossy") & (pl.int_range(len(table)) % 2 == 0)
    table = table.with_columns(capture=pl.when(late).then(pl.lit("c3")).otherwise(capture))
    recipe = make_recipe(table, series=["capture"])
    bundle, _ = train(recipe, datetime(2026, 1, 2, tzinfo=UTC), ignore)
    assert sum(bundle.manifest.calibration.records.values()) == 180
    assert "each without a quarter" in bundle.files["card.md"].decode()


def test_faults_alone_may_have_events(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe]
) -> None:
    """As most labelled tables are: good traffic belongs to no event."""
    number = pl.int_range(pl.len()) // 10
    event = pl.when(pl.col("label") != "good").then(number)
    recipe = make_recipe(make_table().with_columns(event_id=event), event=["event_id"])
    bundle, _ = train(recipe, datetime(2026, 1, 2, tzinfo=UTC), ignore)
    assert sum(bundle.manifest.calibration.records.values()) == 180
    assert "4 fits, each without some events" in bundle.files["card.md"].decode()


def test_a_class_of_a_single_event_is_measured_by_blocks(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe]
) -> None:
    number = pl.when(pl.col("label") == "slow").then(pl.int_range(pl.len()) // 10).otherwise(-1)
    event = pl.when(pl.col("label") != "good").then(number)
    recipe = make_recipe(
        make_table().with_columns(event_id=event), event=["event_id"], calibration="auto"
    )
    bundle, _ = train(recipe, datetime(2026, 1, 2, tzinfo=UTC), ignore)
    assert sum(bundle.manifest.calibration.records.values()) == 180
    assert "each without a quarter" in bundle.files["card.md"].decode()


def test_a_class_on_one_device_leaves_the_others_measured(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe]
) -> None:
    table = make_table().filter((pl.col("label") != "slow") | (pl.col("device") == "r1"))
    recipe = make_recipe(table, series=["device"])
    bundle, _ = train(recipe, datetime(2026, 1, 2, tzinfo=UTC), ignore)
    assert bundle.manifest.calibration.records["slow"] == 0
    assert bundle.manifest.calibration.records["good"] > 50


def test_a_field_that_one_device_alone_has_is_no_hindrance(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe]
) -> None:
    table = make_table().with_columns(
        special=pl.when(pl.col("device") == "r1").then(pl.col("latency_ms") * 3)
    )
    recipe = make_recipe(table, series=["device"], encoder={"linear": True, "members": 1})
    bundle, fitted = train(recipe, datetime(2026, 1, 2, tzinfo=UTC), ignore)
    assert "special" in fitted.dataset.schema.names
    assert np.isfinite(fitted.held_out.distances).all()
    assert len(Model(bundle).examples) == 3


def test_neighbours_are_those_in_time_however_it_is_written(
    make_table: Callable[..., pl.DataFrame],
    make_recipe: Callable[..., Recipe],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    days = [f"{1 + i % 28:02}.{1 + i // 28:02}.2026 00:00" for i in range(240)]
    seen: list[list[int]] = []

    def spy(labels: Any, order: Any) -> Any:
        seen.append(order.tolist())
        return blocks_of(labels, order)

    monkeypatch.setattr(estimator, "blocks_of", spy)
    train(make_recipe(make_table(time=days), time="time"), datetime(2026, 1, 2, tzinfo=UTC), ignore)
    assert seen == [[*range(1, 181)]]


@pytest.mark.parametrize("time", [None, "time"])
def test_without_groups_quarters_of_neighbouring_rows_are_left_out_instead(
    make_table: Callable[..., pl.DataFrame],
    make_recipe: Callable[..., Recipe],
    time: str | None,
) -> None:
    recipe = make_recipe(make_table(), calibration="auto", time=time)
    bundle, fitted = train(recipe, datetime(2026, 1, 2, tzinfo=UTC), ignore)
    manifest, known = bundle.manifest, len(fitted.dataset.known)
    assert sum(class_.records for class_ in manifest.classes) == known
    assert sum(manifest.calibration.records.values()) == known
    card = bundle.files["card.md"].decode()
    assert "quarter of each class's train and dev rows" in card
    note = manifest.training["prior"]
    assert note.startswith("the logarithm of a class's share counts")
    assert note in card


def test_bins_that_were_chosen_are_told_of(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe]
) -> None:
    """Of a table whose classes are stripes along a number, finer than 8 bins."""
    value = np.random.default_rng(0).uniform(0, 1, len(table := make_table(600)))
    stripe = pl.Series(["good", "slow"]).gather((value * 20).astype(int) % 2)
    table = table.select("part", label=stripe, value=value)
    shape = {"members": 1, "hidden": [32], "trees": "no"}
    fit = {"epochs": 8, "steps": 30, "batch": 128}
    recipe = make_recipe(table, calibration="auto", encoder=shape, fit=fit)
    bundle, fitted = train(recipe, datetime(2026, 1, 2, tzinfo=UTC), ignore)
    note = bundle.manifest.training["bins"]
    assert note.startswith("a number has 32 bins at most")
    assert note in bundle.files["card.md"].decode()
    assert note in fitted.choices


def test_cross_calibration_needs_groups(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe]
) -> None:
    recipe = make_recipe(make_table(), calibration="cross")
    with pytest.raises(RecipeError, match="at least 4 groups"):
        train(recipe, datetime(2026, 1, 2, tzinfo=UTC), lambda *_: None)


def test_a_bundle_of_a_sample_says_so_and_knows_how_common_its_classes_are(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe]
) -> None:
    table = make_table(1200)
    is_rare = (pl.col("label") != "good") & (pl.col("time") % 15 != 1)
    table = table.with_columns(label=pl.when(is_rare).then(pl.lit("good")).otherwise("label"))
    recipe = make_recipe(table, rows=300, prior=True)
    bundle, _ = train(recipe, datetime(2026, 1, 2, tzinfo=UTC), ignore)
    sample = bundle.manifest.training["sample"]
    assert (sample["rows"], sample["of"]) == (300, 1200)
    taken, of = sample["labels"]["slow"]
    assert taken / 300 > 1.5 * of / 1200
    share = {known.name: known.share for known in bundle.manifest.classes}["slow"]
    assert share == pytest.approx(of / 1200, rel=0.3)  # of the train rows
    assert "300 of 1,200 rows" in bundle.files["card.md"].decode()


def test_processes_that_assist_fit_what_the_first_one_fits_in_the_same_order(
    real_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    split = {"by": "time", "column": "time", "within": "label"}
    recipe = real_recipe(
        backtests=[{"name": "by time", "split": split}],
        calibration="cross",
        encoder={"bins": 8},
        fit={"epochs": 1, "steps": 2, "batch": 40},
    )
    fitted: list[bytes] = []
    for module in ("estimator", "cross"):

        def spy(schema: Any, rows: Rows, *arguments: Any) -> Any:
            fitted.append(rows.matrix.tobytes())
            return fit(schema, rows, *arguments)

        monkeypatch.setattr(f"training.fitting.{module}.fit", spy)
    train(recipe, datetime(2026, 1, 2, tzinfo=UTC), ignore)
    by_the_first, fitted[:] = [*fitted], []
    join_training(recipe)
    assert len(fitted) == 2 * (FOLDS + 1)
    assert fitted == by_the_first
