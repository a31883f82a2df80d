"""One device or one record of the live page, with what drove its verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from models.schema import Matrix
from service.live.kept import Kept
from service.live.responses import (
    DeviceDetail,
    DeviceDriver,
    DeviceRecord,
    LiveRecordDetail,
)
from service.live.scene import Scene
from service.scoring.explain import Driver

__all__ = ["device", "record"]

_MAX_EXPLAINED, _MAX_VARIANTS = 16, 2000
"""Bad records of a device that are explained; each costs as many inferences as it has fields."""
_STRONGEST, _LEAST_SHARE = 3, 0.1
"""Fields of a record that count as having driven it."""
_MAX_DRIVERS = 10


def device(kept: Kept, key: str, incidents: Mapping[str, str]) -> DeviceDetail | None:
    """Return a device with its last hour, None if it is not kept."""
    found = kept.known(incidents, key)
    if not found:
        return None
    history = kept.history(key)
    explanations = _explanations(kept, history)
    return DeviceDetail(
        **msgspec.structs.asdict(found[0]),
        history=history,
        explained=len(explanations),
        drivers=_drivers(explanations),
    )


def record(kept: Kept, number: int) -> LiveRecordDetail | None:
    """Return a record with its explanation, None if it is not kept."""
    found = kept.matrix([number])
    if found is None:
        return None
    scene, matrix = found
    shown = kept.records(np.array([number], np.int64))
    if not shown:
        return None
    model = scene.served.model
    decisions = model.decide(matrix)
    nearest = int(decisions.nearest[0])
    explanations = _explained(scene, matrix)
    fields = zip(model.schema.fields, matrix[0], strict=True)
    distances = zip(model.names, decisions.distances[0].tolist(), strict=True)
    return LiveRecordDetail(
        **msgspec.structs.asdict(shown[0]),
        record={field.name: field.value_of(value) for field, value in fields},
        distances={name: round(distance, 6) for name, distance in distances},
        nearest=model.names[nearest],
        class_position=scene.classes[nearest].position,
        explanation=explanations[0] if explanations else None,
    )


def _explanations(kept: Kept, history: Sequence[DeviceRecord]) -> list[list[Driver]]:
    """Explain the latest bad records of a device that are kept, oldest first."""
    scene = kept.scene
    if scene is None:
        return []
    most = max(min(_MAX_EXPLAINED, _MAX_VARIANTS // len(scene.served.model.schema)), 1)
    bad = [each.n for each in history if each.state in ("fault", "unknown")][-most:]
    found = kept.matrix(bad)
    return [] if found is None else _explained(*found)


def _explained(scene: Scene, matrix: Matrix) -> list[list[Driver]]:
    """Return what drove the verdict on each record; nothing without records of good traffic."""
    explainer = scene.served.explainer
    if explainer is None:
        return []
    variants = explainer.vary(matrix)
    decisions = scene.served.model.decide(variants.matrix)
    return explainer.explain(variants, decisions.distances)


def _drivers(explanations: Sequence[list[Driver]]) -> list[DeviceDriver]:
    counts: Counter[str] = Counter()
    last: dict[str, Driver] = {}
    for drivers in explanations:
        for driver in drivers[:_STRONGEST]:
            if driver.share >= _LEAST_SHARE:
                counts[driver.field] += 1
                last[driver.field] = driver
    return [
        DeviceDriver(field=f, count=n, value=last[f].value, typical=last[f].typical)
        for f, n in counts.most_common(_MAX_DRIVERS)
    ]
