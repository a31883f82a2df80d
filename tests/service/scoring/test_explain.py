"""What drove a verdict, asked of the part that says so and of the whole service."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from starlette.testclient import TestClient

from models import Bundle, Decisions, Field, FieldError, Model, RecordError, Reference
from models.schema import UNSEEN, Matrix
from service.formats.chunk import CHUNK_BYTES, Chunk
from service.scoring.explain import MAX_EXPLAINED, Driver, Explainer
from service.scoring.scored import Scored
from service.scoring.served_model import ServedModel
from service.scoring.writers import JsonVerdicts

Record = dict[str, Any]
Serve = Callable[..., TestClient]
ARROW = {"Content-Type": "application/vnd.apache.arrow.stream"}
MISSING = float("nan")
NUMBERS = ("gauge", "rate", "counter")


def fields_of(kinds: list[str]) -> list[Field]:
    return [
        Field(
            name=f"field {at}",
            kind=kind,  # type: ignore[arg-type]
            unit="ms" if kind in NUMBERS and at % 2 else "1",
            required=False,
            categories=("a", "b", "c") if kind == "category" else (),
        )
        for at, kind in enumerate(kinds)
    ]


def encoder_of(typical: Matrix, scales: Matrix, imputed: Matrix, weights: Matrix) -> bytes:
    """Impute, take what is typical off, scale, mix every field into every dimension, squash."""
    constants = {
        "typical": typical,
        "scales": scales,
        "imputed": imputed,
        "weights": weights,
        "scale": np.float32(0.98),
        "shift": np.float32(0.01),
    }
    nodes = [
        helper.make_node("IsNaN", ["records"], ["missing"]),
        helper.make_node("Where", ["missing", "imputed", "records"], ["complete"]),
        helper.make_node("Sub", ["complete", "typical"], ["centred"]),
        helper.make_node("Div", ["centred", "scales"], ["scaled"]),
        helper.make_node("MatMul", ["scaled", "weights"], ["product"]),
        helper.make_node("Sigmoid", ["product"], ["squashed"]),
        helper.make_node("Mul", ["squashed", "scale"], ["smaller"]),
        helper.make_node("Add", ["smaller", "shift"], ["embedding"]),
    ]
    width, dimensions = weights.shape
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info("records", TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", dimensions])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    serialized: bytes = model.SerializeToString()
    return serialized


class Network:
    """A made-up network: what its good traffic is like, and an encoder that sees every field.

    Args:
        kinds: of its fields.
        seed: of everything else.
    """

    def __init__(self, kinds: list[str], seed: int) -> None:
        self.random = random = np.random.default_rng(seed)
        self.fields, width = fields_of(kinds), len(kinds)
        self.numbers = np.isin(kinds, NUMBERS)
        self.scales = np.where(self.numbers, 10 ** random.uniform(-4, 6, width), 1)
        highest = np.array([{"boolean": 1, "category": 2}.get(kind, 0) for kind in kinds])
        self.typical = np.where(
            self.numbers, random.normal(0, 3, width) * self.scales, random.integers(0, highest + 1)
        ).astype(np.float32)
        weights = random.normal(0, 1, (width, int(random.integers(2, 12))))
        weights *= 4 / np.linalg.norm(weights, axis=1, keepdims=True)
        imputed = self.typical + 3 * self.scales
        self.model = self._model([each.astype(np.float32) for each in (imputed, weights)])

    def _model(self, arrays: list[Matrix]) -> Model:
        imputed, weights = arrays
        graph = encoder_of(self.typical, self.scales.astype(np.float32), imputed, weights)
        middle = [0.5] * weights.shape[1]
        classes: list[Record] = [
            {"name": "down", "good": False, "severity": "major", "centroid": [0.01] * len(middle)},
            {"name": "fine", "good": True, "severity": "none", "centroid": middle},
        ]
        example: Record = {"records": [{}]}
        bundle = Bundle.make(
            {"encoder.onnx": graph, "examples.json": json.dumps(example).encode()},
            name="made-up",
            created=datetime(2026, 1, 1, tzinfo=UTC),
            dimensions=len(middle),
            fields=self.fields,
            classes=[each | {"radius": 0.01, "records": 50} for each in classes],
            calibration={"unknown_rate": 0.01, "temperature": 0.05, "records": {"fine": 50}},
            training={},
            metrics={},
        )
        model = Model(bundle)
        records = np.concatenate([self.good(51), self.good(20) + np.float32(1)])
        model.reference = Reference(records, np.array([1] * 51 + [0] * 20, np.int16))
        return model

    def good(self, number: int) -> Matrix:
        """Records that are as they typically are, with a little noise."""
        noise = self.random.normal(0, 0.005, (number, len(self.fields)))
        records: Matrix = self.typical + (noise * self.scales * self.numbers).astype(np.float32)
        return records

    def plant(self, record: Matrix, at: int) -> None:
        """Put one field of a record far off."""
        kind = self.fields[at].kind
        if kind not in {"boolean", "category"}:
            far = self.random.choice([-1, 1]) * self.random.uniform(1, 50)
            missing = self.random.random() < 0.1
            record[at] = MISSING if missing else self.typical[at] + far * self.scales[at]
        else:
            others = [code for code in range(2 + (kind == "category")) if code != self.typical[at]]
            record[at] = self.random.choice(others)


def explain(model: Model, records: Matrix) -> tuple[Decisions, list[list[Driver]]]:
    """What is said of records."""
    explainer = Explainer.of(model, [known.name for known in model.manifest.classes])
    assert explainer is not None
    variants = explainer.vary(records)
    decisions = model.decide(variants.matrix)
    return decisions[: len(records)], explainer.explain(variants, decisions.distances)


KINDS = st.sampled_from([*NUMBERS, "boolean", "category"])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    kinds=st.lists(KINDS, min_size=1, max_size=60),
    number=st.integers(1, 30),
    seed=st.integers(0, 1 << 32),
)
def test_a_planted_fault_is_the_first_that_is_told(
    kinds: list[str], number: int, seed: int
) -> None:
    network = Network(kinds, seed)
    records = network.good(number)
    planted = network.random.integers(0, len(kinds), number).tolist()
    for record, at in zip(records, planted, strict=True):
        network.plant(record, at)
    decisions, explanations = explain(network.model, records)
    assert (decisions.distances[:, 1] > 0.01).all()
    for record, at, drivers in zip(records, planted, explanations, strict=True):
        first, shares = drivers[0], [driver.share for driver in drivers]
        assert first.field == network.fields[at].name
        assert (first.value is None) == bool(np.isnan(record[at]))
        assert first.unit == ("ms" if network.fields[at].unit == "ms" else None)
        assert shares == sorted(shares, reverse=True)
        assert len(shares) <= 10
        assert min(shares) >= 0.001
        assert sum(shares) <= 1.001


@pytest.fixture(scope="module")
def shipped() -> Model:
    return Model.load(Path(__file__).parents[3] / "models" / "iosxr")


def turned(model: Model, record: Matrix, times: float) -> list[tuple[float, str, str]]:
    """What comes first of each field which, far off, makes a record of good traffic bad.

    Returns:
        How many times as far from good traffic it is then, the field, and what is told first.
    """
    assert model.reference is not None
    largest = np.abs(model.reference.records).max(axis=0) + np.float32(1e-3)
    planted = np.repeat(record[None], len(record), axis=0)
    np.fill_diagonal(planted, largest * np.float32(times))
    decisions, explanations = explain(model, planted)
    before = model.decide(record[None]).distances[0, 0]
    bad = (decisions.nearest != 0) | ~decisions.accepted
    farther = decisions.distances[:, 0] / before
    return [
        # A record on the border of what is accepted may have none: no field alone brings it nearer.
        (float(farther[at]), model.schema.names[at], next((d.field for d in explanations[at]), ""))
        for at in np.flatnonzero(bad).tolist()
    ]


def good_of(model: Model) -> Matrix:
    assert model.reference is not None
    known = model.reference.records
    decisions = model.decide(known)
    good: Matrix = known[(decisions.nearest == 0) & decisions.accepted]
    return good


@settings(max_examples=60, deadline=None)
@given(data=st.data(), times=st.floats(1, 100), sign=st.sampled_from([-1, 1]))
def test_what_takes_a_real_record_far_from_good_traffic_is_the_first_that_is_told(
    shipped: Model, data: st.DataObject, times: float, sign: int
) -> None:
    good = good_of(shipped)
    found = turned(shipped, good[data.draw(st.integers(0, len(good) - 1))], sign * times)
    assume(found)
    # A record that was nearly bad before has reasons of its own.
    assert all(first == planted for farther, planted, first in found if farther > 9)


def test_what_turns_a_real_record_into_a_fault_is_nearly_always_the_first_that_is_told(
    shipped: Model,
) -> None:
    found = [
        first == planted
        for record in good_of(shipped)[::15]
        for times in (-10, -1, 1, 10, 100)
        for _, planted, first in turned(shipped, record, times)
    ]
    assert len(found) > 5000
    assert np.mean(found) > 0.998


def test_shares_are_of_what_single_fields_bring_nearer_to_good_traffic() -> None:
    network = Network(["gauge", "gauge", "boolean", "category"], 3)
    records = network.good(20) + (network.random.normal(0, 1, (20, 4))).astype(np.float32) * (
        network.scales * network.numbers
    ).astype(np.float32)
    explainer = Explainer.of(network.model, ["down", "fine"])
    assert explainer is not None
    _, explanations = explain(network.model, records)
    for record, drivers in zip(records, explanations, strict=True):
        here = network.model.decide(record[None]).distances[0, 1]
        gains = {}
        for at, field in enumerate(network.fields):
            varied = record.copy()
            varied[at] = explainer.typical[at]
            there = network.model.decide(varied[None]).distances[0, 1]
            gains[field.name] = max(0.0, float(here) - float(there))
        shares = {name: gain / sum(gains.values()) for name, gain in gains.items() if gain > 0}
        told = {driver.field: driver.share for driver in drivers}
        for name, share in shares.items():
            assert told.get(name, 0) == pytest.approx(share, abs=2e-3)


TYPICAL = (
    Field(name="number", kind="gauge", required=False),
    Field(name="nothing", kind="gauge", required=False),
    Field(name="flag", kind="boolean", required=False),
    Field(name="word", kind="category", categories=("x", "y", "z"), open=True, required=False),
)


def test_typical_is_the_median_of_numbers_and_the_most_frequent_of_others() -> None:
    good = np.array(
        [
            [1, MISSING, 1, 2],
            [2, MISSING, 0, 2],
            [3e38, MISSING, 1, UNSEEN],
            [3e38, MISSING, MISSING, MISSING],
            [MISSING, MISSING, MISSING, MISSING],
        ],
        np.float32,
    )
    explainer = Explainer(TYPICAL, good, 0)
    expected = np.array([1.5e38, MISSING, 1, 2], np.float32)
    np.testing.assert_array_equal(explainer.typical, expected)


def test_values_are_shown_as_they_are_sent() -> None:
    good = np.array([[0.1, MISSING, 0, 1]], np.float32)
    explainer = Explainer(TYPICAL, good, 0)
    record = np.array([[16777216, 7.7, 1, UNSEEN], [0.2, 5, MISSING, 0]], np.float32)
    variants = explainer.vary(record)
    assert len(variants) == 2
    distances = np.full((10, 1), 0.5, np.float32)
    distances[2:, 0] = np.tile([0.1, 0.2, 0.3, 0.4], 2)
    first, second = explainer.explain(variants, distances)
    assert [(each.value, each.typical) for each in first] == [
        (16777216.0, 0.1), (7.7, None), (True, False), (None, "y"),
    ]  # fmt: skip
    assert [(each.value, each.typical) for each in second] == [
        (0.2, 0.1), (5.0, None), (None, False), ("x", "y"),
    ]  # fmt: skip
    assert [each.share for each in first] == [0.4, 0.3, 0.2, 0.1]


def test_rounding_is_no_reason() -> None:
    explainer = Explainer(TYPICAL, np.zeros((1, 4), np.float32), 0)
    variants = explainer.vary(np.ones((1, 4), np.float32))
    distances = np.full((5, 1), 0.25, np.float32)
    distances[0] = np.nextafter(np.float32(0.25), np.float32(1))
    assert explainer.explain(variants, distances) == [[]]


def test_what_is_as_it_typically_is_costs_no_variant() -> None:
    explainer = Explainer(TYPICAL, np.array([[1, MISSING, 0, 2]], np.float32), 0)
    records = np.array([[1, MISSING, 0, 2], [1, 3, 0, 2]], np.float32)
    variants = explainer.vary(records)
    np.testing.assert_array_equal(variants.matrix, [*records, records[0]])
    assert (variants.records.tolist(), variants.fields.tolist()) == ([1], [1])


def test_good_traffic_is_found_by_its_name(model: Model) -> None:
    model.reference = Reference(np.zeros((2, 5), np.float32), np.array([0, 1], np.int16))
    for names in (["normal", "link-down"], ["new", "x", "normal"]):
        explainer = Explainer.of(model, names)
        assert explainer is not None
        variants = explainer.vary(np.ones((1, 5), np.float32))
        distances = np.zeros((6, len(names)), np.float32)
        distances[0, names.index("normal")] = 0.5
        assert len(explainer.explain(variants, distances)[0]) == 5
    assert Explainer.of(model, ["link-down"]) is None
    model.reference = Reference(np.zeros((2, 5), np.float32), np.array([1, 1], np.int16))
    assert Explainer.of(model, ["normal", "link-down"]) is None


@settings(deadline=None)
@given(
    bad=st.lists(st.lists(st.booleans(), max_size=60), max_size=4),
    width=st.sampled_from([1, 46, 200, 400, 3000]),
)
def test_pieces_are_cut_so_that_all_stays_in_its_place(bad: list[list[bool]], width: int) -> None:
    fields = fields_of(["gauge"] * width)
    explainer = Explainer(fields, np.zeros((1, width), np.float32), 0)
    chunks, record = [], 0
    for each in bad:
        faults = {
            at: FieldError(record + at, None, "x", "y") for at, wrong in enumerate(each) if wrong
        }
        rows = [record + at for at, wrong in enumerate(each) if not wrong]
        matrix = np.repeat(np.array(rows, np.float32)[:, None], width, axis=1)
        chunks.append(Chunk(matrix, faults))
        record += len(each)
    if record > MAX_EXPLAINED:
        with pytest.raises(RecordError, match="'explain': expected at most 100 records"):
            list(explainer.split(chunks))
        return
    found: list[int | None] = []
    for chunk in explainer.split(chunks):
        assert len(chunk) == 1 or len(chunk) * (width + 1) <= 1000
        values = iter(chunk.matrix[:, 0].tolist())
        found += [
            chunk.faults[at].record if at in chunk.faults else int(next(values))
            for at in range(len(chunk))
        ]
        assert next(values, None) is None
    assert found == list(range(record))


# In the service.


@pytest.fixture
def model(bundle: Path) -> Model:
    return Model.load(bundle)


@pytest.fixture(scope="module")
def referenced(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the toy bundle with a reference, in which most records are no good ones."""
    known = Bundle.read(bundle)
    model, random = Model(known), np.random.default_rng(0)
    good, down, overload = (model.schema.encode([each] * 31) for each in model.examples)
    good[:, 0] += np.linspace(-5, 5, 31, dtype=np.float32)
    good[random.random(31) < 0.2, 1] = MISSING
    reference = Reference(
        np.concatenate([good, down, overload]), np.repeat(np.arange(3, dtype=np.int16), 31)
    )
    about = known.manifest.model_dump(exclude={"format", "version", "files"})
    folder = tmp_path_factory.mktemp("referenced") / "toy"
    Bundle.make({**known.files, "reference.npz": reference.to_bytes()}, **about).write(folder)
    return folder


