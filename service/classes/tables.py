"""Tables of the database of classes and profiles; documents are JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from service.classes.entities import StoredClass, StoredProfile

__all__ = [
    "METADATA",
    "EscapedText",
    "Json",
    "PlacedClass",
    "UtcTime",
    "classes",
    "feedback",
    "profiles",
    "revisions",
]


class PlacedClass(msgspec.Struct):
    """A class and its position in the order of enrolment, as the history keeps them."""

    place: int
    stored: StoredClass


class Json(sa.types.TypeDecorator[Any]):
    """A value as JSON."""

    impl = sa.Text
    cache_ok = True

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.kind, self._decoder = kind, msgspec.json.Decoder(kind)

    def process_bind_param(self, value: Any, _dialect: sa.Dialect) -> str:
        """Return what is kept."""
        return msgspec.json.encode(value).decode()

    def process_result_value(self, value: Any, _dialect: sa.Dialect) -> Any:
        """Return the value."""
        return self._decoder.decode(value)


class EscapedText(sa.types.TypeDecorator[str]):
    """Text with the escapes of JSON: PostgreSQL has no zero character."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, _dialect: sa.Dialect) -> str | None:
        """Return what is kept."""
        return value and msgspec.json.encode(value)[1:-1].decode()

    def process_result_value(self, value: str | None, _dialect: sa.Dialect) -> str | None:
        """Return the value."""
        return value and msgspec.json.decode(f'"{value}"', type=str)


class UtcTime(sa.types.TypeDecorator[datetime]):
    """A time in UTC; SQLite knows no time zones."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: sa.Dialect) -> datetime | None:
        """Return what is kept."""
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, _dialect: sa.Dialect) -> datetime | None:
        """Return the value."""
        return value and value.replace(tzinfo=value.tzinfo or UTC).astimezone(UTC)


METADATA: Final = sa.MetaData()
"""The tables of the newest version; the migrations make them."""

classes: Final = sa.Table(
    "classes",
    METADATA,
    sa.Column("name", EscapedText, primary_key=True),
    sa.Column("place", sa.Integer, nullable=False),
    sa.Column("document", Json(StoredClass), nullable=False),
)
profiles: Final = sa.Table(
    "profiles",
    METADATA,
    sa.Column("site", EscapedText, primary_key=True),
    sa.Column("document", Json(StoredProfile), nullable=False),
)
_site_changes = Json(dict[str, StoredProfile | None])
revisions: Final = sa.Table(
    "revisions",
    METADATA,
    sa.Column("revision", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", UtcTime, nullable=False),
    sa.Column("action", EscapedText, nullable=False),
    sa.Column("who", EscapedText),
    sa.Column("request_id", EscapedText, nullable=False),
    sa.Column("before", Json(dict[str, PlacedClass | None]), nullable=False),
    sa.Column("after", Json(dict[str, PlacedClass | None]), nullable=False),
    sa.Column("idempotency_key", EscapedText, unique=True),
    sa.Column("idempotency_digest", EscapedText),
    sa.Column("answer", sa.LargeBinary, nullable=False),
    sa.Column("profiles_before", _site_changes, nullable=False, server_default="{}"),
    sa.Column("profiles_after", _site_changes, nullable=False, server_default="{}"),
)
feedback: Final = sa.Table(
    "feedback",
    METADATA,
    sa.Column(
        "id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), sa.Identity(), primary_key=True
    ),
    sa.Column("at", UtcTime, nullable=False),
    sa.Column("who", EscapedText),
    sa.Column("request_id", EscapedText, nullable=False),
    sa.Column("bundle", EscapedText, nullable=False),
    sa.Column("record", Json(dict[str, Any]), nullable=False),
    sa.Column("verdict", EscapedText),
    sa.Column("true_label", EscapedText, nullable=False),
    sa.Column("note", EscapedText, nullable=False),
    sqlite_autoincrement=True,
)
