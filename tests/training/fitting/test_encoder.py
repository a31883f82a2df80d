from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.schema import UNSEEN, Field, Schema
from training.fitting.encoder import Encoder, Scaling, Whitening
from training.recipe import EncoderRecipe

Matrix = np.ndarray[Any, np.dtype[np.float32]]
LARGEST = float(np.finfo(np.float32).max)
HOSTILE = [float("nan"), 0.0, -0.0, 1.0, -1.0, 1e-45, 3e38, -3e38, LARGEST, -LARGEST]
SETTINGS = EncoderRecipe(dimensions=4, members=1, linear=False, hidden=(8,), dropout=0.0)


def encoder_for(schema: Schema, matrix: Matrix, recipe: EncoderRecipe = SETTINGS) -> Encoder:
    torch.manual_seed(0)
    return Encoder(schema, matrix, np.arange(len(matrix)) % 3, recipe).eval()


def embedded(encoder: torch.nn.Module, rows: object) -> Matrix:
    with torch.inference_mode():
        answer: Matrix = encoder(torch.as_tensor(rows, dtype=torch.float32)).numpy()
    return answer


def numeric(count: int, *, required: bool = True) -> Schema:
    return Schema([Field(name=f"x{i}", kind="gauge", required=required) for i in range(count)])


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            *[st.one_of(st.sampled_from(HOSTILE), st.floats(width=32, allow_infinity=False))] * 4
        ),
        min_size=1,
        max_size=20,
    )
)
def test_whatever_is_sent_is_embedded_strictly_inside_the_cube(
    mixed_schema: Schema, mixed_matrix: Matrix, rows: list[tuple[float, ...]]
) -> None:
    points = embedded(encoder_for(mixed_schema, mixed_matrix), rows)
    assert points.shape == (len(rows), 4)
    assert ((points > 0) & (points < 1)).all()


@pytest.mark.parametrize("gain", [1e-3, 4.0, 100.0])
@pytest.mark.parametrize("value", HOSTILE)
def test_no_gain_pushes_a_record_onto_the_cubes_surface(
    mixed_schema: Schema, mixed_matrix: Matrix, gain: float, value: float
) -> None:
    recipe = EncoderRecipe(dimensions=4, members=2, hidden=(8,), gain=gain)
    encoder = encoder_for(mixed_schema, mixed_matrix, recipe)
    points = embedded(encoder, torch.full((3, 4), value))
    assert ((points > 0) & (points < 1)).all()
    hostile = np.where(np.arange(40)[:, None] % 7 == 0, np.float32(value), mixed_matrix)
    points = embedded(encoder.train(), hostile)
    assert ((points > 0) & (points < 1)).all()


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(st.sampled_from(HOSTILE[1:]), st.floats(-1e6, 1e6, width=32)),
        min_size=4,
        max_size=30,
    )
)
@example([LARGEST, LARGEST, LARGEST, -LARGEST])  # two that are farther apart than float32 reaches
def test_whatever_it_is_fitted_to_the_scaled_values_are_finite(values: list[float]) -> None:
    matrix = np.array(values, dtype=np.float32)[:, None]
    scaled = embedded(Scaling(numeric(1), matrix, 4), matrix)
    assert np.isfinite(scaled).all()


def test_a_constant_field_is_scaled_to_zero() -> None:
    matrix = np.full((10, 2), 7, dtype=np.float32)
    assert not embedded(Scaling(numeric(2), matrix, 4), matrix).any()


def test_a_number_is_shown_standardised_then_logarithmic_far_off_then_in_bins() -> None:
    matrix = np.array([[0], [1], [2], [3], [4], [1e6]], dtype=np.float32)
    plain, scaled, *bins = embedded(Scaling(numeric(1), matrix, 2), matrix).T
    v = matrix[:, 0].astype(np.float64)
    np.testing.assert_allclose(plain, (v - v.mean()) / v.std(), rtol=1e-5)
    u = (v - 2.5) / 1.5  # median, and median distance from it
    squeezed = np.sign(u) * np.log1p(np.abs(u))
    np.testing.assert_allclose(scaled, (squeezed - squeezed.mean()) / squeezed.std(), rtol=1e-5)
    np.testing.assert_allclose(bins[0], np.clip(v / 2.5, 0, 1), rtol=1e-5)
    np.testing.assert_allclose(bins[1], np.clip((v - 2.5) / (1e6 - 2.5), 0, 1), rtol=1e-5)


@settings(deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=4, max_size=30),
    st.integers(1, 6),
    st.floats(-2e6, 2e6, width=32),
)
def test_bins_fill_from_the_lowest_and_end_where_training_does(
    values: list[float], most: int, value: float
) -> None:
    matrix = np.array(values, dtype=np.float32)[:, None]
    scaling = Scaling(numeric(1), matrix, most)
    bins = embedded(scaling, [[value]])[0, scaling.plain :]
    assert len(bins) <= most
    assert ((bins >= 0) & (bins <= 1)).all()
    assert (np.diff(bins) <= 0).all()
    # What is narrower may be rounding, and a step there would turn the last digit into a class.
    low, high = np.quantile(matrix, [0.25, 0.75])
    assert (scaling.step >= 0.999e-3 * (high - low)).all()
    beyond = float(np.clip(np.float32(value), matrix.min(), matrix.max()))
    np.testing.assert_array_equal(bins, embedded(scaling, [[beyond]])[0, scaling.plain :])


