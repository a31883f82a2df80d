"""What SQLite and PostgreSQL have in common for `Store`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

__all__ = ["TIMEOUT", "Backend"]

TIMEOUT: Final = 5.0
"""Seconds to wait for a lock, an answer or a free connection."""


@dataclass(frozen=True, slots=True)
class Backend:
    """Engines of one database, which share a pool.

    Attributes:
        name: of the database, for messages.
        check: raises UnusableError if the database must not be used as it is.
        write_fault: returns why nothing can be written now, "" if something can; changes nothing.
        writing: of its transactions, those with the same execution option `lock` (a number)
            exclude each other; `unlimited` lifts the timeouts of the connection.
        statement: for single statements.
        snapshot: for statements that must see the same state.
    """

    name: str
    check: Callable[[], None]
    write_fault: Callable[[], str]
    writing: sa.Engine
    statement: sa.Engine
    snapshot: sa.Engine
