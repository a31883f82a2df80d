from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.fuzz.toy import FIELDS
from models import Model
from models.profile import Level, Profile, ProfileError
from models.schema import Matrix
from service.classes.entities import StoredProfile
from service.runtime.sites import LocalSite, Sites, learn

NORTH = StoredProfile("north", 3, Profile(200, {"cpu load": Level(90.0, 8.0, "%")}))
SOUTH = StoredProfile("south", 4, learn=5)


@pytest.fixture
def model(make_bundle: Callable[..., Path]) -> Model:
    fields = (FIELDS[0].model_copy(update={"spread": 2.0}), *FIELDS[1:])
    return Model.load(make_bundle(fields))


def loads(*values: float) -> Matrix:
    """Records of good traffic, apart from their load."""
    matrix = np.zeros((len(values), len(FIELDS)), np.float32)
    matrix[:, 0], matrix[:, 2] = values, 1
    return matrix


def test_a_site_is_served_with_its_profile_and_revision(model: Model) -> None:
    sites = Sites().of(model, {"north": NORTH, "south": SOUTH})
    north, south = sites["north"], sites["south"]
    assert north.header == (b"faultcube-profile", b"north@3")
    assert north.adapt is not None
    np.testing.assert_allclose(north.adapt(loads(98))[:, 0], 14.5, rtol=1e-6)
    assert (south.header[1], south.adapt) == (b"learning", None)
    refused = LocalSite(StoredProfile("east", 5, refused="odd"), model).served()
    assert (refused.header[1], refused.adapt) == (b"none", None)


def test_a_site_that_learns_is_complete_with_the_records_it_asked_for(model: Model) -> None:
    sites = Sites()
    south = sites.of(model, {"south": SOUTH})["south"]
    south.offer(loads(1, 2, 3))
    assert sites.complete() == []
    south.offer(loads(4, 5, 6))
    south.offer(loads(7))
    (site,) = sites.complete()
    np.testing.assert_array_equal(site.matrix()[:, 0], [1, 2, 3, 4, 5])
    assert site.records == 6


def test_what_did_not_change_keeps_its_records(model: Model) -> None:
    sites = Sites()
    before = sites.of(model, {"north": NORTH, "south": SOUTH})
    before["south"].offer(loads(1, 2))
    after = sites.of(model, {"south": SOUTH})
    assert after["south"] is before["south"]
    assert sites.get("north") is None
    site = sites.get("south")
    assert site is not None
    assert site.records == 2
    sites.of(model, {"south": replace(SOUTH, revision=9)})
    begun_anew = sites.get("south")
    assert begun_anew is not None
    assert begun_anew.records == 0


@pytest.mark.parametrize(
    ("values", "moved"),
    [
        ([82, 86, 90, 94, 98] * 20, []),
        ([182, 186, 190, 194, 198] * 20, ["cpu load"]),
        ([10, 50, 90, 130, 170] * 20, ["cpu load"]),
        ([190] * 99, []),
    ],
    ids=["as ever", "elsewhere", "wider", "too few"],
)
def test_a_profile_is_stale_where_recent_records_are_elsewhere(
    model: Model, values: list[float], moved: list[str]
) -> None:
    site = LocalSite(NORTH, model)
    for value in values:
        site.offer(loads(value))
    assert site.moved() == moved
    assert LocalSite(SOUTH, model).moved() == []


def test_records_that_stay_faulty_are_only_learned_by_force(model: Model) -> None:
    matrix = loads(*[90.0 + 4 * (i % 5 - 2) for i in range(200)])
    profile, trial = learn(model, matrix, force=False)
    assert (profile.records, trial.odd) == (200, 0)
    matrix[:, 2] = 0
    with pytest.raises(ProfileError, match="100% of these records"):
        learn(model, matrix, force=False)
    assert learn(model, matrix, force=True)[1].odd == 1