@pytest.fixture
def client(referenced: Path, serve: Serve) -> TestClient:
    return serve(referenced)


def serving_of(client: TestClient) -> ServedModel:
    serving: ServedModel = client.app.state.faultcube.served  # type: ignore[attr-defined]
    return serving


def ask(client: TestClient, records: list[Any], query: str = "", **options: bool) -> list[Any]:
    response = client.post(f"/classify{query}", json={"records": records} | options)
    assert response.status_code == 200, response.text
    results = response.json()["results"]
    assert isinstance(results, list)
    return results


def error_of(response: Any) -> tuple[str, str]:
    assert (response.status_code, response.json()["reason"]) == (422, "unfit")
    (error,) = response.json()["errors"]
    assert error["field"] == "explain"
    return error["expected"], error["got"]


LINK = {"field": "link up", "value": False, "typical": True, "share": 1.0}


def test_a_verdict_tells_what_drove_it(
    client: TestClient, good: Record, down: Record, overload: Record
) -> None:
    fine, off, busy = ask(client, [good, down, overload], explain=True)
    assert fine["explanation"] == []
    assert off["explanation"] == [LINK]
    drivers = {each.pop("field"): each for each in busy["explanation"]}
    assert drivers == {
        "cpu load": {"value": 97.0, "typical": 12.5, "unit": "%", "share": pytest.approx(0.5, 0.1)},
        "error rate": {
            "value": 40.5, "typical": 0.0, "unit": "errors/s", "share": pytest.approx(0.5, 0.1),
        },
    }  # fmt: skip


