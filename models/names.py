"""What a class may be called, and a site: one rule, whether it is trained or enrolled.

A name is text for people that also stands in addresses, tables, metrics and logs. So it is written
in one way only (Unicode NFC), nothing of it is invisible or changes how text around it is read, and
no two names of one model may differ in case or blanks alone.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Annotated, Final

import pydantic

__all__ = [
    "DOCUMENTED",
    "LONGEST_NAME",
    "UNKNOWN",
    "GivenName",
    "Name",
    "check",
    "clash",
    "composed",
    "folded",
]

LONGEST_NAME: Final = 200
"""Characters of a name."""
UNKNOWN: Final = "unknown"
"""The verdict on a record that no class accepts; no class may have this name."""

_RESERVED: Final = (UNKNOWN, "(unfit)")
"""Labels that are no classes."""
_UNFIT = (
    r"/\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    r"\ufff9-\ufffb"
)
"""The slash, controls, marks of direction and what is invisible; scripts need the joiners."""
_INNER, _OUTER, _NO_DOT = rf"[^{_UNFIT}]", rf"[^\s{_UNFIT}]", rf"[^.\s{_UNFIT}]"
# Names of one, of two and of more characters; some readers of JSON Schema cannot look around.
_PATTERN: Final = rf"^({_NO_DOT}|{_NO_DOT}{_OUTER}|{_OUTER}{_NO_DOT}|{_OUTER}{_INNER}+{_OUTER})$"
_NAME = re.compile(_PATTERN)
_SURROGATE = re.compile(r"[\ud800-\udfff]")
DOCUMENTED: Final[dict[str, str | int]] = {
    "minLength": 1,
    "maxLength": LONGEST_NAME,
    "pattern": _PATTERN,
}
"""The rule as JSON Schema."""


def composed(name: str) -> str:
    """Return a name in Unicode NFC, as all names are kept."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def folded(name: str) -> str:
    """Return what names that differ in case, blanks or composition alone have in common."""
    return composed(" ".join(name.split()).casefold())


def check(name: str) -> str:
    """Return a name that may be one.

    Raises:
        ValueError: it may not; the message is what is expected of one.
    """
    if not 0 < len(name) <= LONGEST_NAME:
        raise ValueError(f"a name of 1 to {LONGEST_NAME} characters")
    if name in {".", ".."}:
        raise ValueError("a name that is not . or .., which addresses drop")
    if not _NAME.fullmatch(name) or _SURROGATE.search(name):
        raise ValueError("a name without slashes, control characters and blanks at its ends")
    if name != composed(name):
        raise ValueError("a name in Unicode NFC")
    return name


def clash(name: str, others: Iterable[str]) -> str | None:
    """Return which of other names, or of labels that are no classes, a name is confused with."""
    like = folded(name)
    return next((other for other in (*_RESERVED, *others) if folded(other) == like), None)


_schema = pydantic.Field(json_schema_extra={**DOCUMENTED})
Name = Annotated[str, pydantic.AfterValidator(check), _schema]
"""A name in a document."""
GivenName = Annotated[
    str, pydantic.AfterValidator(composed), pydantic.AfterValidator(check), _schema
]
"""A name as somebody types it, in any composition."""
