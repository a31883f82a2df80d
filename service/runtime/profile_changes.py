"""Changes of profiles: learned from records that are sent, or from the traffic of a site."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from models.profile import Adaptation, ProfileError
from models.schema import Matrix
from service.classes.enrolment import Enrolment
from service.classes.entities import StoredProfile
from service.runtime.class_changes import Change, ChangeRequest, ClassEditor
from service.runtime.sites import LocalSite, learn
from service.runtime.state import State
from service.web import problems
from service.web.problems import Problem

__all__ = ["ProfileLearner", "in_training_units", "learn_from"]

_POLL_SECONDS, _RETRY_SECONDS = 0.25, 30

log = logging.getLogger(__name__)


def learn_from(enrolment: Enrolment, site: str, matrix: Matrix, *, force: bool) -> Change:
    """Plan to learn the profile of a site from its records.

    Args:
        enrolment: classes and profiles that the change is planned on.
        site: its name.
        matrix: float32 [n, fields], its records as they are sent.
        force: whether to take records that stay faulty.

    Raises:
        Problem: `NOT_LEARNED`.
    """
    try:
        profile, trial = learn(enrolment.model, matrix, force=force)
    except ProfileError as error:
        raise Problem(problems.NOT_LEARNED, f"Nothing was learned: {error}.") from error
    stored = StoredProfile(site, enrolment.snapshot.revision + 1, profile)
    return Change("learn", profiles={site: stored}, trial=trial)


def in_training_units(
    enrolment: Enrolment, records: list[dict[str, Any]], site: str | None
) -> list[dict[str, Any]]:
    """Return records as the training network would have sent them, for keeping.

    Args:
        enrolment: with the profiles.
        records: as they were sent.
        site: that they are from; None for the training network.

    Raises:
        RecordError: a record does not fit the schema.
        Problem: `NO_SUCH_PROFILE`, or `PROFILE_NEEDED` by the bundle.
    """
    schema = enrolment.base.schema
    matrix = schema.encode(records)
    if site is None:
        if enrolment.base.manifest.adapted:
            raise Problem(problems.PROFILE_NEEDED)
        return records
    stored = enrolment.snapshot.profiles.get(site)
    if stored is None or stored.profile is None:
        raise Problem(problems.NO_SUCH_PROFILE, f"There is no profile of {site!r}, or none yet.")
    adapted = Adaptation.of(stored.profile, schema)(matrix)
    changed = [at for at, field in enumerate(schema.fields) if stored.profile.adapts(field)]
    return [
        record
        | {
            schema.names[at]: schema.fields[at].value_of(row[at])
            for at in changed
            if not np.isnan(row[at])
        }
        for record, row in zip(records, adapted, strict=True)
    ]


class ProfileLearner:
    """Learns the profiles of sites whose records have come.

    Args:
        state: of the application.
        editor: of its classes and profiles.
    """

    def __init__(self, state: State, editor: ClassEditor) -> None:
        self.state, self.editor = state, editor

    def run(self, stop: threading.Event) -> None:
        """Look for sites that are complete until `stop` is set."""
        while not stop.wait(_POLL_SECONDS):
            try:
                self.step()
            except Problem as problem:  # the database is away: the records are kept meanwhile
                log.warning("profile not kept", extra={"reason": str(problem)})
                stop.wait(_RETRY_SECONDS)
            except Exception:  # whatever it is, what is served goes on
                log.exception("profile not learned")
                stop.wait(_RETRY_SECONDS)

    def step(self) -> None:
        """Learn the profile of each site that is complete.

        Raises:
            Problem: the database is away.
        """
        for site in self.state.sites.complete():
            self.editor.apply(ChangeRequest(None, ""), partial(_finish, site))


def _finish(site: LocalSite, enrolment: Enrolment) -> Change:
    """Plan what becomes of a site; nothing if another process was quicker."""
    stored = site.stored
    name, revision = stored.site, enrolment.snapshot.revision + 1
    if enrolment.snapshot.profiles.get(name) != stored or enrolment.base is not site.model:
        return Change("learned")
    try:
        profile, trial = learn(enrolment.model, site.matrix(), force=stored.force)
    except ProfileError as error:
        log.warning("profile refused", extra={"site": name, "reason": str(error)})
        refused = replace(stored, revision=revision, learn=0, refused=str(error))
        return Change("refused", profiles={name: refused})
    return Change("learned", profiles={name: StoredProfile(name, revision, profile)}, trial=trial)
