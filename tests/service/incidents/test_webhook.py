from __future__ import annotations

import hashlib
import hmac

from service.incidents.engine import Engine
from service.incidents.storage import Due
from service.incidents.webhook import SIGNATURE, WebhookTarget
from tests.support.incidents import ROLES, drawn
from tests.support.receiver import receiving


def test_a_change_arrives_signed_with_the_incident_as_it_is() -> None:
    opened, updated, closed = (
        c.incident for c in Engine(ROLES).observe(drawn(a="CCCCC....", b="..ee...."))
    )
    with receiving() as receiver:
        target = WebhookTarget(receiver.url + "/hook", "secret")
        for incident, sent in [(opened, 0), (updated, 1), (closed, 2)]:
            target.deliver([Due(incident, sent)])
    assert [r.document["event"] for r in receiver.requests] == ["opened", "updated", "closed"]
    last = receiver.requests[-1]
    assert last.path == "/hook"
    assert last.document["incident"]["id"] == closed.id
    assert last.document["incident"]["ended"] == "1970-01-01T00:17:20Z"
    assert last.headers["X-Faultcube-Sequence"] == "3"
    digest = hmac.new(b"secret", last.body, hashlib.sha256).hexdigest()
    assert last.headers[SIGNATURE] == f"sha256={digest}"


def test_without_a_secret_there_is_no_signature() -> None:
    [change] = Engine(ROLES).observe(drawn(a="CC"))
    with receiving() as receiver:
        WebhookTarget(receiver.url).deliver([Due(change.incident, 0)])
    assert SIGNATURE not in receiver.requests[0].headers
