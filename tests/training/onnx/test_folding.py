from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from models.encoder import Encoder as OnnxEncoder
from models.schema import UNSEEN, Field, Schema
from training.fitting.encoder import Encoder
from training.fitting.fit import embed
from training.onnx.export import check_parity, export
from training.onnx.folding import Layer, fold
from training.recipe import EncoderRecipe, Recipe, View

Matrix = np.ndarray[Any, np.dtype[np.float32]]
SHIPPED = Path(__file__).parents[3] / "training/iosxr.toml"
LARGEST = float(np.finfo(np.float32).max)
HOSTILE = [float("nan"), 0.0, -0.0, 1.0, -1.0, UNSEEN, 1e-45, 1e20, 3e38, LARGEST, -LARGEST]
VIEWS: list[View] = ["standard", "log", "bins"]
ROWS = 40


SHAPES: dict[str, Callable[[np.random.Generator], Any]] = {
    "bell": lambda random: random.normal(size=ROWS),
    "heavy tail": lambda random: np.exp(8 * random.normal(size=ROWS)),
    "far from zero": lambda random: 1e7 + random.integers(0, 100, ROWS),
    "few values": lambda random: random.integers(0, 3, ROWS),
    "nearly constant": lambda random: np.where(np.arange(ROWS) == random.integers(ROWS), 1e4, 3),
    "constant": lambda _: np.full(ROWS, 7),
    "tiny": lambda random: 1e-20 * random.normal(size=ROWS),
    "huge": lambda random: 1e35 * random.normal(size=ROWS),
    "flag": lambda random: random.random(ROWS) < 0.3,
}
"""How a number may be distributed in training."""
NUMBERS = st.sampled_from(sorted(SHAPES))
FIELDS = st.tuples(NUMBERS, st.booleans()) | st.tuples(st.integers(1, 4), st.booleans())


@st.composite
def encoders(draw: st.DrawFn) -> tuple[Encoder, Matrix]:
    """An encoder of any schema and shape, as if it had been fitted, and the rows it was fitted to.

    A number that has bins comes first: without any column to look at there is no encoder.
    """
    random = np.random.default_rng(draw(st.integers(0, 999)))
    fields, columns = [Field(name="first", kind="gauge")], [SHAPES["bell"](random)]
    for i, (what, required) in enumerate(draw(st.lists(FIELDS, max_size=4))):
        if isinstance(what, int):
            names = tuple("abcd"[:what])
            fields.append(Field(name=f"x{i}", kind="category", categories=names, required=required))
            values = random.integers(-1, what, ROWS)
        else:
            fields.append(Field(name=f"x{i}", kind="gauge", required=required))
            values = SHAPES[what](random)
        columns.append(values if required else np.where(random.random(ROWS) < 0.3, np.nan, values))
    order = draw(st.permutations(range(len(fields))))
    recipe = EncoderRecipe(
        dimensions=draw(st.integers(2, 4)),
        members=draw(st.integers(1, 3)),
        linear=draw(st.booleans()),
        views=tuple(draw(st.lists(st.sampled_from(VIEWS), min_size=1, unique=True))),
        bins=draw(st.integers(1, 4)),
        hidden=draw(st.sampled_from([(), (5,), (6, 4)])),
        gain=draw(st.sampled_from([0.5, 1.0, 4.0])),
    )
    matrix = np.stack([columns[i] for i in order], axis=1).astype(np.float32)
    return fitted(Schema([fields[i] for i in order]), matrix, recipe), matrix


def fitted(schema: Schema, matrix: Matrix, recipe: EncoderRecipe) -> Encoder:
    """An encoder whose batch normalisation has statistics, factors and shifts of its own."""
    torch.manual_seed(0)
    encoder = Encoder(schema, matrix, np.arange(len(matrix)) % 3, recipe)
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm1d) and module.affine:
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
    for _ in range(5):
        encoder.train()(torch.from_numpy(matrix))
    return encoder.eval()


def numeric(*columns: object, recipe: EncoderRecipe | None = None) -> tuple[Encoder, Matrix]:
    matrix = np.stack([np.asarray(each, dtype=np.float32) for each in columns], axis=1)
    schema = Schema([Field(name=f"x{i}", kind="gauge") for i in range(len(columns))])
    recipe = recipe or EncoderRecipe(dimensions=2, hidden=(5,), views=("standard", "log"))
    return fitted(schema, matrix, recipe), matrix


@settings(deadline=None, max_examples=60)
@given(encoders(), st.data())
def test_folded_and_unfolded_encoders_agree_whatever_is_sent(
    made: tuple[Encoder, Matrix], data: st.DataObject
) -> None:
    encoder, matrix = made
    value = st.sampled_from(HOSTILE)
    rows = data.draw(st.lists(st.tuples(*[value] * matrix.shape[1]), max_size=8))
    strange = np.array(rows, dtype=np.float32).reshape(-1, matrix.shape[1])
    some = data.draw(st.integers(0, ROWS - 1)), data.draw(st.integers(0, matrix.shape[1] - 1))
    spoiled = matrix.copy()
    spoiled[some] = data.draw(value)
    graph = export(encoder, matrix)
    check_parity(encoder, graph, np.concatenate([spoiled, strange]))


def operators(graph: bytes) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load_from_string(graph).graph.node)