def test_a_glitch_leaves_a_number_its_bins() -> None:
    values = np.r_[np.zeros(6000), np.arange(4000) % 99 + 1].astype(np.float32)[:, None]
    bins = len(Scaling(numeric(1), values, 8).step)
    values[0] = 2.0**64
    assert len(Scaling(numeric(1), values, 8).step) == bins >= 4


def test_a_field_that_is_nearly_always_the_same_is_scaled_by_its_mean_distance() -> None:
    matrix = np.array([[5]] * 19 + [[45]], dtype=np.float32)
    scaling = Scaling(numeric(1), matrix, 4)
    assert scaling.median.item() == 5
    assert scaling.spread.item() == 2


def test_a_scaled_value_is_cut_at_ten_deviations() -> None:
    matrix = np.random.default_rng(0).normal(0, 1, (1000, 1)).astype(np.float32)
    scaling = Scaling(numeric(1), matrix, 4)
    far = embedded(scaling, [[3e38], [-3e38]])
    np.testing.assert_array_equal(far, [[10, 10, 1, 1, 1, 1], [-10, -10, 0, 0, 0, 0]])


def test_a_missing_number_is_the_typical_one_and_raises_its_flag() -> None:
    matrix = np.array([[1], [2], [9], [np.nan]], dtype=np.float32)
    scaling = Scaling(numeric(1, required=False), matrix, 4)
    (missing,), (typical,) = embedded(scaling, [[np.nan]]), embedded(scaling, [[2.0]])
    np.testing.assert_array_equal(np.delete(missing, 1), np.delete(typical, 1))
    assert (missing[1], typical[1]) == (1, 0)


def test_a_required_number_has_no_flag_and_is_typical_when_it_is_missing_all_the_same() -> None:
    matrix = np.array([[1], [2], [9]], dtype=np.float32)
    scaling = Scaling(numeric(1), matrix, 4)
    assert scaling.plain == 2
    np.testing.assert_array_equal(embedded(scaling, [[np.nan]]), embedded(scaling, [[2.0]]))


def test_a_category_is_one_hot_and_an_unseen_one_is_no_category() -> None:
    link = Field(name="l", kind="category", categories=("a", "b", "c"), open=True, required=False)
    scaling = Scaling(Schema([link]), np.array([[0], [1], [2]], dtype=np.float32), 4)
    rows = embedded(scaling, [[0], [1], [2], [np.nan], [UNSEEN]])
    np.testing.assert_array_equal(rows, [*np.eye(3), [0, 0, 0], [0, 0, 0]])


def test_columns_are_numbers_then_flags_then_categories_then_the_other_views(
    mixed_schema: Schema, mixed_matrix: Matrix
) -> None:
    scaling = Scaling(mixed_schema, mixed_matrix, 4)
    assert scaling.plain == 3 + 1 + 2 + 3
    row = embedded(scaling, [[5, np.nan, 1, 1]])[0]
    assert row.shape == (scaling.width,)
    assert scaling.plain < scaling.width <= scaling.plain + 3 * 4
    np.testing.assert_array_equal(row[3:6], [1, 0, 1])


def test_scaling_knows_only_the_rows_it_was_fitted_to() -> None:
    matrix = np.arange(20, dtype=np.float32)[:, None]
    scaling = Scaling(numeric(1), matrix, 4)
    before = {name: value.clone() for name, value in scaling.state_dict().items()}
    embedded(scaling.train(), [[1e9], [-1e9]])
    assert all(torch.equal(value, before[name]) for name, value in scaling.state_dict().items())
    assert scaling.median.item() == 9.5


def test_records_do_not_touch_one_another_once_the_encoder_is_fitted(
    mixed_schema: Schema, mixed_matrix: Matrix
) -> None:
    encoder = encoder_for(mixed_schema, mixed_matrix)
    together = embedded(encoder, mixed_matrix)
    alone = np.concatenate([embedded(encoder, row[None]) for row in mixed_matrix])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_the_recipe_decides_width_and_depth(mixed_schema: Schema, mixed_matrix: Matrix) -> None:
    recipe = EncoderRecipe(dimensions=7, members=2, linear=False, hidden=(5, 3))
    encoder = encoder_for(mixed_schema, mixed_matrix, recipe)
    shapes = [list(p.shape) for p in encoder.parameters() if p.ndim > 1]
    assert shapes == [[2 * 5, encoder.scaling.width], [2, 5, 3], [2, 3, 7]]
    assert embedded(encoder, mixed_matrix).shape == (40, 14)
    assert encoder.dimensions == 14


