"""The encoder that ships gives the same embeddings wherever it is evaluated."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.encoder.evaluate import evaluator
from benchmarks.harness.records import BUNDLE
from benchmarks.serving.records import batches
from models import Model


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_another_library_gives_the_same_embeddings(library: str) -> None:
    records = batches([100])[100].matrix.copy()
    records[::7, ::5] = np.nan
    evaluate = evaluator((BUNDLE / "encoder.onnx").read_bytes(), library)
    given = records if library == "numpy" else torch.from_numpy(records)
    embeddings = np.asarray(evaluate(given))
    np.testing.assert_allclose(embeddings, Model.load(BUNDLE).encoder.embed(records), atol=1e-5)
