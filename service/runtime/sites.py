"""Sites of the running service: their profiles, and the records that new ones are learned from."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import quote

import numpy as np

from models import Model
from models.profile import Adaptation, Profile, ProfileTrial, level_of, try_out
from models.schema import Matrix
from service.classes.entities import StoredProfile
from service.observability.recent import Recent
from service.scoring.site import Site

__all__ = ["LocalSite", "Sites", "learn"]

_CHUNKS, _ROWS = 128, 8
"""Of the recent records of a site: 1,024 at most, for there may be hundreds of sites."""
_LEAST_RECENT = 100
"""Recent records of a site, to say how far it has moved."""
_MOVED = 3.0
"""Spreads between the typical values of the profile and of recent records that are a move; also
the ratio of their spreads."""


@dataclass(slots=True)
class LocalSite:
    """A site, as this process knows it.

    Attributes:
        stored: what the database keeps of it.
        model: that its records are for.
        recent: some of its latest records, as they were sent.
        learning: records to learn from, until there are enough.
        records: how many those are.
    """

    stored: StoredProfile
    model: Model
    recent: Recent = field(default_factory=partial(Recent, _CHUNKS, _ROWS))
    learning: list[Matrix] = field(default_factory=list)
    records: int = 0

    def offer(self, matrix: Matrix) -> None:
        """Take records that arrived: float32 [n, fields]."""
        self.recent.offer(matrix)
        if self.records < self.stored.learn:
            self.learning.append(matrix)
            self.records += len(matrix)

    def is_complete(self) -> bool:
        """Return whether it has the records to learn its profile from."""
        return 0 < self.stored.learn <= self.records

    def matrix(self) -> Matrix:
        """Return the records to learn from: float32 [n, fields]."""
        return np.concatenate(self.learning)[: self.stored.learn]

    def served(self) -> Site:
        """Return the site as requests use it."""
        profile, name = self.stored.profile, self.stored.site
        used = "learning" if self.stored.learn else "none"
        if profile is not None:
            used = f"{quote(name)}@{self.stored.revision}"  # headers are ASCII
        adapt = None if profile is None else Adaptation.of(profile, self.model.schema)
        return Site((b"faultcube-profile", used.encode()), adapt, self.offer)

    def moved(self) -> list[str]:
        """Return the fields whose recent records are elsewhere than the profile: it is stale."""
        schema, profile = self.model.schema, self.stored.profile
        recent = self.recent.matrix(len(schema))
        if profile is None or len(recent) < _LEAST_RECENT:
            return []
        moved = []
        for schema_field, column in zip(schema.fields, recent.T, strict=True):
            present = column[~np.isnan(column)]
            if profile.adapts(schema_field) and len(present):
                then, now = profile.levels[schema_field.name], level_of(present)
                distance = abs(now.typical - then.typical)
                wide = max(now.spread, then.spread) > _MOVED * min(now.spread, then.spread) > 0
                if distance > _MOVED * max(then.spread, now.spread) or wide:
                    moved.append(schema_field.name)
        return moved


class Sites:
    """The sites of one process; those that did not change keep the records they have."""

    def __init__(self) -> None:
        self._sites: dict[str, LocalSite] = {}
        self._served: dict[str, Site] = {}
        self._lock = threading.Lock()

    def of(self, model: Model, profiles: Mapping[str, StoredProfile]) -> Mapping[str, Site]:
        """Return the sites as requests to a model use them.

        Args:
            model: the bundle's.
            profiles: of the database, by site.
        """
        with self._lock:
            sites, served = dict[str, LocalSite](), dict[str, Site]()
            for name, stored in profiles.items():
                before = self._sites.get(name)
                if before is not None and before.model is model and before.stored == stored:
                    sites[name], served[name] = before, self._served[name]
                else:
                    sites[name] = LocalSite(stored, model)
                    served[name] = sites[name].served()
            self._sites, self._served = sites, served
            return served

    def get(self, name: str) -> LocalSite | None:
        """Return a site, or None."""
        return self._sites.get(name)

    def complete(self) -> list[LocalSite]:
        """Return the sites that have the records to learn their profiles from."""
        return [site for site in self._sites.values() if site.is_complete()]


def learn(model: Model, matrix: Matrix, *, force: bool) -> tuple[Profile, ProfileTrial]:
    """Learn a profile, and see what it does to the records it was learned from.

    Args:
        model: with the enrolled classes.
        matrix: float32 [n, fields].
        force: whether to take records that stay faulty.

    Raises:
        ProfileError: the records cannot be learned from.
    """
    profile = Profile.learn(model.schema, matrix)
    trial = try_out(model, profile, matrix)
    if not force:
        trial.check()
    return profile, trial
