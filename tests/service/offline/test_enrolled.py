from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from service.classes.database import VERSIONS, Store
from service.offline.enrolled import read_classes
from service.offline.tables import TableError


def test_to_read_classes_makes_and_changes_no_database(tmp_path: Path) -> None:
    path = tmp_path / "state" / "classes.sqlite"
    with pytest.raises(TableError, match="there is no such file"):
        read_classes(f"sqlite:///{path}", None)
    assert not path.parent.exists()
    path.parent.mkdir()
    with closing(Store(f"sqlite:///{path}")) as store:
        store.prepare()
    assert read_classes(f"sqlite:///{path}", None).classes == {}
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{VERSIONS[0]}'")
    engine.dispose()
    with pytest.raises(TableError, match=rf"of version {VERSIONS[0]}, and not of {VERSIONS[-1]}"):
        read_classes(f"sqlite:///{path}", None)
