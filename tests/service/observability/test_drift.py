from __future__ import annotations

import csv
import gzip
import math
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from models import Bundle, Model, Reference
from models.schema import Matrix
from service.observability.drift import LEAST_RECORDS, Drift, Drifts, Window

ROOT = Path(__file__).parents[3]
CORNERS = np.array([[0.1, 0.1, 0.5], [0.9, 0.9, 0.5]], np.float32)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 100
        return self.now


def around(*classes: int, width: float = 0.03, seed: int = 0) -> Matrix:
    """So many points around each of the corners, in random order."""
    random = np.random.default_rng(seed)
    centres = np.repeat(CORNERS, classes, axis=0)
    points = centres + random.normal(0, width, centres.shape)
    return random.permutation(points).astype(np.float32)


def drift_of(
    reference: Matrix, *, window: int = 10_000, clock: Callable[[], float] | None = None
) -> Drift:
    return Drift(
        "1" * 16,
        lambda matrix: matrix,
        CORNERS,
        reference,
        window=window,
        seed=5,
        clock=clock or Clock(),
    )


def fill(drift: Drift, points: Matrix, *, piece: int = 400) -> Drift:
    for start in range(0, len(points), piece):
        drift.offer(points[start : start + piece])
        drift.look()
    return drift


def measured(drift: Drift, *windows: Window) -> Drifts:
    _, found = drift.measure(windows or [drift.window()])
    assert found is not None
    return found


def test_records_like_the_reference_do_not_drift() -> None:
    found = measured(fill(drift_of(around(600, 400)), around(600, 400, seed=1)))
    assert found.mean < 0.02
    assert found.largest < 0.05


def test_one_dimension_that_moves_shows_in_the_largest_and_less_in_the_mean() -> None:
    moved = around(600, 400, seed=1) + np.array([0, 0, 0.06], np.float32)
    found = measured(fill(drift_of(around(600, 400)), moved))
    assert found.largest > 1
    assert found.mean == pytest.approx(found.largest / 3, rel=0.05)


def test_a_network_that_is_well_does_not_drift_though_its_reference_is_full_of_faults() -> None:
    found = measured(fill(drift_of(around(600, 400)), around(2000, 5, seed=1)))
    assert found.largest < 0.05


def test_a_class_that_moves_shows_in_whatever_mix_it_comes() -> None:
    for mix in ((1000, 1000), (2000, 50)):
        moved = around(*mix, seed=1) + np.float32(0.05)
        assert measured(fill(drift_of(around(600, 400)), moved)).mean > 0.5


def test_a_dimension_that_does_not_vary_tells_when_it_begins_to_and_not_of_less() -> None:
    points = around(600, 400)
    points[:, 2] = 0.5
    drift = drift_of(points)
    trembling = around(600, 400, seed=1)
    trembling[:, 2] = 0.5 + 1e-4
    assert measured(fill(drift, trembling)).largest < 0.05
    leaving = around(600, 400, seed=1)
    leaving[:, 2] = 0.53
    assert measured(fill(drift_of(points), leaving)).largest > 1


def test_a_class_that_the_reference_does_not_hold_drifts() -> None:
    found = measured(fill(drift_of(around(1000, 0)), around(0, 1000, seed=1)))
    assert found.largest > 1


def test_missing_and_impossible_values_do_no_harm() -> None:
    points = around(600, 400, seed=1)
    points[::2] = np.nan
    found = measured(fill(drift_of(around(600, 400)), points))
    assert math.isfinite(found.mean)
    assert found.largest > 0.25


def test_nothing_is_told_of_few_records() -> None:
    drift = fill(drift_of(around(600, 400)), around(LEAST_RECORDS - 1, 0))
    assert drift.measure([drift.window()]) == (LEAST_RECORDS - 1, None)
    fill(drift, around(1, 0))
    records, found = drift.measure([drift.window()])
    assert records == LEAST_RECORDS
    assert found is not None
    assert drift.measure([]) == (0, None)


