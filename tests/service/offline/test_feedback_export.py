"""What operators taught the service becomes a table that training takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import typer
from typer.testing import CliRunner, Result

from service.classes.database import Store
from service.classes.entities import StoredClass, SupportRecord
from service.cli import export_feedback
from service.offline.feedback_export import write_feedback
from service.offline.tables import TableError

Json = dict[str, Any]
PROGRAM = str(Path(sys.executable).parent / "faultcube")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'classes.sqlite'}"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    store = Store(url)
    store.prepare()
    yield store
    store.close()


def say(store: Store, record: Json, label: str, note: str = "") -> None:
    store.add_feedback(
        who="abcd", request_id="r", bundle="b", record=record, verdict=None,
        true_label=label, note=note,
    )  # fmt: skip


def enrol(store: Store, name: str, *records: Json, good: bool = False) -> None:
    support = tuple(SupportRecord(place + 1, each) for place, each in enumerate(records))
    stored = StoredClass(name, good, "none" if good else "minor", "seen", support, next_id=9)
    after = {**store.read().classes, name: stored}
    store.commit(store.revision(), after, action="enrol", who=None, request_id="r")


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "parquet"])
def test_feedback_and_enrolled_records_are_rows(
    store: Store, good: Json, down: Json, tmp_path: Path, ending: str
) -> None:
    say(store, good, "normal", "a note, with a comma")
    say(store, down | {"extra": 1}, "link-down")
    enrol(store, "odd", down, good)
    out = tmp_path / f"out.{ending}"
    found = write_feedback(store, out, enrolled=True, force=False)
    assert found == ({"feedback": 2, "enrolled": 2}, 0)
    table = pl.read_parquet(out) if ending == "parquet" else pl.read_csv(out)
    assert table.columns == [
        *good, "extra", "label", "source", "time", "note", "label_severity"
    ]  # fmt: skip
    assert table["label_severity"].to_list() == [None, None, "minor", "minor"]
    assert table["label"].to_list() == ["normal", "link-down", "odd", "odd"]
    assert table["source"].to_list() == ["feedback"] * 2 + ["enrolled"] * 2
    assert table["cpu load"].to_list() == [12.5, 3.0, 3.0, 12.5]
    assert table["link up"].to_list() == [True, False, False, True]
    assert table["error rate"].to_list() == [0.0, None, None, 0.0]
    assert table["note"].to_list()[0] == "a note, with a comma"
    assert table["time"][0].startswith("20")


def test_good_classes_stay_enrolled_and_are_not_trained_as_faults(
    store: Store, good: Json, down: Json, tmp_path: Path
) -> None:
    enrol(store, "odd", down)
    enrol(store, "maintenance", good, down, good=True)
    enrol(store, "false alarms", down)
    hidden = replace(store.read().classes["false alarms"], hidden=True)
    after = {**store.read().classes, hidden.name: hidden}
    store.commit(store.revision(), after, action="amend", who=None, request_id="r")
    say(store, good, "maintenance")
    say(store, good, "normal")
    found = write_feedback(store, out := tmp_path / "out.csv", enrolled=True, force=False)
    assert found == ({"feedback": 1, "enrolled": 1}, 3)
    assert pl.read_csv(out)["label"].to_list() == ["normal", "odd"]


def test_much_feedback_is_written_whole(store: Store, good: Json, tmp_path: Path) -> None:
    for number in range(1203):
        say(store, good | {"cpu load": float(number)}, "normal")
    found = write_feedback(store, tmp_path / "out.csv", enrolled=False, force=False)
    assert found == ({"feedback": 1203}, 0)
    assert pl.read_csv(tmp_path / "out.csv")["cpu load"].to_list() == [*map(float, range(1203))]


def test_what_cannot_be_written_is_told_and_leaves_nothing(
    store: Store, good: Json, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    with pytest.raises(TableError, match="no feedback"):
        write_feedback(store, out, enrolled=True, force=False)
    say(store, good | {"label": 1}, "normal")
    with pytest.raises(TableError, match="'label'"):
        write_feedback(store, out, enrolled=True, force=False)
    assert [each.name for each in tmp_path.glob("*out*")] == []


def test_the_command_writes_a_table(store: Store, url: str, good: Json, tmp_path: Path) -> None:
    say(store, good, "normal")
    out = tmp_path / "out.csv"
    done = subprocess.run(
        [PROGRAM, "export-feedback", str(out)],
        env=os.environ | {"FAULTCUBE_DATABASE_URL": url},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "1 records of feedback\n")

    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(export_feedback)

    def run(*arguments: str, address: str = url) -> Result:
        return CliRunner().invoke(app, [*arguments], env={"FAULTCUBE_DATABASE_URL": address})

    again = run(str(out))
    assert (again.exit_code, again.stdout) == (2, "")
    assert "exists" in again.stderr
    assert run(str(out), "--force").exit_code == 0
    away = run(str(out), "--force", address="postgresql://nobody@127.0.0.1:1/none")
    assert away.exit_code == 2
    assert "Traceback" not in away.stderr


def test_the_command_makes_no_database(tmp_path: Path) -> None:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(export_feedback)
    address = f"sqlite:///{tmp_path / 'clases.sqlite'}"
    said = CliRunner().invoke(
        app, [str(tmp_path / "out.csv")], env={"FAULTCUBE_DATABASE_URL": address}
    )
    assert (said.exit_code, said.stdout) == (2, "")
    assert said.stderr.startswith("faultcube: FAULTCUBE_DATABASE_URL: ")
    assert said.stderr.endswith("there is no such file\n")
    assert [*tmp_path.iterdir()] == []


def test_the_committed_openapi_document_is_that_of_the_service() -> None:
    document = Path(__file__).parents[3] / "service" / "openapi.json"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FAULTCUBE_")}
    done = subprocess.run(
        [PROGRAM, "openapi"], env=environment, capture_output=True, check=True, timeout=60
    )
    assert json.loads(done.stdout) == json.loads(document.read_bytes()), (
        "run `faultcube openapi > service/openapi.json`"
    )
