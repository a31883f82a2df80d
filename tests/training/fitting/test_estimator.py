from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.impute import SimpleImputer
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from models.schema import Field, Schema
from models.support import support_radius
from training.dataset.dataset import Dataset, load_dataset
from training.fitting.calibration import HeldOut, Space, decision_rule
from training.fitting.cross import FOLDS
from training.fitting.encoder import Encoder, in_blocks
from training.fitting.estimator import SiameseClassifier, one_thread
from training.fitting.fit import Epoch, fit
from training.fitting.prior import shares_of
from training.recipe import EncoderRecipe, FitRecipe, Recipe, RecipeError

SMALL: dict[str, Any] = {
    "dimensions": 4,
    "hidden": (16,),
    "epochs": 3,
    "steps": 8,
    "batch": 64,
    "learning_rate": 0.03,
}
Array = np.ndarray[Any, np.dtype[Any]]


@pytest.fixture(scope="module")
def real(real_recipe: Callable[..., Recipe]) -> Dataset:
    return load_dataset(real_recipe())


def named(dataset: Dataset, part: str) -> tuple[Array, Array]:
    """Records of a part, and the names of their classes."""
    rows = getattr(dataset, part)
    return rows.matrix, np.array(dataset.classes)[rows.labels]


@pytest.fixture(scope="module")
def fitted_once(real: Dataset) -> SiameseClassifier:
    made = SiameseClassifier(**SMALL | {"epochs": 6}, unknown_rate=0.05, schema=real.schema)
    return made.fit(*named(real, "train"), dev=named(real, "dev"))


@pytest.fixture
def fitted(fitted_once: SiameseClassifier) -> SiameseClassifier:
    """A classifier of a test's own, to enrol classes in."""
    copied: SiameseClassifier = pickle.loads(pickle.dumps(fitted_once))
    return copied


@pytest.fixture(scope="module")
def blobs() -> tuple[Array, Array]:
    """Ninety records of three numbered classes, of very different units, some values missing."""
    random = np.random.default_rng(0)
    y = np.arange(90) % 3
    x = np.stack([y + random.normal(0, 0.2, 90), 1e6 * (y == 1) + random.normal(0, 1e5, 90)], 1)
    x[::11, 1] = np.nan
    return x, y


@parametrize_with_checks([SiameseClassifier(**SMALL)])  # type: ignore[untyped-decorator]
def test_what_scikit_learn_asks_of_an_estimator_holds(estimator: Any, check: Any) -> None:
    check(estimator)


def test_the_constructor_takes_what_recipes_hold_under_the_same_names_and_defaults() -> None:
    parts = {**EncoderRecipe.model_fields, **FitRecipe.model_fields}
    expected = {name: field.default for name, field in parts.items()}
    expected["random_state"] = expected.pop("seed")
    expected |= {
        "unknown_rate": Recipe.model_fields["unknown_rate"].default,
        "dev_share": 0.15,
        "prior": Recipe.model_fields["prior"].default,
        "schema": None,
    }
    signature = inspect.signature(SiameseClassifier).parameters.values()
    assert {each.name: each.default for each in signature} == expected
    assert all(each.kind is inspect.Parameter.KEYWORD_ONLY for each in signature)
    assert SiameseClassifier().get_params() == expected


