"""Tables of the database of classes and profiles; documents are JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from service.classes.entities import StoredClass, StoredProfile

__all__ = ["METADATA", "PlacedClass", "classes", "feedback", "profiles", "revisions"]


class PlacedClass(msgspec.Struct):
    """A class and its position in the order of enrolment, as the history keeps them."""

    place: int
    stored: StoredClass


class _Json(sa.types.TypeDecorator[Any]):
    """A value as JSON."""

    impl = sa.Text
    cache_ok = True

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.kind, self._decoder = kind, msgspec.json.Decoder(kind)

    def process_bind_param(self, value: Any, _dialect: sa.Dialect) -> str:
        return msgspec.json.encode(value).decode()

    def process_result_value(self, value: Any, _dialect: sa.Dialect) -> Any:
        return self._decoder.decode(value)


class _EscapedText(sa.types.TypeDecorator[str]):
    """Text with the escapes of JSON: PostgreSQL has no zero character."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, _dialect: sa.Dialect) -> str | None:
        return value and msgspec.json.encode(value)[1:-1].decode()

    def process_result_value(self, value: str | None, _dialect: sa.Dialect) -> str | None:
        return value and msgspec.json.decode(f'"{value}"', type=str)


class _UtcTime(sa.types.TypeDecorator[datetime]):
    """A time in UTC; SQLite knows no time zones."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: sa.Dialect) -> datetime | None:
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, _dialect: sa.Dialect) -> datetime | None:
        return value and value.replace(tzinfo=value.tzinfo or UTC).astimezone(UTC)


METADATA: Final = sa.MetaData()
"""The tables of the newest version; the migrations make them."""

classes: Final = sa.Table(
    "classes",
    METADATA,
    sa.Column("name", _EscapedText, primary_key=True),
    sa.Column("place", sa.Integer, nullable=False),
    sa.Column("document", _Json(StoredClass), nullable=False),
)
profiles: Final = sa.Table(
    "profiles",
    METADATA,
    sa.Column("site", _EscapedText, primary_key=True),
    sa.Column("document", _Json(StoredProfile), nullable=False),
)
_site_changes = _Json(dict[str, StoredProfile | None])
revisions: Final = sa.Table(
    "revisions",
    METADATA,
    sa.Column("revision", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", _UtcTime, nullable=False),
    sa.Column("action", _EscapedText, nullable=False),
    sa.Column("who", _EscapedText),
    sa.Column("request_id", _EscapedText, nullable=False),
    sa.Column("before", _Json(dict[str, PlacedClass | None]), nullable=False),
    sa.Column("after", _Json(dict[str, PlacedClass | None]), nullable=False),
    sa.Column("idempotency_key", _EscapedText, unique=True),
    sa.Column("idempotency_digest", _EscapedText),
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
    sa.Column("at", _UtcTime, nullable=False),
    sa.Column("who", _EscapedText),
    sa.Column("request_id", _EscapedText, nullable=False),
    sa.Column("bundle", _EscapedText, nullable=False),
    sa.Column("record", _Json(dict[str, Any]), nullable=False),
    sa.Column("verdict", _EscapedText),
    sa.Column("true_label", _EscapedText, nullable=False),
    sa.Column("note", _EscapedText, nullable=False),
    sqlite_autoincrement=True,
)
