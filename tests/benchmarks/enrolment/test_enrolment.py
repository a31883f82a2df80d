from __future__ import annotations

import hashlib
import http.client
import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import typer
from typer.testing import CliRunner

from benchmarks.enrolment import acceptance, client
from benchmarks.enrolment.__main__ import PARTS, main, merged
from benchmarks.enrolment.acceptance import BORROWED, Case, Cells, Points, borrowed, drawn, shares
from benchmarks.enrolment.client import AdminClient
from benchmarks.enrolment.database import fill
from benchmarks.enrolment.kills import Tally
from benchmarks.enrolment.one_shot import records_of, scores
from benchmarks.enrolment.options import Options
from benchmarks.enrolment.throughput import Sample, ratios
from benchmarks.harness import postgres
from benchmarks.harness.client import ServerError
from benchmarks.harness.report import Section, at_least, info, table
from models.decision import NearestCentroid
from models.support import support_radius
from service.classes import preview
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


@pytest.fixture
def case() -> Case:
    """Good traffic at 0.1, a fault at 0.9, and two classes in between that the fit never saw."""
    random = np.random.default_rng(1)

    def points(number: int) -> Points:
        middles = np.array([0.1, 0.9, 0.4, 0.6], np.float32)
        places = np.repeat(np.arange(4), number)
        spread = random.normal(scale=0.01, size=(4 * number, 8)).astype(np.float32)
        return Points(middles[places][:, None] + spread, places)

    rule = NearestCentroid(
        centroids=np.array([[0.1] * 8, [0.9] * 8], np.float32),
        radii=np.array([0.001, 0.002], np.float32),
        temperature=0.01,
        scatter=1e-4,
    )
    known = points(20)
    return Case("made", rule, 0.01, ("third", "fourth"), known, known, points(30))


def test_far_classes_get_their_own_records_and_no_others(case: Case) -> None:
    found = list(drawn(case, 5, 4))
    assert len(found) == 4
    for cells in found:
        assert len(cells) == 2
        for each in cells:
            assert each.accepted > 0.9
            assert each.accepted + each.unknown + each.lost == pytest.approx(1)
            assert (each.false, each.known, each.good, each.harmed) == (0, 0, 0, 0)


def test_a_class_that_borrows_too_much_takes_others(case: Case) -> None:
    near = Points(case.test.points.copy(), case.test.classes)
    near.points[near.classes == 0] += 0.2  # good traffic moves towards the third class
    moved = Case("made", case.rule, 0.01, case.held_out, case.known, case.dev, near)
    tight, wide = (list(drawn(moved, 1, 2, borrow)) for borrow in (lambda *_: 0.0, lambda *_: 1.0))
    assert all(cells[0].good == 0 for cells in tight)
    assert all(cells[0].good > 0.9 for cells in wide)
    assert all(cells[0].false == pytest.approx(cells[0].good / 3) for cells in wide)
    assert all(cells[0].known == pytest.approx(cells[0].good / 2) for cells in wide)
    assert all(cells[0].harmed == 0 for cells in wide)  # they were unknown before
    assert not any(each.refused for cells in wide for each in cells)  # its dev rows did not move


def test_a_class_that_takes_over_another_one_is_said_to_be_refused(case: Case) -> None:
    close = Points(case.known.points.copy(), case.known.classes)
    close.points[close.classes == 2] -= 0.28
    dev = Points(case.dev.points.copy(), case.dev.classes)
    dev.points[dev.classes == 0] += 0.02  # good traffic is still accepted, but nearer to the third
    same = Case("made", case.rule, 0.01, case.held_out, close, dev, case.test)
    found = list(drawn(same, 5, 4))
    assert all(third.refused and not fourth.refused for third, fourth in found)
    cells = acceptance._row("made", "third", 5, [third for third, _ in found])
    row = table(acceptance._HEADS, [cells])[2]
    assert row.endswith("| 100 | none |")
    assert (acceptance._SWALLOWED, acceptance._SWALLOWED_GOOD) == (
        preview._SWALLOWED,
        preview._SWALLOWED_GOOD,
    )
    assert row.count("|") == len(acceptance._HEADS) + 1
    assert "(none)" not in acceptance._figure(same, 5, found).measured  # the fourth class passes


def test_support_records_are_not_asked_for_again(case: Case) -> None:
    [cells] = drawn(case, 20, 1, test=False)
    assert [each.accepted for each in cells] == [0, 0]  # all of them are support records
    [cells] = drawn(case, 19, 1, test=False)
    assert {each.accepted + each.unknown + each.lost for each in cells} == {1}


@pytest.mark.parametrize("shots", [1, 5])
def test_the_service_borrows_once_the_median(case: Case, shots: int) -> None:
    points = case.known.of(2)[:shots]
    as_served = support_radius(points, case.rule.radii, case.rate)
    assert borrowed(case, points, BORROWED["1 x median"]) == pytest.approx(as_served)
    assert borrowed(case, points, BORROWED["without end"]) == 1
    assert list(drawn(case, shots, 3)) == [
        [Cells(**cells) for cells in draw] for draw in _as_dicts(case, shots)
    ]


def _as_dicts(case: Case, shots: int) -> Iterator[list[dict[str, Any]]]:
    for draw in drawn(case, shots, 3, BORROWED["1 x median"]):
        yield [{name: getattr(each, name) for name in Cells.__slots__} for each in draw]


def test_the_calibration_has_a_row_for_each_number_of_records_and_a_mean(case: Case) -> None:
    lines = acceptance._calibration([case], 2)
    assert len(lines) == 5
    assert lines[2].startswith("| made | 1 | ")
    assert lines[-1].startswith("| mean | | ")
    assert len({line.count("|") for line in lines}) == 1


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


class _Service(BaseHTTPRequestHandler):
    """Says what it was asked."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key = hashlib.sha256(self.headers["X-API-Key"].encode()).hexdigest()
        content = json.dumps({"path": self.path, "key": key, "body": body}).encode()
        self.send_response(201)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Faultcube-Revision", "7")
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self) -> None:
        self.send_response(503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), _Service) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_the_client_enrols_with_its_key_and_reads_the_revision(port: int) -> None:
    with AdminClient(port) as admin:
        answer = admin.enrol("flap", {"a": 1}, force=True)
        assert (answer.status, answer.revision) == (201, 7)
        assert answer.content["path"] == "/classes?force=true"
        assert answer.content["body"] == {"name": "flap", "records": [{"a": 1}]}
        assert answer.content["key"] == hashlib.sha256(client._KEY.encode()).hexdigest()
        assert admin.enrol("flap", {"a": 1}).content["path"] == "/classes"
        with pytest.raises(ServerError, match="503"):
            admin.classes()
    with AdminClient(1) as admin, pytest.raises((OSError, http.client.HTTPException)):
        admin.classes()


def test_where_postgresql_is_missing_the_part_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(postgres, "_PROGRAMS", tmp_path)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ServerError, match="not installed"), postgres.Postgres.running():
        pass
    assert os.environ.get("FAULTCUBE_DATABASE_URL") is None