def test_all_that_a_recipe_says_reaches_the_fit(
    real: Dataset, real_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = real_recipe(
        encoder={"dimensions": 3, "hidden": [8], "gain": 2, "dropout": 0.2, "trees": "no"},
        fit={"loss": "triplet", "alpha": 0.3, "epochs": 2, "steps": 3, "batch": 40, "seed": 7}
        | {"device": "auto", "jobs": 3},
        unknown_rate=0.1,
    )
    seen: list[Any] = []

    def spy(*arguments: Any) -> Any:
        seen.extend(arguments)
        return fit(*arguments)

    monkeypatch.setattr("training.fitting.estimator.fit", spy)
    made = SiameseClassifier.of(recipe, real, lambda *_: None)
    schema, train, dev, shape, how, _ = seen
    assert schema is real.schema
    np.testing.assert_array_equal(train.matrix, real.train.matrix)
    np.testing.assert_array_equal(dev.labels, real.dev.labels)
    for part, given_part in ((recipe.encoder, shape), (recipe.fit, how)):
        for name in type(part).model_fields:
            assert getattr(part, name) == getattr(given_part, name)
    assert made.unknown_rate == 0.1
    assert made.classes_.tolist() == list(range(len(real.classes)))


def test_real_faults_are_told_apart(fitted: SiameseClassifier, real: Dataset) -> None:
    x, y = named(real, "test")
    assert balanced_accuracy_score(y, fitted.predict(x)) > 0.7
    points = fitted.transform(x)
    assert points.shape == (len(x), fitted.centroids_.shape[1])
    assert points.dtype == np.float32
    assert 0 < points.min() < points.max() < 1
    probabilities = fitted.predict_proba(x)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(fitted.classes_[probabilities.argmax(axis=1)], fitted.predict(x))


def test_centroids_come_from_training_records_and_the_rest_from_those_held_out(
    fitted: SiameseClassifier, real: Dataset
) -> None:
    x, y = named(real, "train")
    points = fitted.transform(x)
    means = np.stack([points[y == label].mean(axis=0) for label in fitted.classes_])
    np.testing.assert_array_equal(fitted.centroids_, means)
    shares = shares_of(np.searchsorted(fitted.classes_, y))
    x, y = named(real, "dev")
    labels = np.searchsorted(fitted.classes_, y)
    space = Space(means, 0.0)
    held_out = HeldOut(space.measure(fitted.transform(x)), labels)
    rule = decision_rule(space, held_out, 0.05, shares)
    np.testing.assert_array_equal(fitted.rule_.radii, rule.radii)
    np.testing.assert_array_equal(fitted.fitted_radii_, rule.radii)
    assert fitted.rule_.temperature == rule.temperature


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 100))
def test_what_is_said_of_a_record_hangs_on_no_other(
    fitted_once: SiameseClassifier, real: Dataset, seed: int, count: int
) -> None:
    x = real.test.matrix
    chosen = np.random.default_rng(seed).permutation(len(x))[:count]
    for method in ("transform", "predict", "predict_proba", "predict_with_unknowns"):
        answer = getattr(fitted_once, method)
        np.testing.assert_array_equal(answer(x[chosen]), answer(x)[chosen])


