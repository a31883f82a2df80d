"""A bound on the bytes of request bodies that are held at a time."""

from __future__ import annotations

from service.web.problems import OVERLOADED, Problem

__all__ = ["ByteBudget"]


class ByteBudget:
    """Bytes of bodies that all requests together may hold.

    Args:
        limit: in bytes.

    Attributes:
        held: bytes held now.
    """

    __slots__ = ("held", "limit")

    def __init__(self, limit: int) -> None:
        self.limit, self.held = limit, 0

    def hold(self, size: int) -> None:
        """Hold more bytes.

        Raises:
            Problem: `OVERLOADED`; nothing is added.
        """
        if self.held + size > self.limit:
            raise Problem(OVERLOADED)
        self.held += size

    def release(self, size: int) -> None:
        """Release bytes."""
        self.held -= size
