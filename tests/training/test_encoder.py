from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.schema import UNSEEN, Field, Schema
from training.encoder import Encoder, Scaling
from training.recipe import EncoderRecipe

Matrix = np.ndarray[Any, np.dtype[np.float32]]
LARGEST = float(np.finfo(np.float32).max)
HOSTILE = [float("nan"), 0.0, -0.0, 1.0, -1.0, 1e-45, 3e38, -3e38, LARGEST, -LARGEST]
SETTINGS = EncoderRecipe(dimensions=4, hidden=(8,), dropout=0.0)


def encoder_for(schema: Schema, matrix: Matrix, recipe: EncoderRecipe = SETTINGS) -> Encoder:
    torch.manual_seed(0)
    return Encoder(schema, matrix, recipe).eval()


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
    recipe = EncoderRecipe(dimensions=4, hidden=(8,), gain=gain)
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
def test_whatever_it_is_fitted_to_the_scaled_values_are_finite(values: list[float]) -> None:
    matrix = np.array(values, dtype=np.float32)[:, None]
    scaled = embedded(Scaling(numeric(1), matrix), matrix)
    assert np.isfinite(scaled).all()


def test_a_constant_field_is_scaled_to_zero() -> None:
    matrix = np.full((10, 2), 7, dtype=np.float32)
    assert not embedded(Scaling(numeric(2), matrix), matrix).any()


def test_numbers_are_logarithmic_far_off_and_standardised() -> None:
    matrix = np.array([[0], [1], [2], [3], [4], [1e6]], dtype=np.float32)
    scaled = embedded(Scaling(numeric(1), matrix), matrix)[:, 0]
    u = (matrix[:, 0] - 2.5) / 1.5  # median, and median distance from it
    squeezed = np.sign(u) * np.log1p(np.abs(u))
    expected = (squeezed - squeezed.mean()) / squeezed.std()
    np.testing.assert_allclose(scaled, expected, rtol=1e-5)


def test_a_field_that_is_nearly_always_the_same_is_scaled_by_its_mean_distance() -> None:
    matrix = np.array([[5]] * 19 + [[45]], dtype=np.float32)
    scaling = Scaling(numeric(1), matrix)
    assert scaling.median.item() == 5
    assert scaling.spread.item() == 2


def test_a_scaled_value_is_cut_at_ten_deviations() -> None:
    matrix = np.random.default_rng(0).normal(0, 1, (1000, 1)).astype(np.float32)
    scaling = Scaling(numeric(1), matrix)
    np.testing.assert_array_equal(embedded(scaling, [[3e38], [-3e38]]), [[10], [-10]])


def test_a_missing_number_is_the_typical_one_and_raises_its_flag() -> None:
    matrix = np.array([[1], [2], [9], [np.nan]], dtype=np.float32)
    scaling = Scaling(numeric(1, required=False), matrix)
    (missing,), (typical,) = embedded(scaling, [[np.nan]]), embedded(scaling, [[2.0]])
    assert missing[0] == typical[0]
    assert (missing[1], typical[1]) == (1, 0)


def test_a_required_number_has_no_flag_and_is_typical_when_it_is_missing_all_the_same() -> None:
    matrix = np.array([[1], [2], [9]], dtype=np.float32)
    scaling = Scaling(numeric(1), matrix)
    assert scaling.width == 1
    np.testing.assert_array_equal(embedded(scaling, [[np.nan]]), embedded(scaling, [[2.0]]))


def test_a_category_is_one_hot_and_an_unseen_one_is_no_category() -> None:
    link = Field(name="l", kind="category", categories=("a", "b", "c"), open=True, required=False)
    scaling = Scaling(Schema([link]), np.array([[0], [1], [2]], dtype=np.float32))
    rows = embedded(scaling, [[0], [1], [2], [np.nan], [UNSEEN]])
    np.testing.assert_array_equal(rows, [*np.eye(3), [0, 0, 0], [0, 0, 0]])


def test_columns_are_numbers_then_flags_then_categories(
    mixed_schema: Schema, mixed_matrix: Matrix
) -> None:
    scaling = Scaling(mixed_schema, mixed_matrix)
    assert scaling.width == 3 + 1 + 2
    row = embedded(scaling, [[5, np.nan, 1, 1]])[0]
    assert row.shape == (6,)
    np.testing.assert_array_equal(row[3:], [1, 0, 1])


def test_scaling_knows_only_the_rows_it_was_fitted_to() -> None:
    matrix = np.arange(20, dtype=np.float32)[:, None]
    scaling = Scaling(numeric(1), matrix)
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
    recipe = EncoderRecipe(dimensions=7, hidden=(5, 3))
    encoder = encoder_for(mixed_schema, mixed_matrix, recipe)
    widths = [layer.out_features for layer in encoder.modules() if hasattr(layer, "out_features")]
    assert widths == [5, 3, 7]
    assert embedded(encoder, mixed_matrix).shape == (40, 7)


def test_an_encoder_without_hidden_layers_works(mixed_schema: Schema, mixed_matrix: Matrix) -> None:
    encoder = encoder_for(mixed_schema, mixed_matrix, EncoderRecipe(dimensions=2, hidden=()))
    assert embedded(encoder, mixed_matrix).shape == (40, 2)


def test_no_dimension_starts_saturated(mixed_schema: Schema, mixed_matrix: Matrix) -> None:
    encoder = encoder_for(mixed_schema, mixed_matrix, EncoderRecipe(dimensions=8)).train()
    points = encoder(torch.from_numpy(mixed_matrix))
    logits = torch.logit(points.double()) / encoder.gain
    torch.testing.assert_close(logits.mean(dim=0), torch.zeros(8).double(), atol=1e-3, rtol=0)
    torch.testing.assert_close(
        logits.std(dim=0, correction=0), torch.ones(8).double(), atol=2e-2, rtol=0
    )
