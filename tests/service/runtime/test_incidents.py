from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from models import Model
from service.classes.database import Store
from service.classes.enrolment import Enrolment
from service.classes.entities import AwayError, Snapshot, StoredClass, SupportRecord
from service.incidents.incident import Judged
from service.incidents.roles import Role
from service.incidents.storage import Checkpoint, Committed, Note, Query, Written
from service.observability.counters import Counters
from service.runtime import incidents as module
from service.runtime.incidents import Incidents, roles_of
from service.runtime.judging import judge
from service.scoring.served_model import ServedModel
from service.settings import Settings
from tests.support.incidents import ROLES, drawn, part

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
RUN = drawn(a="..CCCCCCC........", b="....eeeeee.......", c="......XXXXXXX....")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty database."""
    with closing(Store(f"sqlite:///{tmp_path / 'c.sqlite'}")) as made:
        made.prepare()
        yield made


def incidents_of(store: Store | None) -> Incidents:
    """Incidents of a process that has just started."""
    made = Incidents(Settings(webhook="http://127.0.0.1:9/"), Counters(), clock=lambda: 1e6)
    made._engine.roles = ROLES
    made.open(store)
    return made


def told(incidents: Incidents) -> list[tuple[str, str, int, str]]:
    """What is kept, and the last word that every target has to be told."""
    return [
        (s.incident.id, s.incident.status, s.incident.sequence, s.incident.label)
        for s in incidents.storage.find(Query(limit=100))
    ]


@pytest.mark.parametrize("killed_after", range(1, len(RUN)))
def test_a_process_that_is_killed_goes_on_from_its_checkpoint_and_tells_nothing_twice(
    store: Store, killed_after: int
) -> None:
    whole = incidents_of(None)
    whole.observe(RUN)
    first = incidents_of(store)
    at = killed_after // 2
    if at:
        first.observe(part(RUN, slice(0, at)))
        assert first.checkpoint(Checkpoint("ingest", at, b"assembler"))
    first.observe(part(RUN, slice(at, killed_after)))  # changes are kept, its position is not
    second = incidents_of(store)
    checkpoint = second.resume("ingest")
    assert (checkpoint.position if checkpoint else 0) == at
    second.observe(part(RUN, slice(at, len(RUN))))
    assert told(second) == told(whole)
    histories = [
        [entry.sequence for entry in second.storage.history(id_)] for id_, *_ in told(second)
    ]
    assert histories == [[*range(1, len(history) + 1)] for history in histories]


def test_changes_wait_for_a_database_that_is_away(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.0)
    incidents = incidents_of(store)
    commit = incidents.storage.commit

    def away(_written: Written) -> Committed:
        raise AwayError("away")

    monkeypatch.setattr(incidents.storage, "commit", away)
    assert incidents.observe(drawn(a="CC"))
    assert not incidents.checkpoint(Checkpoint("ingest", 2, b""))
    assert "incidents wait" in caplog.text
    monkeypatch.setattr(incidents.storage, "commit", commit)
    assert incidents.storage.checkpoint("ingest") is None
    incidents.observe(drawn(1010, a="...."))
    [(id_, status, sequence, _)] = told(incidents)
    assert (status, sequence, len(incidents.storage.history(id_))) == ("closed", 2, 2)


def test_a_database_that_is_away_is_not_asked_by_every_record(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    incidents, asked = incidents_of(store), list[Written]()
    commit = incidents.storage.commit

    def away(written: Written) -> Committed:
        asked.append(written)
        raise AwayError("away")

    monkeypatch.setattr(incidents.storage, "commit", away)
    for start in range(1000, 2000, 10):
        incidents.observe(drawn(start, a="CC"))
    assert len(asked) == 1
    assert not incidents.checkpoint(Checkpoint("ingest", 2, b""))
    assert len(asked) == 2  # which costs once a minute
    monkeypatch.setattr(incidents.storage, "commit", commit)
    assert incidents.checkpoint(Checkpoint("ingest", 2, b""))
    assert [status for _, status, *_ in told(incidents)] == ["open"]


def test_what_a_bundle_before_called_good_stays_good(store: Store) -> None:
    incidents = incidents_of(store)
    incidents._engine.roles = incidents._engine.roles.with_roles({"ok": Role(good=True)})
    base = Model.load(Path(__file__).parents[3] / "models/iosxr")
    incidents.serve(roles_of(Enrolment.of(base, Snapshot(0, {}))))
    renamed = replace(drawn(a="........"), labels=["ok"] * 8)
    assert incidents.observe(renamed) == []


def test_a_person_closes_in_another_process_than_the_one_that_observes(store: Store) -> None:
    ingesting, other = incidents_of(store), incidents_of(store)
    [opened] = ingesting.observe(drawn(a="CC"))
    note = Note(opened.incident.id, "closed", NOON, "12ab", text="planned work")
    assert other.note(note).incident.status == "closed"
    changes = ingesting.observe(drawn(1010, a="CCC", b="ee....", c="...ee"))
    # Who follows the changes, as readers of a topic do, learns that it ended.
    assert [(c.kind, c.incident.id) for c in changes][-1] == ("closed", opened.incident.id)
    assert ingesting.open_incidents == 0
    assert [status for _, status, *_ in told(ingesting)] == ["closed"]


def test_without_a_database_what_is_shown_goes_on_with_what_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_REFRESH_SECONDS", 0.0)
    incidents = Incidents(Settings(), Counters())
    incidents._engine.roles = ROLES
    for start in range(1000, 2000, 20):
        incidents.observe(drawn(start, a="CCCC"))
    [stored] = incidents.storage.find(Query())
    assert (stored.incident.last, stored.incident.counts) == (1995, {"clear": 199})


def test_keys_that_are_polled_rarely_get_into_trouble() -> None:
    incidents = Incidents(Settings(), Counters())
    incidents._engine.roles = ROLES
    incidents.expect(600)
    found = []
    for number in range(4):
        found += incidents.observe(drawn(600.0 * number, a="C"))
    assert [change.kind for change in found] == ["opened"]


def test_a_settled_incident_closes_when_it_is_acknowledged(store: Store) -> None:
    incidents = incidents_of(store)
    renewed: list[str] = []
    incidents.on_renew = renewed.extend
    changes = incidents.observe(drawn(a="L" * 40 + "....."))
    assert (changes[-1].kind, renewed) == ("settled", ["a"])
    note = Note(changes[0].incident.id, "acknowledged", NOON, "12ab")
    stored = incidents.note(note)
    assert (stored.incident.status, stored.people.by) == ("closed", "12ab")
    assert incidents.open_incidents == 0


def test_incidents_and_alerts_are_counted(store: Store) -> None:
    counters = Counters()
    incidents = Incidents(Settings(), counters)
    incidents._engine.roles = ROLES
    incidents.open(store)
    incidents.observe(drawn(a="CC....", b="XX"))
    assert (counters.opened, counters.closed) == ({"clear": 1, "crash": 1}, {"clear": 1})
    assert incidents.open_incidents == 1
    incidents._count_alerts("webhook", "sent", 2)
    incidents._count_alerts("webhook", "failed", 1)
    assert (counters.alerts_sent, counters.alerts_failed) == ({"webhook": 2}, {"webhook": 1})


def test_the_roles_are_those_of_the_bundle_and_of_the_enrolled_classes(
    bundle: Path, unknown: dict[str, object]
) -> None:
    model = Model.load(bundle)
    odd = StoredClass("odd", severity="minor", records=(SupportRecord(1, unknown),))
    incidents = Incidents(Settings(), Counters())
    incidents.serve(roles_of(Enrolment.of(model, Snapshot(1, {"odd": odd}))))
    roles = incidents._engine.roles
    assert roles.good == {"normal"}
    assert (roles["odd"].severity, roles["overload"].severity) == ("minor", "major")


def test_what_is_set_decides_when_an_incident_opens() -> None:
    incidents = Incidents(Settings(incident_open=1, incident_window=1), Counters())
    incidents._engine.roles = ROLES
    judged: Judged = replace(drawn(a="C"))
    assert [change.kind for change in incidents.observe(judged)] == ["opened"]


def test_records_are_judged_with_the_evidence_of_their_verdicts() -> None:
    model = Model.load(Settings().bundle)
    names = [known.name for known in model.manifest.classes]
    matrix = model.schema.encode(model.examples)
    times = np.arange(len(names), dtype=np.float64)
    _, judged = judge(ServedModel(model, 100), times, names, matrix)
    assert judged.labels == names
    fault = names.index("bgp_clear")
    assert judged.evidence(fault)[0].keys() >= {"field", "value", "typical", "share"}
    assert model.schema.encode([judged.record(fault)])[0].tolist() == matrix[fault].tolist()
    points = model.encoder.embed(matrix)
    assert not judged.embeddings[names.index("normal")].any()
    np.testing.assert_array_equal(judged.embeddings[fault], points[fault])


def test_every_change_is_told_and_which_incident_a_key_takes_part_in() -> None:
    incidents = incidents_of(None)
    changes: list[tuple[str, str, str]] = []
    incidents.on_change = lambda *change: changes.append(change)
    members: list[dict[str, str]] = []
    for at in range(len(RUN)):
        incidents.observe(part(RUN, slice(at, at + 1)))
        members.append(incidents.members())
    id_ = next(change[0] for change in changes if change[2] == "opened")
    assert members[0] == {}
    assert id_ in {found.get("a") for found in members}
    assert {kind for _, _, kind in changes} >= {"opened", "updated"}
    incidents.note(Note(id_, "commented", NOON, "me", text="Looking."))
    assert changes[-1][0] == id_
    assert changes[-1][2] == "commented"
    incidents.note(Note(id_, "closed", NOON, "me"))
    assert changes[-1][1:] == ("closed", "closed")
    assert id_ not in incidents.members().values()