def test_an_encoder_without_hidden_layers_works(mixed_schema: Schema, mixed_matrix: Matrix) -> None:
    recipe = EncoderRecipe(dimensions=2, members=3, linear=False, hidden=())
    encoder = encoder_for(mixed_schema, mixed_matrix, recipe)
    assert embedded(encoder, mixed_matrix).shape == (40, 6)


def test_the_linear_part_follows_the_learned_parts_and_moves_with_no_gradient(
    mixed_schema: Schema, mixed_matrix: Matrix
) -> None:
    recipe = EncoderRecipe(dimensions=4, members=2, hidden=(8,))
    encoder = encoder_for(mixed_schema, mixed_matrix, recipe)
    points = embedded(encoder, mixed_matrix)
    assert points.shape == (40, encoder.dimensions) == (40, 8 + encoder.scaling.plain)
    with torch.inference_mode():
        learned = encoder.learned(torch.from_numpy(mixed_matrix)).numpy()
    for member, part in enumerate(recipe.learned(points)):
        np.testing.assert_array_equal(part, learned[:, member])
    assert encoder.whitening is not None
    assert not list(encoder.whitening.parameters())


def test_a_member_does_not_feel_the_others(mixed_schema: Schema, mixed_matrix: Matrix) -> None:
    recipe = EncoderRecipe(dimensions=4, members=3, hidden=(8, 5), dropout=0)
    encoder = encoder_for(mixed_schema, mixed_matrix, recipe).train()
    records = torch.from_numpy(mixed_matrix)
    encoder.learned(records)[:, 1].square().sum().backward()  # type: ignore[no-untyped-call]
    first, second, last = (p.grad for p in encoder.parameters() if p.ndim > 1)
    assert first is not None
    assert second is not None
    assert last is not None
    for gradient in (first.reshape(3, 8, -1), second, last):
        assert gradient[1].abs().sum() > 0
        assert not gradient[[0, 2]].any()


def test_whitened_classes_scatter_alike_in_every_direction() -> None:
    random = np.random.default_rng(0)
    labels = np.arange(4000) % 2
    points = random.normal(size=(4000, 3)) @ random.normal(size=(3, 3)) + 5 * labels[:, None]
    whitening = Whitening(torch.tensor(points, dtype=torch.float32), labels)
    white = whitening(torch.tensor(points, dtype=torch.float32)).numpy()
    within = white - np.stack([white[labels == c].mean(axis=0) for c in (0, 1)])[labels]
    variances = np.linalg.eigvalsh(within.T @ within / len(within))
    assert variances.max() < 1.05
    assert variances.min() > 0.5  # shrinkage takes from the directions that hardly scatter
    np.testing.assert_allclose(white.mean(axis=0), 0, atol=1e-4)


def test_a_field_that_never_moved_moves_the_linear_part_when_it_does() -> None:
    matrix = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    matrix[:, 1] = 3
    recipe = EncoderRecipe(dimensions=2, members=1, hidden=(4,))
    encoder = encoder_for(numeric(2), matrix, recipe)
    as_ever, moved = embedded(encoder, [[0, 3], [0, 4]])[:, 2:]
    assert np.square(as_ever - moved).sum() > 0.1


def test_whitening_survives_fields_that_are_constant_or_equal() -> None:
    matrix = np.random.default_rng(0).normal(size=(30, 1)).astype(np.float32)
    matrix = np.concatenate([matrix, matrix, np.ones_like(matrix)], axis=1)
    for rows in (matrix, np.ones_like(matrix)):
        points = embedded(encoder_for(numeric(3), rows, EncoderRecipe(hidden=(4,))), matrix)
        assert ((points > 0) & (points < 1)).all()


def test_no_dimension_starts_saturated(mixed_schema: Schema, mixed_matrix: Matrix) -> None:
    encoder = encoder_for(mixed_schema, mixed_matrix, EncoderRecipe(dimensions=8)).train()
    points = encoder.learned(torch.from_numpy(mixed_matrix))[:, 0]
    logits = torch.logit(points.double()) / encoder.gain
    torch.testing.assert_close(logits.mean(dim=0), torch.zeros(8).double(), atol=1e-3, rtol=0)
    torch.testing.assert_close(
        logits.std(dim=0, correction=0), torch.ones(8).double(), atol=2e-2, rtol=0
    )


def test_members_see_the_views_that_are_asked_for_and_the_linear_part_all_but_bins() -> None:
    matrix = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    recipe = EncoderRecipe(dimensions=2, members=1, hidden=(4,), views=("bins",))
    encoder = encoder_for(numeric(2, required=False), matrix, recipe)
    beyond = [[matrix[:, 0].max(), 0], [matrix[:, 0].max() + 1, 0]]
    end, farther = embedded(encoder, beyond)
    np.testing.assert_array_equal(end[:2], farther[:2])
    assert (end[2:] != farther[2:]).any()
    scaling = encoder.scaling
    assert scaling.columns(()) == [2, 3]
    assert scaling.columns(("standard", "log")) == list(range(scaling.plain))
    assert scaling.columns(("standard", "log", "bins")) == list(range(scaling.width))