def test_what_is_far_back_is_forgotten() -> None:
    drift = drift_of(around(600, 400), window=2000)
    fill(drift, around(1200, 800, seed=1) + np.float32(0.05), piece=200)
    assert measured(drift).mean > 0.5
    fill(drift, around(1200, 800, seed=2), piece=200)
    assert measured(drift).mean < 0.02
    assert 1800 <= drift.window().records <= 2200


def test_it_looks_now_and_then_and_at_a_bounded_sample() -> None:
    now, looks = 0.0, []

    def embed(matrix: Matrix) -> Matrix:
        looks.append(len(matrix))
        return matrix

    drift = Drift("v", embed, CORNERS, around(600, 400), window=10_000, seed=1, clock=lambda: now)
    looks.clear()
    for second in range(60):
        now = float(second)
        drift.offer(around(3000, 2000))
        drift.look()
    assert looks == [500] * 6


def test_windows_of_several_workers_count_as_one_and_those_of_other_bundles_not_at_all() -> None:
    points, reference = around(1200, 800, seed=1), around(600, 400)
    whole = fill(drift_of(reference), points)
    halves = [fill(drift_of(reference), half) for half in np.split(points, 2)]
    windows = [half.window() for half in halves]
    other = fill(drift_of(reference), around(500, 0)).window()
    other.version = "2" * 16
    assert whole.measure([whole.window()])[0] == 2000
    assert halves[0].measure([*windows, other])[0] == 2000
    together = measured(halves[0], *windows, other)
    assert together == measured(halves[1], *windows)
    assert together.mean == pytest.approx(measured(whole).mean, abs=0.01)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1 << 20),
    mix=st.tuples(st.integers(0, 900), st.integers(500, 900)),
    width=st.floats(0, 0.3),
)
def test_drift_is_a_number_from_0_and_the_largest_is_at_least_the_mean(
    seed: int, mix: tuple[int, int], width: float
) -> None:
    found = measured(fill(drift_of(around(60, 70)), around(*mix, width=width, seed=seed)))
    assert 0 <= found.mean <= found.largest < math.inf


def test_the_index_is_the_sum_over_deciles_less_what_chance_makes() -> None:
    random = np.random.default_rng(0)
    reference, found = random.uniform(0.2, 0.8, 4000), random.beta(2, 3, 5000)
    edges = np.quantile(reference, np.arange(1, 10) / 10)
    expected = 0.0
    for low, high in zip([0, *edges], [*edges, 1], strict=True):
        p = np.mean((reference >= low) & (reference < high))
        q = np.mean((found >= low) & (found < high))
        expected += (q - p) * math.log(q / p)
    expected -= 9 * (1 / 4000 + 1 / 5000)
    drift = Drift(
        "v",
        lambda matrix: matrix,
        np.array([[0.5]], np.float32),
        reference.astype(np.float32)[:, None],
        window=100_000,
        seed=1,
        clock=Clock(),
    )
    value = measured(fill(drift, found.astype(np.float32)[:, None])).mean
    assert value == pytest.approx(expected, rel=0.05)


def test_requests_may_come_while_it_looks() -> None:
    drift, points, stop = drift_of(around(600, 400)), around(60, 40, seed=1), threading.Event()

    def offer() -> None:
        while not stop.is_set():
            drift.offer(points)

    offering = threading.Thread(target=offer)
    offering.start()
    for _ in range(100):
        drift.look()
    stop.set()
    offering.join()
    assert measured(drift).largest < 0.2


# The real thing: 15,771 records of three runs of a lab, and the model that ships.


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.load(ROOT / "models" / "iosxr")