def test_more_records_than_are_embedded_at_a_time_are_embedded_all_the_same(
    fitted: SiameseClassifier, real: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = fitted.transform(real.test.matrix)
    monkeypatch.setattr("training.fitting.encoder._BLOCK", 7)
    np.testing.assert_array_equal(fitted.transform(real.test.matrix), points)


def test_the_more_fields_the_smaller_a_block() -> None:
    for fields, records in ((46, 16_384), (500, 16_384), (4096, 2048), (1 << 24, 1)):
        blocks = in_blocks(np.empty((3, fields), np.float32))
        assert sum(map(len, blocks)) == 3
        assert len(blocks) == -(-3 // records)


def test_unknown_is_what_the_nearest_class_refuses(
    fitted: SiameseClassifier, real: Dataset
) -> None:
    x, _ = named(real, "test")
    decisions = fitted.rule_.decide(fitted.transform(x))
    found = fitted.predict_with_unknowns(x)
    assert 0 < (found == "unknown").mean() < 0.5
    np.testing.assert_array_equal(found == "unknown", ~decisions.accepted)
    known = found != "unknown"
    np.testing.assert_array_equal(found[known], fitted.predict(x)[known])


def test_numbered_classes_have_a_number_for_unknown_or_text_among_objects(
    blobs: tuple[Array, Array],
) -> None:
    x, y = blobs
    made = SiameseClassifier(**SMALL, unknown_rate=0.3).fit(x, y)
    numbers = made.predict_with_unknowns(x, -1)
    assert numbers.dtype == y.dtype
    assert set(numbers.tolist()) == {-1, 0, 1, 2}
    mixed = made.predict_with_unknowns(x)
    assert set(mixed.tolist()) == {"unknown", 0, 1, 2}
    np.testing.assert_array_equal(mixed == "unknown", numbers == -1)
    with pytest.raises(ValueError, match="2 is a class; give another label"):
        made.predict_with_unknowns(x, 2)


def test_a_class_enrolled_from_its_own_training_records_lies_where_it_was(
    fitted: SiameseClassifier, real: Dataset
) -> None:
    x, y = named(real, "train")
    centroids, classes = fitted.centroids_.copy(), fitted.classes_.copy()
    for label in classes:
        assert fitted.enrol(x[y == label], label) is fitted
    np.testing.assert_array_equal(fitted.centroids_, centroids)
    np.testing.assert_array_equal(fitted.classes_, classes)


def test_a_new_class_comes_last_and_leaves_the_others_alone(
    real: Dataset,
) -> None:
    x, y = named(real, "train")
    old = y != "port_flap"
    made = SiameseClassifier(**SMALL, schema=real.schema).fit(x[old], y[old])
    before, temperature = made.rule_, made.rule_.temperature
    made.enrol(x[~old][:5], "port_flap_that_nobody_saw_before")
    assert made.classes_.tolist()[:3] == sorted(set(y[old]))
    assert made.classes_.tolist()[3:] == ["port_flap_that_nobody_saw_before"]
    np.testing.assert_array_equal(made.rule_.centroids[:3], before.centroids)
    np.testing.assert_array_equal(made.rule_.radii[:3], before.radii)
    assert made.rule_.temperature == temperature
    points = made.transform(x[~old][:5])
    np.testing.assert_array_equal(made.centroids_[3], points.mean(axis=0))
    radius = support_radius(points, before.radii, made.unknown_rate)
    assert made.rule_.radii[3] == np.float32(radius)
    tested, labels = named(real, "test")
    flaps = tested[labels == "port_flap"]
    assert (made.predict(flaps) == made.classes_[3]).mean() > 0.25  # what chance would give
    assert made.predict_proba(flaps).shape == (len(flaps), 4)


def test_a_single_record_reaches_twice_the_median_radius_of_the_classes_of_the_fit(
    fitted: SiameseClassifier, real: Dataset
) -> None:
    x, _ = named(real, "test")
    median = float(np.median(fitted.fitted_radii_))
    fitted.enrol(x[:1], "first").enrol(x[1:2], "second")
    np.testing.assert_allclose(fitted.rule_.radii[4:], min(2 * median, 1), rtol=1e-6)
    rest = np.delete(fitted.fitted_radii_, 2)
    fitted.enrol(x[2:3], fitted.classes_[2])
    assert fitted.rule_.radii[2] == pytest.approx(min(2 * float(np.median(rest)), 1))


def test_the_order_in_which_classes_and_records_are_enrolled_does_not_matter(
    fitted: SiameseClassifier, real: Dataset
) -> None:
    x, _ = named(real, "test")
    other = pickle.loads(pickle.dumps(fitted))
    fitted.enrol(x[:6], "a").enrol(x[30:36], "b")
    other.enrol(x[:3], "b").enrol(x[5::-1], "a").enrol(x[30:36], "b")
    places = [other.classes_.tolist().index(label) for label in fitted.classes_]
    np.testing.assert_allclose(other.centroids_[places], fitted.centroids_, atol=1e-6)
    np.testing.assert_allclose(other.rule_.radii[places], fitted.rule_.radii, atol=1e-6)


@pytest.mark.parametrize("kind", [np.int16, np.uint8, np.int64, np.float64, bool, str, object])
def test_enrolled_labels_are_of_the_kind_that_classes_have(
    blobs: tuple[Array, Array], kind: type
) -> None:
    x, y = blobs
    text = kind in (str, object)
    labels: Array = (y[y < 2].astype(str) if text else y[y < 2]).astype(kind)
    made = SiameseClassifier(**SMALL).fit(x[y < 2], labels)
    new = "22" if text else np.float32(2.0)
    made.enrol(x[y == 2], new).enrol(x[y == 0], labels[0])
    assert made.classes_.tolist() == [*np.unique(labels).tolist(), "22" if text else 2]
    assert made.predict(x[y == 2][:1])[0] == ("22" if text else 2)


@pytest.mark.parametrize(
    ("label", "records", "complaint"),
    [
        ("new", slice(0), "0 sample"),
        (float("nan"), slice(3), "labels of this model are text"),
        (None, slice(3), "None cannot be enrolled"),
        (7, slice(3), "7 cannot be enrolled: labels of this model are text"),
        (["new"], slice(3), "cannot be enrolled"),
    ],
)
def test_what_cannot_be_enrolled_is_refused_and_changes_nothing(
    fitted: SiameseClassifier, real: Dataset, label: Any, records: slice, complaint: str
) -> None:
    rule = fitted.rule_
    with pytest.raises(ValueError, match=complaint):
        fitted.enrol(real.test.matrix[records], label)
    with pytest.raises(ValueError, match="features"):
        fitted.enrol(real.test.matrix[:3, 1:], "new")
    assert fitted.rule_ is rule
    assert len(fitted.classes_) == 4


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("dimensions", 1, "dimensions: Input should be greater than or equal to 2"),
        ("hidden", (8, 0), r"hidden\.1: Input should be greater than or equal to 1"),
        ("hidden", 32, "hidden: Input should be a valid tuple"),
        ("loss", "cubic", "loss: Input should be 'lossless', 'linear'"),
        ("beta", 3.5, r"beta = 3\.5 is less than N = \d+; give at least N"),
        ("learning_rate", "fast", "learning_rate: Input should be a valid number"),
        ("unknown_rate", 0.5, r"unknown_rate: Input should be less than 0\.5"),
        ("dev_share", 1.0, "dev_share: Input should be less than 1"),
        ("random_state", -1, "random_state: Input should be greater than or equal to 0"),
        ("random_state", "dice", "'dice' cannot be used to seed"),
        ("schema", Schema([Field(name="x", kind="gauge")]), "X has 2 columns, the schema 1"),
    ],
)
def test_a_setting_that_will_not_do_is_refused_in_one_line_at_the_fit(
    blobs: tuple[Array, Array], name: str, value: Any, complaint: str
) -> None:
    made = SiameseClassifier(**SMALL | {name: value})
    with pytest.raises(ValueError, match=complaint) as refused:
        made.fit(*blobs)
    assert "\n" not in str(refused.value)


