"""Batches of real records with their right labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.harness.records import Batch, real_records
from benchmarks.serving.peers.predictor import Predictor


def batches(sizes: Sequence[int]) -> dict[int, Batch]:
    """Return a batch of each size in records; smaller ones are the beginning of the largest."""
    batch = real_records(max(sizes))
    predictor = Predictor()
    labels = predictor.names_of(predictor.columns(batch.matrix)["label"])
    labelled = replace(batch, labels=tuple(labels))
    return {size: labelled.first(size) for size in sizes}
