from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
from hypothesis import given

from models.telemetry.batch import Batch, Clock
from models.telemetry.open_records import NEVER

POINTS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30)), min_size=1, max_size=40)


@given(
    POINTS,
    st.sampled_from([0, 4]),
    st.integers(0, 12),
    st.lists(st.sampled_from([NEVER, 5, 11]), min_size=3, max_size=3),
)
def test_points_are_grouped_as_if_they_came_one_by_one(
    points: list[tuple[int, int]], step: int, lateness: int, newest: list[int]
) -> None:
    clock = Clock(lateness, step)
    keys, times = (np.array(column) for column in zip(*points, strict=True))
    series, values = keys.astype(np.int32), np.arange(len(keys), dtype=np.float64)
    closed = np.array([NEVER, NEVER, 7])
    batch = Batch.of(clock, series, (series, times, values), np.array(newest), closed)

    groups: dict[tuple[int, int], list[int]] = {}
    latest, late = [*newest], 0
    for number, (key, time) in enumerate(points):
        record = (time // step + 1) * step if step else time
        passed = latest[key] - lateness
        if record <= closed[key] or (record <= passed if step else record < passed):
            late += 1
            continue
        groups.setdefault((key, record), []).append(number)
        latest[key] = max(latest[key], time)

    assert len(batch.late) == late
    assert [*zip(batch.keys.tolist(), batch.records.tolist(), strict=True)] == sorted(groups)
    for at, group in enumerate(sorted(groups)):
        mine = slice(batch.starts[at], batch.starts[at] + batch.sizes[at])
        assert batch.values[mine].tolist() == groups[group]
        assert batch.newest[at] == max(times[groups[group]])