def test_it_may_be_asked_for_in_the_body_and_in_the_query(
    client: TestClient, good: Record, down: Record, unknown: Record
) -> None:
    records = [down, good, unknown]
    plain = ask(client, records)
    assert all("explanation" not in each for each in plain)
    assert ask(client, records, explain=False) == ask(client, records, "?explain=false") == plain
    asked = ask(client, records, explain=True)
    assert (
        asked
        == ask(client, records, "?explain=true")
        == ask(client, records, "?explain=true", explain=False)
    )
    distances = ask(client, records, "?explain=true&distances=true")
    for verdict, explained, other in zip(plain, asked, distances, strict=True):
        assert explained.pop("explanation") == other["explanation"]
        assert explained == pytest.approx(verdict)
        assert list(other["distances"]) == ["normal", "link-down", "overload"]


def test_without_it_nothing_is_done_for_it(client: TestClient, good: Record) -> None:
    ask(client, [good])
    assert "explainer" not in vars(serving_of(client))
    ask(client, [good], explain=True)
    first = serving_of(client).explainer
    ask(client, [good], explain=True)
    assert serving_of(client).explainer is first


def test_the_model_is_asked_once(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, down: Record
) -> None:
    encoder, sizes = serving_of(client).model.encoder, []
    run = encoder._run

    def counted(wanted: list[str], matrix: Matrix, others: dict[str, Matrix]) -> Matrix:
        sizes.append(len(matrix))
        return run(wanted, matrix, others)

    monkeypatch.setattr(encoder, "_run", counted)
    assert ask(client, [down], explain=True)[0]["explanation"] == [LINK]
    ask(client, [down] * 100, explain=True)
    missing = sizes[0] - 1  # variants of this record
    assert 1 <= missing <= 5
    assert sizes == [1 + missing, 100 * (1 + missing)]


