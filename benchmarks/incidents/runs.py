"""The runs of a table with injected faults: their records, judged, and what was injected."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from models import Model
from service.incidents.incident import Judged
from service.incidents.roles import SEVERITIES, Role, Roles
from training.recipe import Recipe

_COLUMNS = ("run", "device", "time", "label", "event_index", "seconds_since_event_start")


@dataclass(frozen=True, slots=True)
class Event:
    """An injected fault.

    Attributes:
        cause: the class of the records where it happened.
        roots: devices where it happened: one that was cleared, or both ends of a link.
        start: when, in seconds since the Unix epoch.
    """

    cause: str
    roots: frozenset[str]
    start: float


@dataclass(frozen=True, slots=True)
class Run:
    """A recording.

    Attributes:
        name: of the run.
        judged: its records, in the order of time.
        events: that were injected, in the order of time.
    """

    name: str
    judged: Judged
    events: list[Event]

    @property
    def hours(self) -> float:
        """How long it took."""
        return float(self.judged.times[-1] - self.judged.times[0]) / 3600


def runs_of(recipe: Recipe, model: Model) -> Iterator[Run]:
    """Judge all records of the recipe's table, those left out of training too."""
    table = pl.read_csv(recipe.table)
    matrix = np.column_stack([table[field.name].to_numpy() for field in model.schema.fields])
    matrix = matrix.astype(np.float32)
    table = table.select(_COLUMNS).with_columns(
        verdict=pl.Series(model.labels(model.decide(matrix))), row=pl.int_range(pl.len())
    )
    embeddings = model.encoder.embed(matrix)
    causes = [name for name in recipe.severity if not _is_echo(name, recipe)]
    for (name,), run in table.sort("time", "device").group_by("run", maintain_order=True):
        rows = run["row"].to_numpy()
        judged = Judged(
            times=run["time"].to_numpy(),
            keys=run["device"].to_list(),
            labels=run["verdict"].to_list(),
            embeddings=embeddings[rows],
        )
        yield Run(str(name), judged, _events(run.filter(pl.col("label").is_in(causes))))


def roles_of(recipe: Recipe) -> Roles:
    """Return the roles of the recipe's classes."""
    return Roles(
        {recipe.good: Role(good=True, severity="cleared")}
        | {
            name: Role(severity=SEVERITIES[severity], echo_of=_role(name, recipe).echo_of)
            for name, severity in recipe.severity.items()
        }
    )


def _events(rows: pl.DataFrame) -> list[Event]:
    """Return the events of the rows where they happened."""
    return sorted(
        (
            Event(
                cause=group["label"][0],
                roots=frozenset(group["device"]),
                start=float((group["time"] - group["seconds_since_event_start"]).min()),  # type: ignore[arg-type]
            )
            for _, group in rows.group_by("event_index")
        ),
        key=lambda event: event.start,
    )


def _is_echo(name: str, recipe: Recipe) -> bool:
    return _role(name, recipe).echo_of not in (None, name)


def _role(name: str, recipe: Recipe) -> Role:
    given = recipe.roles.get(name)
    return Role() if given is None else Role(echo_of=given.echo_of, lasting=given.lasting)
