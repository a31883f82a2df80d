"""Profiles of sites, in the same history as the classes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_CHANGES = ("profiles_before", "profiles_after")


def upgrade() -> None:
    """Make the table, and its part of the history."""
    op.create_table(
        "profiles",
        sa.Column("site", sa.Text, primary_key=True),
        sa.Column("document", sa.Text, nullable=False),
    )
    for name in _CHANGES:  # a process of the version before goes on without them
        op.add_column("revisions", sa.Column(name, sa.Text, nullable=False, server_default="{}"))


def downgrade() -> None:
    """Drop them."""
    for name in _CHANGES:
        op.drop_column("revisions", name)
    op.drop_table("profiles")