@pytest.fixture(scope="module")
def table(model: Model) -> dict[str, Matrix]:
    """Records of the split `a` (train and dev of one run, test of another), as they are sent."""
    folder = ROOT / "training" / "data" / "cisco-iosxr"
    found: dict[str, list[list[float]]] = {"train": [], "dev": [], "test": [], "": []}
    with (
        gzip.open(folder / "cisco_iosxr_features.csv.gz", "rt") as features,
        gzip.open(folder / "splits.csv.gz", "rt") as splits,
    ):
        for record, split in zip(csv.DictReader(features), csv.DictReader(splits), strict=True):
            if record["label"] not in {"recovering", "port_flap_elsewhere"}:
                row = [float(record[name] or "nan") for name in model.schema.names]
                found[split["a"]].append(row)
                if split["a"] == "dev" and record["label"] == "normal":
                    found.setdefault("normal", []).append(row)
    return {name: np.array(rows, np.float32) for name, rows in found.items()}


def served(model: Model, reference: Matrix, records: Matrix) -> Drifts:
    model.reference = Reference(reference, np.zeros(len(reference), np.int16))
    drift = Drift.of(model, window=10_000, clock=Clock())
    assert drift is not None
    return measured(fill(drift, records, piece=1))


def test_a_random_half_of_calibration_records_does_not_drift_from_the_other(
    model: Model, table: dict[str, Matrix]
) -> None:
    for seed in range(5):
        records = np.random.default_rng(seed).permutation(table["dev"])
        found = served(model, records[::2], records[1::2])
        assert found.mean < 0.02
        assert found.largest < 0.1


def test_good_records_do_not_drift_from_a_calibration_set_with_faults(
    model: Model, table: dict[str, Matrix]
) -> None:
    found = served(model, table["dev"], table["normal"])
    assert found.mean < 0.1


def test_another_run_of_the_lab_drifts(model: Model, table: dict[str, Matrix]) -> None:
    assert served(model, table["dev"], table["test"]).mean > 0.25


def test_fields_in_the_wrong_order_drift(model: Model, table: dict[str, Matrix]) -> None:
    assert served(model, table["dev"], table["dev"][:, ::-1].copy()).mean > 0.25


def test_a_bundle_without_a_reference_or_with_too_little_of_one_measures_no_drift(
    model: Model, table: dict[str, Matrix]
) -> None:
    for reference in (None, Reference(table["dev"][:99], np.zeros(99, np.int16))):
        model.reference = reference
        assert Drift.of(model, window=10_000, clock=Clock()) is None


# In the service.


@pytest.fixture
def referenced(bundle: Path, tmp_path: Path) -> Path:
    """The folder of a bundle with a reference."""
    known = Bundle.read(bundle)
    random, model = np.random.default_rng(0), Model(known)
    columns = [field.typical for field in model.schema.fields]
    records = model.schema.encode([dict(zip(model.schema.names, columns, strict=True))] * 200)
    records[:, 0] += random.normal(0, 5, 200)
    reference = Reference(records, np.zeros(200, np.int16))
    about = known.manifest.model_dump(exclude={"format", "version", "files"})
    files = {**known.files, "reference.npz": reference.to_bytes()}
    Bundle.make(files, **about).write(tmp_path / "referenced")
    return tmp_path / "referenced"


def drifts(client: TestClient) -> list[str]:
    lines = client.get("/metrics").text.splitlines()
    return [line for line in lines if line.startswith("faultcube_drift")]


@pytest.mark.parametrize("path", ["/classify", "/embed"])
def test_what_is_answered_is_compared_with_the_reference(
    referenced: Path,
    serve: Callable[..., TestClient],
    good: dict[str, object],
    overload: dict[str, object],
    path: str,
) -> None:
    client = serve(referenced)
    for _ in range(3):
        client.post(path, json={"records": [good | {"cpu load": 60}] * 150 + [overload] * 50})
    mean, largest, records = drifts(client)
    assert mean.startswith('faultcube_drift{statistic="mean"} ')
    assert largest.startswith('faultcube_drift{statistic="max"} ')
    assert float(largest.split()[1]) > float(mean.split()[1]) > 0.25
    assert records == "faultcube_drift_records 500.0"


def test_without_a_reference_there_is_no_drift_to_tell_of(
    client: TestClient, good: dict[str, object]
) -> None:
    client.post("/classify", json={"records": [good] * 600})
    assert drifts(client) == ["faultcube_drift_records 0.0"]
