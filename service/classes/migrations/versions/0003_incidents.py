"""Incidents, their history, what is to be told of them, and checkpoints of what makes them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "incidents",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("root", sa.Text),
        sa.Column("first", sa.Double, nullable=False),
        sa.Column("last", sa.Double, nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("people", sa.Text, nullable=False),
    )
    op.create_index("incidents_by_time", "incidents", ["first", "id"])
    op.create_index("incidents_by_status", "incidents", ["status", "first", "id"])
    op.create_table(
        "incident_members",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("incident", sa.Text, primary_key=True),
    )
    op.create_table(
        "incident_changes",
        sa.Column(
            "number",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            sa.Identity(),
            primary_key=True,
        ),
        sa.Column("incident", sa.Text, nullable=False, index=True),
        sa.Column("sequence", sa.Integer),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("time", sa.Double),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("key", sa.Text),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("who", sa.Text),
        sa.Column("request_id", sa.Text),
        sa.Column("idempotency_key", sa.Text, unique=True),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "outbox",
        sa.Column("incident", sa.Text, primary_key=True),
        sa.Column("target", sa.Text, primary_key=True),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("sent", sa.Integer, nullable=False),
        sa.Column("sent_at", sa.Double, nullable=False),
    )
    op.create_table(
        "checkpoints",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
        sa.Column("incidents", sa.LargeBinary, nullable=False),
    )


def downgrade() -> None:
    """Drop the tables."""
    for name in ("checkpoints", "outbox", "incident_changes", "incident_members", "incidents"):
        op.drop_table(name)