def count(client: TestClient, name: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


def test_only_records_are_counted_and_sampled(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, down: Record, good: Record
) -> None:
    sampled: list[npt.NDArray[np.float32]] = []
    serving = serving_of(client)
    observers = (*serving.observers, lambda scored: sampled.append(scored.matrix))
    monkeypatch.setattr(serving, "observers", observers)
    response = client.post(
        "/classify?on_invalid=report", json={"records": [down, {}, good, down], "explain": True}
    )
    assert response.status_code == 200
    records = serving.model.schema.encode([down, good, down])
    np.testing.assert_array_equal(np.concatenate(sampled), records)
    assert count(client, "faultcube_records_total") == 3
    assert count(client, "faultcube_verdicts_total") == 3
    assert count(client, 'faultcube_verdicts_total{label="link-down"}') == 2
    assert count(client, "faultcube_distance_count") == 3


@pytest.mark.parametrize("filler", ["", " " * (CHUNK_BYTES // 30)])
def test_a_hundred_records_are_explained_and_no_more(
    client: TestClient, down: Record, filler: str
) -> None:
    def post(number: int, query: str = "") -> Any:
        text = f",{filler}".join([json.dumps(down)] * number)
        content = f'{{"explain": true, "records": [{text}]}}'
        assert (len(content) > CHUNK_BYTES) == bool(filler)
        return client.post(f"/classify{query}", content=content)

    response = post(100)
    assert response.status_code == 200
    assert [each["explanation"] for each in response.json()["results"]] == [[LINK]] * 100
    expected = ("at most 100 records", "more of them")
    assert error_of(post(101)) == error_of(post(101, "?on_invalid=report")) == expected
    assert error_of(post(500)) == expected


def test_a_report_keeps_errors_in_their_place(client: TestClient, down: Record) -> None:
    records = [{}, down, 5, down | {"link up": True}, down]
    results = ask(client, records, "?on_invalid=report", explain=True)
    plain = ask(client, records, "?on_invalid=report")
    assert [results[0], results[2]] == [plain[0], plain[2]]
    assert ["explanation" in each for each in results] == [False, True, False, True, True]
    assert results[1]["explanation"] == results[4]["explanation"] == [LINK]
    bad = ask(client, [{}] * 100, "?on_invalid=report&explain=true")
    assert all(set(each) == {"error"} for each in bad)
    assert error_of(
        client.post("/classify?on_invalid=report&explain=true", json={"records": [{}] * 101})
    )


def test_records_that_do_not_fit_are_refused_as_ever(client: TestClient, down: Record) -> None:
    body = {"records": [down, {}], "explain": True}
    (error, *_) = client.post("/classify", json=body).json()["errors"]
    assert (error["record"], error["field"]) == (1, "cpu load")


def test_arrow_is_explained_in_json_only(client: TestClient, down: Record) -> None:
    table, sink = pa.Table.from_pylist([down]), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    content, path = bytes(sink.getvalue()), "/classify?explain=true"
    expected = ("a JSON answer", "an Arrow stream that is asked for")
    assert error_of(client.post(path, content=content, headers=ARROW)) == expected
    accept = {"Accept": ARROW["Content-Type"]}
    body = {"records": [down], "explain": True}
    assert error_of(client.post("/classify", json=body, headers=accept)) == expected
    headers = ARROW | {"Accept": "application/json"}
    response = client.post(path, content=content, headers=headers)
    assert response.json()["results"][0]["explanation"] == [LINK]


def test_a_bundle_without_calibration_records_explains_nothing(
    shared: TestClient, down: Record
) -> None:
    body = {"records": [down], "explain": True}
    expected = ("a bundle with calibration records", "a bundle without them")
    assert error_of(shared.post("/classify", json=body)) == expected
    assert error_of(shared.post("/classify?explain=true", json={"records": [down]})) == expected


@pytest.mark.parametrize("value", [1, None, "true", []])
def test_it_is_true_or_false(client: TestClient, down: Record, value: object) -> None:
    response = client.post("/classify", json={"records": [down], "explain": value})
    assert error_of(response)[0] == "true or false"


def test_a_key_that_is_not_known_is_told_those_that_are(client: TestClient, down: Record) -> None:
    response = client.post("/classify", json={"records": [down], "explian": True})
    (error,) = response.json()["errors"]
    assert error["expected"] == "only records, distances and explain in the body"
    response = client.post("/classify?explian=true", json={"records": [down]})
    (error,) = response.json()["errors"]
    assert error["expected"] == "only on_invalid, distances, explain, extra and site"


def test_explained_answers_are_as_documented(
    client: TestClient, good: Record, down: Record, overload: Record, unknown: Record
) -> None:
    document = client.get("/openapi.json").json()
    operation = document["paths"]["/classify"]["post"]
    body = {"records": [good, down, {}, overload, unknown], "explain": True}

    def validate(value: object, schema: Record) -> None:
        whole = {"components": document["components"], **schema}
        jsonschema.Draft202012Validator(whole).validate(value)

    asked = operation["requestBody"]["content"]["application/json"]["schema"]
    validate(body | {"records": [good]}, asked)
    answer = client.post("/classify?on_invalid=report", json=body).json()
    answered = operation["responses"]["200"]["content"]["application/json"]["schema"]
    validate(answer, answered)
    answer["results"][1]["explanation"][0]["more"] = 1
    with pytest.raises(jsonschema.ValidationError):
        validate(answer, answered)
    (parameter,) = [each for each in operation["parameters"] if each["name"] == "explain"]
    assert parameter["schema"] == {"type": "boolean", "default": False}
    others = document["paths"]["/embed"]["post"]
    assert all(each["name"] != "explain" for each in others["parameters"])


def test_an_explanation_is_written_beside_its_verdict(model: Model, down: Record) -> None:
    serving = ServedModel(model, 10)
    matrix = model.schema.encode([down])
    verdicts = JsonVerdicts(serving, distances=False)
    driver = Driver(field="a", value=None, typical=False, share=0.25)
    decisions = model.decide(matrix)
    labels = model.labels(decisions)
    verdicts.add(Scored(Chunk(matrix), matrix, decisions, labels, explanations=[[driver]]))
    (written,) = json.loads(b"".join(verdicts.finish()))["results"]
    assert labels == ["link-down"]
    assert written["explanation"] == [
        {"field": "a", "value": None, "typical": False, "share": 0.25}
    ]
