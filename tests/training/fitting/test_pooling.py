from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.encoder import Encoder as OnnxEncoder
from models.schema import Field, Matrix, Schema
from training.fitting.encoder import Encoder
from training.fitting.fit import embed
from training.fitting.pooling import Pooling
from training.onnx.export import export
from training.recipe import EncoderRecipe, RecipeError

NAMES = ("load_1", "cpu", "load_2", "load_3", "up_1", "up_2")
FAMILIES = (("load_1", "load_2", "load_3"), ("up_1", "up_2"))
SCHEMA = Schema([Field(name=name, kind="gauge", required=name == "cpu") for name in NAMES])
TYPICAL = np.array([100, 7, 50, 0, 1, 1], dtype=np.float32)
STEPS = np.arange(-4, 5)[:, None] * np.array([1, 1, 1, 2, 0, 0])
MATRIX: Matrix = (TYPICAL + STEPS).astype(np.float32)


def pooled(*record: float) -> list[float]:
    """The statistics of one record, by statistic and then by family, behind the other fields."""
    module = Pooling(SCHEMA, MATRIX, FAMILIES)
    answer: list[float] = module(torch.tensor([record], dtype=torch.float32))[0].tolist()
    return answer


def test_statistics_are_of_deviations_from_the_typical_value_in_typical_values() -> None:
    cpu, *statistics = pooled(110, 9, 25, 0, 1, 0)
    assert cpu == 9
    off = [0.1, -0.5, 0.0]
    of_load = min(off), max(off), np.mean(off), np.std(off)
    of_up = -1.0, 0.0, -0.5, 0.5
    assert statistics[::2] == pytest.approx(of_load, abs=1e-6)
    assert statistics[1::2] == pytest.approx(of_up, abs=1e-6)


def test_a_field_that_is_typically_zero_is_relative_to_its_mean_deviation() -> None:
    size = np.abs(MATRIX[:, 3]).mean()
    assert pooled(100, 7, 50, 2 * size, 1, 1)[3] == pytest.approx(2)


def test_deviations_are_cut() -> None:
    assert pooled(1e30, 7, -1e30, 0, 1, 1)[1:5:2] == [-2.0, 5.0]


@settings(deadline=None)
@given(st.permutations(range(3)), st.lists(st.floats(-3, 6), min_size=3, max_size=3))
def test_it_does_not_matter_at_which_place_something_is_off(
    order: list[int], off: list[float]
) -> None:
    matrix = np.ones((9, 3), dtype=np.float32)
    schema = Schema([Field(name=name, kind="gauge") for name in "abc"])
    module = Pooling(schema, matrix, [tuple("abc")])
    records = torch.tensor([off, [off[i] for i in order]], dtype=torch.float32)
    first, second = module(records)
    torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-5)


def test_a_missing_place_does_not_count_and_a_family_without_places_is_missing() -> None:
    statistics = pooled(110, 7, math.nan, math.nan, math.nan, math.nan)[1:]
    assert statistics[::2] == pytest.approx([0.1, 0.1, 0.1, 0.0], abs=1e-6)
    assert np.isnan(statistics[1::2]).all()


def test_a_family_without_a_required_field_may_be_missing() -> None:
    fields = Pooling(SCHEMA, MATRIX, FAMILIES).schema.fields
    assert [field.required for field in fields] == [True] + [False] * 8
    assert len({field.name for field in fields}) == 9


def test_what_is_no_number_is_not_pooled() -> None:
    with pytest.raises(RecipeError, match="'load_9' is no field that is a number"):
        Pooling(SCHEMA, MATRIX, [("load_1", "load_9")])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_graph_pools_as_torch_does(seed: int) -> None:
    random = np.random.default_rng(seed)
    matrix = (TYPICAL + random.normal(0, 3, (60, 6))).astype(np.float32)
    matrix[random.random((60, 6)) < 0.2] = np.nan
    matrix[:, 1] = np.nan_to_num(matrix[:, 1])
    shape = EncoderRecipe(families=FAMILIES, hidden=(8,), dimensions=4, members=2)
    torch.manual_seed(seed % 1000)
    encoder = Encoder(SCHEMA, matrix, np.arange(60) % 3, shape).eval()
    graph = export(encoder, matrix)
    gap = np.abs(OnnxEncoder(graph).embed(matrix) - embed(encoder, matrix)).max()
    assert gap < 1e-5
