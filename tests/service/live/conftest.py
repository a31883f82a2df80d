"""A live page without a service around it, and records to give it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import Model
from service.classes.enrolment import Enrolment
from service.classes.entities import Snapshot
from service.live.kept import Taken
from service.live.live import Live, LiveSources
from service.live.scene import Scene
from service.observability.counters import Counters
from service.observability.drift import Drifts
from service.scoring.served_model import ServedModel

START = 1_800_000_000.0
Record = dict[str, Any]
Take = Callable[..., Taken]


@pytest.fixture(scope="session")
def model(bundle: Path) -> Model:
    return Model.load(bundle)


@pytest.fixture
def scene(model: Model) -> Scene:
    return scene_of(model)


def scene_of(model: Model, snapshot: Snapshot | None = None) -> Scene:
    """The scene of a bundle's model with classes of a database."""
    enrolment = Enrolment.of(model, snapshot or Snapshot(0, {}))
    return Scene.of(ServedModel(enrolment.model, 100), enrolment)


@pytest.fixture
def take(model: Model) -> Take:
    """Judge records, of devices if there are keys, as they are taken."""

    def judged(
        records: Sequence[Record],
        keys: Sequence[str] = (),
        times: Sequence[float] | None = None,
        **masks: Sequence[bool],
    ) -> Taken:
        matrix = model.schema.encode(records)
        at = [START] * len(records) if times is None else [START + time for time in times]
        none, every = [False] * len(records), [True] * len(records)
        learning, usable = masks.get("learning", none), masks.get("usable", every)
        return Taken(
            model,
            keys,
            np.array(at),
            matrix,
            model.decide(matrix),
            np.array(learning) if keys else None,
            np.array(usable) if keys else None,
        )

    return judged


@dataclass
class Around:
    """What a live page asks of a service, as a test sets it."""

    now: float = START
    members: dict[str, str] = field(default_factory=dict)
    interval: float = 5.0
    drift: tuple[int, Drifts | None] = (0, None)
    counters: Counters = field(default_factory=Counters)

    def live(self, **options: Any) -> Live:
        around = LiveSources(
            lambda: self.members,
            lambda: self.interval,
            keys=lambda: 7,
            requests=lambda: 3,
            points=lambda: 2,
            drift=lambda: self.drift,
            store=lambda: "memory",
            alone=True,
        )
        limits = {"viewers": 2, "devices": 100} | options
        return Live(around, self.counters, clock=lambda: self.now, **limits)


@pytest.fixture
def around() -> Around:
    return Around()
