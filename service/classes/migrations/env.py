"""What alembic runs: the migrations, within the transaction that `Store.prepare` has begun."""

from __future__ import annotations

from alembic import context

from service.classes.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
