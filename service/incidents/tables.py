"""Tables of incidents, in the database of the classes; the migrations make them."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from service.classes.tables import METADATA, EscapedText, Json, UtcTime
from service.incidents.incident import Incident
from service.incidents.storage import People

__all__ = ["changes", "checkpoints", "incidents", "members", "outbox", "tellers"]

incidents: Final = sa.Table(
    "incidents",
    METADATA,
    sa.Column("id", EscapedText, primary_key=True),
    sa.Column("status", EscapedText, nullable=False),
    sa.Column("label", EscapedText, nullable=False),
    sa.Column("root", EscapedText),
    sa.Column("first", sa.Double, nullable=False),
    sa.Column("last", sa.Double, nullable=False),
    sa.Column("sequence", sa.Integer, nullable=False),
    sa.Column("document", Json(Incident), nullable=False),
    sa.Column("people", Json(People), nullable=False),
    sa.Index("incidents_by_time", "first", "id"),
    sa.Index("incidents_by_status", "status", "first", "id"),
)
members: Final = sa.Table(
    "incident_members",
    METADATA,
    sa.Column("key", EscapedText, primary_key=True),
    sa.Column("incident", EscapedText, primary_key=True),
)
changes: Final = sa.Table(
    "incident_changes",
    METADATA,
    sa.Column(
        "number",
        sa.BigInteger().with_variant(sa.Integer, "sqlite"),
        sa.Identity(),
        primary_key=True,
    ),
    sa.Column("incident", EscapedText, nullable=False, index=True),
    sa.Column("sequence", sa.Integer),
    sa.Column("kind", EscapedText, nullable=False),
    sa.Column("time", sa.Double),
    sa.Column("at", UtcTime, nullable=False),
    sa.Column("key", EscapedText),
    sa.Column("note", EscapedText, nullable=False),
    sa.Column("who", EscapedText),
    sa.Column("request_id", EscapedText),
    sa.Column("idempotency_key", EscapedText, unique=True),
    sqlite_autoincrement=True,
)
outbox: Final = sa.Table(
    "outbox",
    METADATA,
    sa.Column("incident", EscapedText, primary_key=True),
    sa.Column("target", EscapedText, primary_key=True),
    sa.Column("sequence", sa.Integer, nullable=False),
    sa.Column("sent", sa.Integer, nullable=False),
    sa.Column("sent_at", sa.Double, nullable=False),
)
tellers: Final = sa.Table(
    "tellers",
    METADATA,
    sa.Column("target", EscapedText, primary_key=True),
    sa.Column("owner", EscapedText, nullable=False),
    sa.Column("until", sa.Double, nullable=False),
)
checkpoints: Final = sa.Table(
    "checkpoints",
    METADATA,
    sa.Column("name", EscapedText, primary_key=True),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("document", sa.LargeBinary, nullable=False),
    sa.Column("incidents", sa.LargeBinary, nullable=False),
)
