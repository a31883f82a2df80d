from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.model import Model
from models.profile import (
    LEAST_RECORDS,
    Adaptation,
    Level,
    Profile,
    ProfileError,
    ProfileTrial,
    compare,
    level_of,
    try_out,
)
from models.schema import LARGEST, Field, Matrix, Schema

FIELDS = (
    Field(name="latency", kind="gauge", unit="ms", typical=10.0, spread=2.0),
    Field(name="load", kind="gauge", unit="%", typical=40.0, spread=5.0, relative=True),
    Field(name="old", kind="gauge", typical=3.0),
    Field(name="up", kind="boolean", typical=True),
    Field(name="link", kind="category", categories=("fiber", "copper"), typical="fiber"),
    Field(name="errors", kind="rate", unit="1/s", required=False, typical=0.0, spread=0.0),
)
SCHEMA = Schema(FIELDS)
SITE = Profile(
    2000,
    {"latency": Level(70.0, 8.0, "ms"), "load": Level(90.0, 1.0, "%"), "old": Level(9.0, 1.0)},
)


def records(seed: int, n: int = 500) -> Matrix:
    rng = np.random.default_rng(seed)
    matrix = rng.normal(50, 9, (n, len(SCHEMA))).astype(np.float32)
    matrix[:, 3:5] = rng.integers(0, 2, (n, 2))
    matrix[:, 5] = np.where(rng.random(n) < 0.1, 7, 0)
    return matrix


def single(typical: float, spread: float) -> Schema:
    return Schema([Field(name="x", kind="gauge", typical=typical, spread=spread)])


seeds = st.integers(0, 2**32 - 1)
shapes = st.sampled_from(["normal", "heavy", "rounded", "mostly equal"])


def traffic(shape: str, seed: int, n: int = 400) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    rng = np.random.default_rng(seed)
    match shape:
        case "normal":
            return rng.normal(100, 10, n)
        case "heavy":
            return np.exp(rng.normal(2, 1, n))
        case "rounded":
            return np.rint(rng.normal(5, 2, n))
    return np.where(rng.random(n) < 0.55, 3.0, 3 + np.exp(rng.normal(0, 1, n)))


@settings(deadline=None)
@given(shapes, seeds, st.floats(0.01, 100), st.floats(-1e4, 1e4))
def test_records_of_another_scale_and_level_come_back_as_the_training_ones(
    shape: str, seed: int, scale: float, shift: float
) -> None:
    x = traffic(shape, seed)
    level = level_of(x)
    schema = single(level.typical, level.spread)
    matrix = (scale * x + shift)[:, None].astype(np.float32)
    back = Adaptation.of(Profile.learn(schema, matrix), schema)(matrix)
    digits = 1e-5 * (np.abs(matrix).max() / scale + np.abs(x).max())
    np.testing.assert_allclose(back[:, 0], x, atol=digits, rtol=1e-4)