def test_records_that_will_not_do_are_refused(blobs: tuple[Array, Array]) -> None:
    x, y = blobs
    made = SiameseClassifier(**SMALL)
    with pytest.raises(ValueError, match="class 9 has a single record"):
        made.fit(x, np.where(np.arange(90) == 4, 9, y))
    with pytest.raises(ValueError, match="every record has the class 1; a second class"):
        made.fit(x, np.ones(90, dtype=int))
    with pytest.raises(ValueError, match="dev has the class 5, which no training record has"):
        made.fit(x, y, dev=(x, y + 3 * (y == 2)))
    with pytest.raises(ValueError, match="2 features"):
        made.fit(x, y, dev=(x[:, :1], y))
    with pytest.raises(ValueError, match="'x1' is missing in every training record; leave it out"):
        made.fit(np.where([False, True], np.nan, x), y)
    with pytest.raises(ValueError, match="infinity or a value too large"):
        made.fit(np.where(x > 1e6, np.inf, x), y)


def test_a_collapsed_encoder_is_an_error_to_scikit_learn_and_to_the_command_line(
    blobs: tuple[Array, Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.fitting.fit._COLLAPSED", 2.0)
    for expected in (ValueError, RecipeError):
        with pytest.raises(expected, match="the encoder collapsed"):
            SiameseClassifier(**SMALL).fit(*blobs)


def test_the_same_random_state_gives_the_same_model(blobs: tuple[Array, Array]) -> None:
    def points(random_state: Any) -> bytes:
        made = SiameseClassifier(**SMALL, random_state=random_state).fit(*blobs)
        return made.transform(blobs[0]).tobytes() + made.rule_.radii.tobytes()

    assert points(3) == points(3)
    assert points(3) != points(4)
    assert points(np.random.RandomState(3)) == points(np.random.RandomState(3))
    stream = np.random.RandomState(3)
    assert points(stream) != points(stream)
    assert points(None) != points(None)


def test_torch_is_left_as_it_was_even_by_a_fit_that_fails(
    blobs: tuple[Array, Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        torch.manual_seed(42)
        state = torch.get_rng_state()
        SiameseClassifier(**SMALL).fit(*blobs).transform(blobs[0])
        monkeypatch.setattr("training.fitting.fit._COLLAPSED", 2.0)
        with pytest.raises(ValueError, match="collapsed"):
            SiameseClassifier(**SMALL).fit(*blobs)
        assert torch.get_num_threads() == 3
        assert torch.equal(torch.get_rng_state(), state)
        with one_thread():
            assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)


def test_every_epoch_is_told_and_kept(blobs: tuple[Array, Array]) -> None:
    told: list[Epoch] = []

    def report(epoch: Epoch | None, encoder: Encoder | None) -> None:
        assert isinstance(encoder, Encoder)
        assert epoch is not None
        told.append(epoch)

    made = SiameseClassifier(**SMALL).fit(*blobs, report=report)
    assert made.history_ == told
    assert [epoch.number for epoch in told] == [1, 2, 3]
    assert made.n_iter_ == 3


def test_a_refit_forgets_what_was_enrolled(blobs: tuple[Array, Array]) -> None:
    x, y = blobs
    made = SiameseClassifier(**SMALL).fit(x, y)
    fresh = made.transform(x)
    made.enrol(x[:2], 8).fit(x, y)
    assert made.classes_.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(made.transform(x), fresh)


def test_it_is_a_step_of_a_pipeline_and_is_searched_and_validated(
    blobs: tuple[Array, Array],
) -> None:
    x, y = blobs
    chain = make_pipeline(SimpleImputer(), SiameseClassifier(**SMALL))
    assert cross_val_score(chain, x, y, cv=3).mean() > 0.8
    search = GridSearchCV(
        SiameseClassifier(**SMALL), {"gain": [1.0, 4.0]}, cv=2, scoring="roc_auc_ovr"
    )
    search.fit(x, y)
    assert search.best_params_["gain"] in (1.0, 4.0)
    assert search.best_score_ > 0.8


def test_a_clone_is_unfitted_and_a_pickle_answers_alike(
    fitted: SiameseClassifier, real: Dataset
) -> None:
    x, _ = named(real, "test")
    copied = clone(fitted)
    assert not hasattr(copied, "rule_")
    assert copied.get_params().keys() == fitted.get_params().keys()
    assert copied.schema.names == real.schema.names
    again = pickle.loads(pickle.dumps(fitted.enrol(x[:2], "new")))
    np.testing.assert_array_equal(again.predict_proba(x), fitted.predict_proba(x))
    np.testing.assert_array_equal(again.predict_with_unknowns(x), fitted.predict_with_unknowns(x))


def test_columns_of_a_data_frame_give_the_fields_their_names(blobs: tuple[Array, Array]) -> None:
    x, y = blobs
    frame = pl.DataFrame(x, schema=["latency", "octets"])
    made = SiameseClassifier(**SMALL).fit(frame, y)
    assert made.feature_names_in_.tolist() == ["latency", "octets"]
    assert made.schema_.names == ("latency", "octets")
    assert not any(field.required for field in made.schema_.fields)
    points = made.set_output(transform="polars").transform(frame)
    assert points.columns == made.get_feature_names_out().tolist()
    assert points.columns == [f"siameseclassifier{i}" for i in range(made.centroids_.shape[1])]
    made.enrol(frame[:3], 7)
    with pytest.raises(ValueError, match="feature names"):
        made.predict(frame.select("octets", "latency"))
    fields = [Field(name=name, kind="gauge") for name in ("octets", "latency")]
    with pytest.raises(ValueError, match="not the schema's fields in their order"):
        SiameseClassifier(**SMALL, schema=Schema(fields)).fit(frame, y)
    with pytest.raises(ValueError, match="name of a column: String should have at least 1"):
        SiameseClassifier(**SMALL).fit(frame.rename({"octets": ""}), y)


def test_columns_of_an_array_are_numbered(blobs: tuple[Array, Array]) -> None:
    made = SiameseClassifier(**SMALL).fit(*blobs)
    assert made.schema_.names == ("x0", "x1")
    assert made.n_features_in_ == 2


def test_categories_missing_values_and_flags_are_fields_when_the_schema_says_so(
    mixed_schema: Schema, mixed_matrix: Array
) -> None:
    y = (mixed_matrix[:, 0] > 5).astype(int)
    made = SiameseClassifier(**SMALL, schema=mixed_schema).fit(mixed_matrix, y)
    assert made.schema_ is mixed_schema
    unseen = mixed_matrix.copy()
    unseen[:, 3] = -1
    missing = mixed_matrix.copy()
    missing[:, 3] = np.nan
    np.testing.assert_array_equal(made.transform(unseen), made.transform(missing))


def test_a_record_may_be_nothing_but_categories() -> None:
    fields = [Field(name=name, kind="category", categories=("a", "b", "c")) for name in "xy"]
    x = np.random.default_rng(0).integers(0, 3, (60, 2)).astype(float)
    y = np.where(x[:, 0] == 1, "one", "other")
    made = SiameseClassifier(**SMALL, schema=Schema(fields)).fit(x, y)
    assert made.score(x, y) == 1


def test_the_caller_s_array_is_read_and_no_more(blobs: tuple[Array, Array]) -> None:
    x, y = blobs[0].astype(np.float32), blobs[1]
    before = x.copy()
    x.setflags(write=False)
    made = SiameseClassifier(**SMALL).fit(x, y)
    backwards = made.transform(x[::-1])
    np.testing.assert_array_equal(backwards[::-1], made.transform(np.asfortranarray(x)))
    np.testing.assert_array_equal(x, before)


def test_groups_calibrate_with_records_that_the_encoder_of_their_fold_never_saw(
    real: Dataset,
) -> None:
    rows = real.known
    groups = np.arange(len(rows)) * 8 // len(rows)
    reports: list[object] = []
    made = SiameseClassifier(schema=real.schema, epochs=2, steps=4, hidden=(16,), members=1)
    made.fit(rows.matrix, rows.labels, groups=groups, report=lambda *of: reports.append(of))
    assert made.held_out_ is not None
    assert len(made.held_out_.labels) <= len(rows)
    assert reports.count((None, None)) == FOLDS
    again = clone(made).fit(rows.matrix, rows.labels, groups=groups)
    np.testing.assert_array_equal(again.rule_.radii, made.rule_.radii)
    points = made.transform(rows.matrix)
    means = np.stack([points[rows.labels == c].mean(axis=0) for c in made.classes_])
    np.testing.assert_array_equal(made.centroids_, means)  # of all rows
