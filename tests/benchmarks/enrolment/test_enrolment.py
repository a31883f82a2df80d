from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import typer
from typer.testing import CliRunner

from benchmarks.enrolment import client
from benchmarks.enrolment.__main__ import PARTS, main, merged
from benchmarks.enrolment.acceptance import shares
from benchmarks.enrolment.database import fill
from benchmarks.enrolment.kills import Tally
from benchmarks.enrolment.one_shot import records_of, scores
from benchmarks.enrolment.options import Options
from benchmarks.enrolment.throughput import Sample, ratios
from benchmarks.harness.client import ServerError
from benchmarks.harness.report import Section, at_least, info
from service.classes.database import Store
from training.dataset.dataset import Rows

app = typer.Typer()
app.command()(main)


def test_a_part_that_is_not_known_is_refused_before_anything_starts(tmp_path: Path) -> None:
    out = tmp_path / "out.md"
    env = {"COLUMNS": "200", "NO_COLOR": "1"}
    result = CliRunner().invoke(app, ["--only", "kills,flood", "--out", str(out)], env=env)
    assert result.exit_code == 2
    assert "no part is called 'flood'" in result.output
    assert not out.exists()


def test_a_part_replaces_its_own_section_and_no_other() -> None:
    order = ["One", "Two", "Three"]
    first = merged("", {"Three": "## Three\n\nold", "One": "## One\n\nkept"}, order)
    assert first.startswith("# Enrolment\n")
    second = merged(first, {"Three": "## Three\n\nnew"}, order)
    assert second == first.replace("old", "new")
    third = merged(second, {"Two": "## Two\n\nmore"}, order)
    assert third.index("## One") < third.index("## Two") < third.index("## Three")
    assert third.count("kept") == third.count("new") == third.count("# Enrolment") == 1
    assert merged(third, {}, ["One", "Three"]) == second


def test_every_title_is_of_one_part() -> None:
    assert len({part.title for part in PARTS.values()}) == len(PARTS) == 5


def test_a_section_tells_how_it_was_measured_and_what_it_must_reach() -> None:
    figures = [info("enrolments", "7"), at_least("macro-F1", 0.8279, 0.828, 3)]
    text = "\n".join(Section("One", "So it was done.", figures).lines(["- how"]))
    assert text.startswith("## One\n\n- how\n\nSo it was done.\n\n| what |")
    assert "| macro-F1 | 0.828 | ≥ 0.828 | **not reached** |" in text
    assert shares([0.12345, 1]) == ["12.3", "100.0"]


def test_the_parts_are_measured_and_a_failure_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, seen = tmp_path / "out.md", []

    def fine(options: Options) -> Section:
        seen.append((options.kills, options.folder.is_dir(), options.data.is_absolute()))
        return Section("Kills", "So.", [info("number", "1")])

    def broken(_: Options) -> Section:
        raise ServerError("it ended")

    monkeypatch.setitem(PARTS, "kills", type(PARTS["kills"])("Kills", fine))
    monkeypatch.setitem(PARTS, "replicas", type(PARTS["kills"])("Replicas", broken))
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("benchmarks.enrolment.__main__.ROOT", tmp_path)
    asked = ["--only", "kills,replicas", "--kills", "3", "--out", str(out)]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 1
    assert seen == [(3, True, True)]
    text = out.read_text(encoding="utf-8")
    assert "## Kills" in text
    assert "## Replicas" not in text
    assert (tmp_path / "build" / "enrolment" / "failed-replicas").is_dir()


def test_rows_become_records_as_a_client_would_send_them() -> None:
    table = pl.DataFrame({"a": [1.5, None], "b": ["2", "nan"], "label": ["x", "y"]})
    rows = Rows(np.zeros((2, 2), np.float32), np.zeros(2, np.int64), table)
    assert records_of(rows, ["a", "b"]) == [{"a": 1.5, "b": 2.0}, {"a": None, "b": None}]


def test_unknown_is_wrong_and_no_class_of_its_own() -> None:
    right = ["normal", "normal", "flap", "flap"]
    found = scores(right, ["normal", "unknown", "flap", "flap"], "flap")
    assert (found.accuracy, found.recall) == (0.75, 1)
    assert found.macro_f1 == pytest.approx((2 / 3 + 1) / 2)


def test_what_was_acknowledged_and_is_gone_is_never_forgotten() -> None:
    tally = Tally(acknowledged={"a": {}, "b": {}}, sent={"a": {}, "b": {}, "c": {}})
    tally.compare({"a", "c", "d"})
    assert (tally.missing, tally.strangers, tally.unanswered) == ({"b"}, {"d"}, 2)
    tally.compare({"a", "b", "c"})
    assert (tally.missing, tally.strangers, tally.unanswered) == ({"b"}, {"d"}, 1)


def test_ratios_are_those_of_the_same_round() -> None:
    none = [Sample(100, 200, 0), Sample(50, 200, 0), Sample(100, 200, 0)]
    some = [Sample(90, 180, 0), Sample(45, 100, 0), Sample(95, 190, 0)]
    assert ratios(some, none) == (0.9, 0.9)


def test_classes_are_put_into_a_database_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'classes.sqlite'}"
    fill(url, 3)
    store = Store(url)
    snapshot = store.read()
    store.close()
    assert snapshot.revision == 1
    assert list(snapshot.classes) == ["class-0", "class-1", "class-2"]
    assert all(len(each.records) == 1 for each in snapshot.classes.values())
    assert len(client.records(3)[0]) == 46