def test_the_shipped_recipe_makes_a_lean_graph() -> None:
    random = np.random.default_rng(0)
    recipe = Recipe.read(SHIPPED, {}).encoder
    encoder, matrix = numeric(*random.normal(size=(3, ROWS)), recipe=recipe)
    found = operators(export(encoder, matrix))
    assert found["Gemm"] == 3 * recipe.members + 1 + 1  # whitening, and the distances
    assert found.pop("Relu") == 2 * recipe.members  # onnxruntime makes each one with its Gemm
    assert found.total() <= 28 + 8  # what the distances are made of
    assert not found.keys() & {"BatchNormalization", "Gather", "GatherND", "Transpose", "Reshape"}


def test_views_that_nobody_looks_at_are_left_out() -> None:
    random = np.random.default_rng(0)
    columns = random.normal(size=(3, ROWS))
    found = {}
    for view in VIEWS:
        recipe = EncoderRecipe(dimensions=2, members=1, linear=False, hidden=(4,), views=(view,))
        encoder, matrix = numeric(*columns, recipe=recipe)
        found[view] = operators(export(encoder, matrix))
    assert "Log" not in found["standard"]
    assert "Log" not in found["bins"]
    assert "Concat" not in found["log"]
    assert [view for view in VIEWS if "Gather" in found[view]] == ["bins"]
    assert [view for view in VIEWS if "Where" in found[view]] == ["bins"]


def test_a_median_at_the_end_of_float32_does_not_make_the_other_end_missing() -> None:
    random = np.random.default_rng(0)
    far = 3e38 + 1e37 * random.random(ROWS)
    encoder, matrix = numeric(far, random.normal(size=ROWS))
    graph = export(encoder, matrix)
    ends = np.array([[-LARGEST, 0], [LARGEST, 0], [np.nan, 0]], dtype=np.float32)
    check_parity(encoder, graph, ends)
    lowest, _, missing = OnnxEncoder(graph).embed(ends)
    assert not np.allclose(lowest, missing, atol=1e-2)


def test_a_spread_far_below_the_deviation_loses_neither() -> None:
    random = np.random.default_rng(0)
    wide = 1e-25 * random.normal(size=ROWS)
    wide[:6] = 1e15 * random.normal(size=6)
    encoder, matrix = numeric(wide, random.normal(size=ROWS))
    assert (encoder.scaling.scale / encoder.scaling.spread).max() > 1e30
    folded = fold(encoder)
    np.testing.assert_array_equal(folded.windows["standard"].divisor, encoder.scaling.scale.numpy())
    between = np.array([[10.0**k, 0] for k in range(-30, 30)], dtype=np.float32)
    check_parity(encoder, export(encoder, matrix), between)


def test_small_steps_far_from_zero_stay_apart() -> None:
    random = np.random.default_rng(0)
    encoder, matrix = numeric(1.6e7 + random.integers(0, 20, ROWS), random.normal(size=ROWS))
    steps = np.array([[1.6e7 + k, 0] for k in range(20)], dtype=np.float32)
    graph = export(encoder, matrix)
    np.testing.assert_allclose(
        OnnxEncoder(graph).embed(steps), embed(encoder, steps), rtol=0, atol=2e-6
    )


@pytest.mark.parametrize("scatter", [5e-3, 1e-3, 1e-4, 1e-5])
def test_classes_that_hardly_scatter_cost_no_more_digits_than_in_torch(scatter: float) -> None:
    random = np.random.default_rng(0)
    centres, noise = random.normal(size=(3, 6)), random.normal(size=(600, 6))
    rows = (centres[np.arange(600) % 3] + scatter * noise).astype(np.float32)
    encoder, matrix = numeric(*rows.T)
    assert encoder.whitening is not None
    assert encoder.whitening.root.max() > 100
    between = (centres[np.arange(600) % 3] + noise).astype(np.float32)
    check_parity(encoder, export(encoder, matrix), between)


def test_a_layer_takes_in_the_maps_before_and_behind_it() -> None:
    random = np.random.default_rng(0)
    layer = Layer(random.normal(size=(3, 2)), random.normal(size=2))
    x, factor, shift = random.normal(size=(3, 3))
    after = layer.after(factor, shift)
    expected = (x * factor + shift) @ layer.weight + layer.bias
    np.testing.assert_allclose(x @ after.weight + after.bias, expected, rtol=1e-12)
    then = layer.then(factor[:2], shift[:2])
    expected = (x @ layer.weight + layer.bias) * factor[:2] + shift[:2]
    np.testing.assert_allclose(x @ then.weight + then.bias, expected, rtol=1e-12)


@pytest.mark.parametrize(("hidden", "chains", "depth"), [((), 1, 1), ((5,), 3, 2), ((5, 4), 3, 3)])
def test_every_member_is_a_chain_of_its_own_behind_the_first_layer(
    hidden: tuple[int, ...], chains: int, depth: int
) -> None:
    recipe = EncoderRecipe(dimensions=2, members=3, hidden=hidden, linear=False, views=("log",))
    encoder, _ = numeric(np.arange(ROWS), np.arange(ROWS) % 7, recipe=recipe)
    folded = fold(encoder)
    assert [len(member) for member in folded.members] == [depth] * chains
    assert sum(member[-1].bias.size for member in folded.members) == folded.dimensions == 6
    assert folded.seen == ("log",)
    assert folded.whitening is None
