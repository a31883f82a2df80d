"""Variants of the encoder that ships, as far as they must be exact."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.encoder.variants import variants
from benchmarks.harness.records import BUNDLE, real_records
from models.encoder import Encoder
from models.schema import Matrix


@pytest.fixture(scope="module")
def records() -> Matrix:
    return real_records(15_771).matrix


@pytest.fixture(scope="module")
def made(records: Matrix) -> dict[str, bytes]:
    return variants((BUNDLE / "encoder.onnx").read_bytes(), records)


@pytest.mark.parametrize(
    ("name", "nearer", "farther"),
    [
        ("first layers in one product", 1e-5, -1),
        ("whitened part of rank 66", 1e-5, 0),
        ("weights in float16", 1e-3, 0),
        ("whitened part of rank 46", 1, 1e-3),
        ("products in int8", 1, 1e-3),
    ],
)
def test_a_variant_loses_what_it_may(
    made: dict[str, bytes], records: Matrix, name: str, nearer: float, farther: float
) -> None:
    shipped = Encoder((BUNDLE / "encoder.onnx").read_bytes()).embed(records)
    off = np.abs(Encoder(made[name]).embed(records) - shipped).max()
    assert farther < off < nearer


def test_narrower_weights_take_less_room(made: dict[str, bytes]) -> None:
    shipped = (BUNDLE / "encoder.onnx").stat().st_size
    assert len(made["products in int8"]) < shipped / 2
    assert len(made["weights in float16"]) < shipped
