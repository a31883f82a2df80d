"""Records drawn as pictures, for tests of incidents."""

from __future__ import annotations

import numpy as np

from service.incidents.incident import Judged
from service.incidents.roles import Role, Roles

LABELS = {
    ".": "normal",
    "C": "clear",
    "e": "clear_elsewhere",
    "F": "flap",
    "X": "crash",
    "L": "leak",
    "?": "unknown",
    "!": "unknown",
}
"""Labels of records in pictures; ! is far from ? in the cube."""

ROLES = Roles(
    {
        "normal": Role(good=True, severity="cleared"),
        "clear": Role(severity="critical"),
        "clear_elsewhere": Role(severity="warning", echo_of="clear"),
        "flap": Role(severity="major", echo_of="flap"),
        "crash": Role(severity="critical"),
        "leak": Role(severity="minor", lasting=False),
    }
)
"""A clear that others echo, a flap that shows at two ends, a crash, a leak that ends itself."""


def drawn(start: float = 1000, **pictures: str) -> Judged:
    """Records of keys, a character each and five seconds apart; a blank is no record."""
    records = sorted(
        (start + 5 * i, order, key, mark)
        for order, (key, marks) in enumerate(pictures.items())
        for i, mark in enumerate(marks)
        if mark != " "
    )
    marks = [mark for *_, mark in records]
    points = [[0.9 if mark == "!" else 0.1] * 3 for mark in marks]
    return Judged(
        times=np.array([time for time, *_ in records], np.float64),
        keys=[key for _, _, key, _ in records],
        labels=[LABELS[mark] for mark in marks],
        embeddings=np.array(points, np.float32).reshape(-1, 3),
        evidence=lambda _row: [{"field": "rpm"}],
        record=lambda row: {"mark": marks[row]},
    )


def part(judged: Judged, rows: slice) -> Judged:
    """Some of the records, as a batch of their own."""
    skipped = None if judged.skipped is None else judged.skipped[rows]
    return Judged(
        judged.times[rows],
        judged.keys[rows],
        judged.labels[rows],
        judged.embeddings[rows],
        skipped,
        judged.evidence,
        lambda row: judged.record(row + (rows.start or 0)),
    )
