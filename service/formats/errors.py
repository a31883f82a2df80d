"""What is wrong with an input, without a word about HTTP.

Records that do not fit the schema raise `models.RecordError`; everything else that is wrong with a
body raises `MalformedInputError`.
"""

from __future__ import annotations

from typing import Any

from models import FieldError, RecordError

__all__ = ["MalformedInputError", "count_error", "entry_of", "printable"]


class MalformedInputError(Exception):
    """The input is not what its content type says; the message repeats nothing of it."""


def count_error(max_records: int, got: str) -> RecordError:
    """Return the error of a request that holds no records, or too many."""
    return RecordError.of_request("records", f"a list of 1 to {max_records} records", got)


def entry_of(fault: FieldError) -> dict[str, Any]:
    """Return a fault as it is sent: `record` and `field` where it has them, `expected`, `got`."""
    entry: dict[str, Any] = {} if fault.record is None else {"record": fault.record}
    if fault.field is not None:
        entry["field"] = printable(fault.field, 100)
    return entry | {"expected": printable(fault.expected, 200), "got": fault.got}


def printable(text: str, max_length: int) -> str:
    """Shorten a text that others wrote, and replace what would confuse a terminal."""
    short = text if len(text) <= max_length else text[: max_length - 1] + "…"
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in short)
