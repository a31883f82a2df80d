from __future__ import annotations

import json
from typing import Any

from models import Field, Schema
from models.profile import Level, Profile, ProfileTrial
from service.classes.entities import StoredProfile
from service.classes.profile_responses import ListedProfile, ProfileDetail, Tried
from service.web.response_model import ResponseModel

SCHEMA = Schema(
    [
        Field(name="latency", kind="gauge", unit="ms", typical=10.0, spread=2.0),
        Field(name="share", kind="gauge", typical=0.5, spread=0.1, relative=True),
        Field(name="up", kind="boolean", typical=True),
    ]
)
PROFILE = Profile(200, {"latency": Level(70.0, 8.0, "ms"), "gone": Level(1.0, 1.0)})
NORTH = StoredProfile("north", 3, PROFILE)


def sent(model: ResponseModel) -> Any:
    return json.loads(model.content())


def test_a_site_has_the_state_that_it_is_in() -> None:
    assert sent(ListedProfile.of(NORTH, SCHEMA)) == {
        "site": "north", "state": "active", "revision": 3, "records": 200, "adapted": 1
    }  # fmt: skip
    assert sent(ListedProfile.of(StoredProfile("north", 4, learn=500), SCHEMA)) == {
        "site": "north", "state": "learning", "revision": 4, "learn": 500, "adapted": 0
    }  # fmt: skip
    assert sent(ListedProfile.of(StoredProfile("north", 5, refused="odd"), SCHEMA)) == {
        "site": "north", "state": "refused", "revision": 5, "reason": "odd", "adapted": 0
    }  # fmt: skip


def test_a_profile_is_shown_field_by_field() -> None:
    full = sent(ProfileDetail.of(NORTH, SCHEMA, moved=["latency"]))
    assert full["fields"] == [
        {"field": "latency", "typical": 70.0, "training": 10.0, "spread": 8.0, "ratio": 0.25}
    ]
    assert (full["unchanged"], full["unused"], full["moved"]) == (["share"], ["gone"], ["latency"])
    assert "collected" not in full
    learning = ProfileDetail.of(StoredProfile("north", 4, learn=500), SCHEMA, moved=[], collected=0)
    assert (sent(learning)["fields"], sent(learning)["collected"]) == ([], 0)


def test_a_trial_is_shown_with_its_counts() -> None:
    trial = ProfileTrial(10, {"unknown": 10}, {"normal": 9, "down": 1}, 0.1)
    assert sent(Tried.of(trial)) == {
        "records": 10, "before": {"unknown": 10}, "after": {"normal": 9, "down": 1}, "odd": 0.1
    }  # fmt: skip
