from __future__ import annotations

from collections.abc import Sequence

import pytest

from service.incidents import alertmanager
from service.incidents.alertmanager import AlertmanagerTarget, alert_of
from service.incidents.delivery import DeliveryError, RefusedError
from service.incidents.engine import Engine
from service.incidents.incident import Incident
from service.incidents.storage import Due
from tests.support.incidents import ROLES, drawn

DAY = 86_400.0


def incidents(start: float = DAY, **pictures: str) -> list[Incident]:
    """An incident as it was after each change."""
    return [change.incident for change in Engine(ROLES).observe(drawn(start, **pictures))]


def test_an_alert_says_what_where_since_when_and_why() -> None:
    opened, *_ = incidents(a="..CC....")
    assert alert_of(opened, 10 * DAY) == {
        "labels": {
            "alertname": "clear",
            "incident": opened.id,
            "key": "a",
            "severity": "critical",
        },
        "annotations": {
            "summary": "clear at a, since 1970-01-02 00:00:10 UTC",
            "sequence": "1",
            "status": "open",
            "class": "clear",
            "root": "a",
            "evidence": "rpm None (usually None)",
        },
        "startsAt": "1970-01-02T00:00:10+00:00",
    }


def test_the_end_of_an_alert_is_that_of_its_incident() -> None:
    *_, closed = incidents(a="..CC....")
    assert alert_of(closed, 10 * DAY)["endsAt"] == "1970-01-02T00:00:35+00:00"


def test_labels_stay_what_they_were_whatever_becomes_known() -> None:
    told = incidents(a="eeeeeeeeeeee....", b=".........CCC....")
    assert {i.label for i in told} == {"clear"}
    assert {i.root for i in told} == {None, "b"}
    alerts = [alert_of(incident, DAY) for incident in told]
    assert all(alert["labels"] == alerts[0]["labels"] for alert in alerts)
    assert alerts[0]["labels"]["severity"] == "warning"
    assert alerts[-1]["annotations"]["root"] == "b"


def test_no_alert_begins_or_ends_in_the_future_or_ends_before_it_began() -> None:
    *_, closed = incidents(start=20 * DAY, a="CC....")
    alert = alert_of(closed, 10 * DAY)
    assert alert["startsAt"] == alert["endsAt"] == "1970-01-11T00:00:00+00:00"


@pytest.mark.parametrize(
    ("errors", "raised"),
    [
        ([None, None], None),
        ([DeliveryError("x"), None], None),
        ([None, RefusedError("x")], None),
        ([DeliveryError("x"), DeliveryError("y")], DeliveryError),
        ([RefusedError("x"), DeliveryError("y")], DeliveryError),
        ([RefusedError("x"), RefusedError("y")], RefusedError),
    ],
)
def test_all_alertmanagers_are_told_and_one_that_takes_it_is_enough(
    errors: Sequence[Exception | None],
    raised: type[Exception] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    called: list[str] = []

    def post(url: str, _body: bytes, _headers: object) -> None:
        called.append(url)
        error = errors[len(called) - 1]
        if error is not None:
            raise error

    monkeypatch.setattr(alertmanager, "post", post)
    target = AlertmanagerTarget(["http://one:9093/", "http://two/prefix"])
    dues = [Due(incidents(a="CC")[0], 0)]
    if raised is None:
        target.deliver(dues)
    else:
        with pytest.raises(raised):
            target.deliver(dues)
    assert called == ["http://one:9093/api/v2/alerts", "http://two/prefix/api/v2/alerts"]
