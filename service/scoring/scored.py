"""A chunk of records with the model's decisions: what writers write and observers see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from models import Decisions
from models.schema import Matrix
from service.formats.chunk import Chunk
from service.scoring.explain import Driver

__all__ = ["Observer", "Scored"]


@dataclass(slots=True)
class Scored:
    """A chunk with the model's decisions.

    Attributes:
        chunk: the records, and the faults of those that do not fit.
        matrix: the records that fit: float32 [n, fields], NaN where missing.
        decisions: one for each record that fits.
        labels: the same in words.
        embeddings: float32 [n, N], where they are wanted.
        explanations: what drove each verdict, where that is wanted.
        assembled: whether ingestion made the records: the live page has them by their keys.
    """

    chunk: Chunk
    matrix: Matrix
    decisions: Decisions
    labels: list[str]
    embeddings: Matrix | None = None
    explanations: Sequence[list[Driver]] | None = None
    assembled: bool = False


Observer = Callable[[Scored], None]
"""Sees every chunk right after it was written; must not mutate or block."""
