"""A site whose records a request carries: how they are brought to the levels of the training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from models.profile import Adaptation
from models.schema import Matrix
from service.formats.chunk import Chunk

__all__ = ["Site"]


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """A site, as one model serves it.

    Attributes:
        header: says in the response which profile was used.
        adapt: None while there is no profile yet.
        offer: takes the records as they were sent, float32 [n, fields]: to learn from them.
    """

    header: tuple[bytes, bytes]
    adapt: Adaptation | None
    offer: Callable[[Matrix], None]

    def read(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        """Yield the chunks with their records adapted."""
        for chunk in chunks:
            self.offer(chunk.matrix)
            yield chunk if self.adapt is None else Chunk(self.adapt(chunk.matrix), chunk.faults)