@settings(deadline=None)
@given(shapes, seeds, st.floats(-1e9, 1e9))
def test_a_fifth_of_wild_records_moves_a_profile_little(shape: str, seed: int, wild: float) -> None:
    x = traffic(shape, seed)
    before = level_of(x)
    after = level_of(np.concatenate([x, np.full(len(x) // 4, wild)]))
    assert abs(after.typical - before.typical) <= x.std()
    assert after.spread <= 3 * x.std()
    if shape in {"normal", "heavy"}:
        assert before.spread / 3 <= after.spread <= 3 * before.spread


def test_a_field_that_a_fifth_moves_has_no_spread() -> None:
    assert level_of(np.array([0.0] * 80 + [9.0] * 20)).spread == 0
    assert level_of(np.array([0.0] * 60 + [9.0] * 40)).spread > 0


@given(seeds)
def test_the_levels_of_the_training_change_nothing(seed: int) -> None:
    matrix = records(seed)
    matrix[::7, 5] = np.nan
    same = Profile(2000, {"latency": Level(10.0, 2.0, "ms"), "errors": Level(0.0, 0.0, "1/s")})
    np.testing.assert_array_equal(Adaptation.of(same, SCHEMA)(matrix), matrix)


def test_only_numbers_with_levels_in_training_that_are_not_relative_change() -> None:
    matrix = records(1)
    adapted = Adaptation.of(SITE, SCHEMA)(matrix)
    np.testing.assert_allclose(adapted[:, 0], 10 + (matrix[:, 0] - 70) * 2 / 8, rtol=1e-5)
    np.testing.assert_array_equal(adapted[:, 1:], matrix[:, 1:])
    assert [field.name for field in FIELDS if SITE.adapts(field)] == ["latency"]


def test_a_comparison_has_the_fields_that_change() -> None:
    (row,) = compare(SITE, SCHEMA)
    assert (row.field, row.typical, row.training, row.spread) == ("latency", 70, 10, 8)
    assert row.ratio == 0.25


def test_a_field_in_another_unit_is_another_field() -> None:
    other = Field(name="latency", kind="gauge", unit="s", typical=10.0, spread=2.0)
    assert not SITE.adapts(other)


def test_missing_values_stay_missing_and_huge_ones_finite() -> None:
    schema = single(0.0, 1.0)
    profile = Profile(2000, {"x": Level(-LARGEST, 1e-9)})
    matrix = np.array([[np.nan], [LARGEST], [-LARGEST], [0.0]], np.float32)
    adapted = Adaptation.of(profile, schema)(matrix)
    assert np.isnan(adapted[0, 0])
    assert np.isfinite(adapted[1:]).all()
    assert adapted.dtype == np.float32


@pytest.mark.parametrize(
    ("training", "site", "expected"),
    [(2.0, 8.0, 0.25), (0.0, 5.0, 0), (5.0, 0.0, 1), (1.0, 1e-9, 1000), (1e-9, 1.0, 0.001)],
)
def test_spreads_that_say_little_are_not_divided_by(
    training: float, site: float, expected: float
) -> None:
    profile = Profile(2000, {"x": Level(0.0, site)})
    assert Adaptation.of(profile, single(0.0, training)).scale.tolist() == [expected]


def test_what_never_moved_in_training_but_does_at_the_site_is_held_at_its_typical_value() -> None:
    matrix = np.array([[46_000.0], [np.nan], [0.0], [1e30]], np.float32)
    adapted = Adaptation.of(Profile(2000, {"x": Level(46_000.0, 3e4)}), single(7.0, 0.0))(matrix)
    np.testing.assert_array_equal(adapted[:, 0], [7, np.nan, 7, 7])


@pytest.mark.parametrize("present", [0, 1, 19])
def test_a_field_that_is_nearly_always_missing_is_named_and_left_as_it_is(present: int) -> None:
    matrix = records(3)
    matrix[present:, 5] = np.nan
    profile = Profile.learn(SCHEMA, matrix)
    assert profile.missing == ("errors",)
    assert profile.levels.keys() == {"latency", "load", "old"}
    assert profile.records == 500


def test_too_few_records_are_refused() -> None:
    with pytest.raises(ProfileError, match=r"99 records are too few .*give 100 at least"):
        Profile.learn(SCHEMA, records(0, LEAST_RECORDS - 1))


@pytest.mark.parametrize("field", [FIELDS[1], FIELDS[2], FIELDS[3]], ids=lambda field: field.name)
def test_a_profile_that_changes_nothing_is_refused(field: Field) -> None:
    with pytest.raises(ProfileError, match="a profile would change nothing"):
        Profile.learn(Schema([field]), np.ones((200, 1), np.float32))


def test_a_profile_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "site.json"
    profile = Profile.learn(SCHEMA, records(4))
    path.write_bytes(profile.to_json())
    assert Profile.read(path) == profile


@pytest.mark.parametrize(
    "content", ["", "{}", '{"records": 1, "levels": {"x": {"typical": 1}}}', "[1]"]
)
def test_a_file_that_is_no_profile_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "site.json"
    path.write_text(content)
    with pytest.raises(ProfileError, match=r"is no profile: make one with `faultcube adapt`"):
        Profile.read(path)
    with pytest.raises(ProfileError, match="cannot be read: No such file"):
        Profile.read(tmp_path / "gone.json")


def test_a_trial_counts_labels_before_and_after(model: Model) -> None:
    schema = Schema([FIELDS[0], *model.schema.fields[1:]])
    good = [10.0, 0.0, 1.0, 0.0, 0.0]
    matrix = np.array([good] * 300, np.float32)
    matrix[:, 0] = np.linspace(70, 110, 300)  # this network's latency is congestion to the model
    profile = Profile.learn(schema, matrix)
    model.schema, before = schema, model.schema
    try:
        trial = try_out(model, profile, matrix)
    finally:
        model.schema = before
    assert trial.records == 300
    assert trial.before.get("good", 0) < 30
    assert trial.after["good"] == 300
    assert trial.odd == 0
    trial.check()


def test_a_trial_with_more_faults_than_good_traffic_is_refused() -> None:
    ProfileTrial(10, {}, {}, 0.5).check()
    with pytest.raises(ProfileError, match=r"51% of these records .* or force it"):
        ProfileTrial(100, {}, {}, 0.51).check()
