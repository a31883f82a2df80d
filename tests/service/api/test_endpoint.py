"""The wire: what is read, what is refused, and how it is said."""

from __future__ import annotations

import gc
import gzip
import json
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import zstandard
from httpx2 import Response
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from models import Field
from service.api import endpoint as module
from service.formats.chunk import CHUNK_BYTES
from service.web.problems import MEDIA_TYPE, Problem

GOOD = '"link up": true, "state": "idle"'
PATHS = ["/classify", "/embed"]
SECRET = "s3cr3t-value"
ARROW = {"Content-Type": "application/vnd.apache.arrow.stream"}

NUMBER, RATE = "a finite number (%)", "a finite number (errors/s)"
FLAG, STATE, KNOWN = "true or false", "one of idle, busy", "only fields of the schema"
OR_NULL = ", or null when it is missing"
HUGE = "a number beyond ±3.4e+38"


def errors_of(response: Response) -> list[dict[str, Any]]:
    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == MEDIA_TYPE
    errors: list[dict[str, Any]] = response.json()["errors"]
    return errors


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("record", "field", "expected", "got"),
    [
        (f"{{{GOOD}}}", "cpu load", NUMBER, "no such field"),
        (f'{{"cpu load": 1, {GOOD}, "a": 1}}', "a", KNOWN, "a field it does not have"),
        (f'{{"cpu load": "1", {GOOD}}}', "cpu load", NUMBER, "a string"),
        (f'{{"cpu load": true, {GOOD}}}', "cpu load", NUMBER, "a boolean"),
        (f'{{"cpu load": [1], {GOOD}}}', "cpu load", NUMBER, "an array"),
        (f'{{"cpu load": {{}}, {GOOD}}}', "cpu load", NUMBER, "an object"),
        (f'{{"cpu load": null, {GOOD}}}', "cpu load", NUMBER, "null"),
        (f'{{"cpu load": NaN, {GOOD}}}', "cpu load", NUMBER, "NaN"),
        (f'{{"cpu load": Infinity, {GOOD}}}', "cpu load", NUMBER, "an infinite number"),
        (f'{{"cpu load": -Infinity, {GOOD}}}', "cpu load", NUMBER, "an infinite number"),
        (f'{{"cpu load": 1e999, {GOOD}}}', "cpu load", NUMBER, "an infinite number"),
        (f'{{"cpu load": 1e39, {GOOD}}}', "cpu load", NUMBER, HUGE),
        (f'{{"cpu load": 1{"0" * 400}, {GOOD}}}', "cpu load", NUMBER, HUGE),
        ('{"cpu load": 1, "link up": 1, "state": "idle"}', "link up", FLAG, "a number"),
        ('{"cpu load": 1, "link up": null, "state": "idle"}', "link up", FLAG, "null"),
        ('{"cpu load": 1, "link up": true, "state": "odd"}', "state", STATE, "a string"),
        (f'{{"cpu load": 1, {GOOD}, "vendor": 5}}', "vendor", "a string" + OR_NULL, "a number"),
        (f'{{"cpu load": 1, {GOOD}, "error rate": NaN}}', "error rate", RATE + OR_NULL, "NaN"),
    ],
)  # fmt: skip
def test_a_bad_field_is_named_with_what_was_expected_and_what_was_got(
    shared: TestClient, path: str, record: str, field: str, expected: str, got: str
) -> None:
    fine = f'{{"cpu load": 1, {GOOD}}}'
    response = shared.post(path, content=f'{{"records": [{fine}, {record}]}}')
    assert errors_of(response) == [{"record": 1, "field": field, "expected": expected, "got": got}]
    assert f"record 1, field '{field}': expected {expected}" in response.json()["detail"]


@pytest.mark.parametrize("record", ["1", "null", '"x"', "[]", "NaN"])
def test_a_record_that_is_no_object_is_refused_by_its_index(
    shared: TestClient, record: str
) -> None:
    (error,) = errors_of(shared.post("/classify", content=f'{{"records": [{record}]}}'))
    assert error["record"] == 0
    assert error["expected"] == "an object of fields"
    assert "field" not in error


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("body", "got"),
    [
        ("{}", "no such key"),
        ('{"records": null}', "null"),
        ('{"records": {}}', "an object"),
        ('{"records": "x"}', "a string"),
        ('{"records": []}', "an empty list"),
        ('{"records": [' + ",".join(["{}"] * 51) + "]}", "51 records"),
    ],
)
def test_records_must_be_a_list_within_bounds(
    shared: TestClient, path: str, body: str, got: str
) -> None:
    assert errors_of(shared.post(path, content=body)) == [
        {"field": "records", "expected": "a list of 1 to 50 records", "got": got}
    ]


@pytest.mark.parametrize("body", ["[]", "1", "null", '"x"', "NaN", "true"])
def test_a_body_that_is_no_object_is_shown_one(shared: TestClient, body: str) -> None:
    (error,) = errors_of(shared.post("/classify", content=body))
    assert error["expected"] == 'an object like {"records": [...]}'


@pytest.mark.parametrize(
    ("path", "key"), [("/classify", "distance"), ("/embed", "distances"), ("/embed", "x" * 500)]
)
def test_an_unknown_key_beside_the_records_is_refused(
    shared: TestClient, path: str, key: str, good: dict[str, Any]
) -> None:
    (error,) = errors_of(shared.post(path, json={"records": [good], key: True}))
    assert error["field"][:9] == key[:9]
    assert len(error["field"]) <= 100
    assert "record" not in error


@pytest.mark.parametrize("value", [1, 0, None, "true", [], {}])
def test_an_option_takes_nothing_but_true_and_false(
    shared: TestClient, value: object, good: dict[str, Any]
) -> None:
    response = shared.post("/classify", json={"records": [good], "distances": value})
    (error,) = errors_of(response)
    assert (error["field"], error["expected"]) == ("distances", "true or false")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b'{"records": [}',
        b"{'records': []}",
        b'{"records": []} x',
        b'{"records": [{"a": "\xff"}]}',
        b"\xff\xfe{\x00}\x00",
        b'{"records": [{"a": "\\ud800"}]}',
        b"[" * 100_000,
        b'{"records":' * 10_000,
        b"a=1&b=2",
        b"9" * 10_000,
    ],
)
def test_what_is_not_json_is_a_400(shared: TestClient, path: str, body: bytes) -> None:
    response = shared.post(path, content=body)
    assert response.status_code == 400
    assert response.json()["reason"] == "unreadable"
    assert len(response.content) < 500


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "application/jsonx"},
        {"Content-Type": "text/csv"},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Type": 'text/plain; format=flowed; charset="utf-16"'},
        {"Content-Type": "application/json", "Content-Encoding": "br"},
        {"Content-Encoding": "identity, gzip"},
    ],
)
def test_what_is_not_spoken_is_a_415_that_says_what_is(
    shared: TestClient, path: str, headers: dict[str, str], good: dict[str, Any]
) -> None:
    content = json.dumps({"records": [good]})
    response = shared.post(path, content=content, headers=headers)
    assert response.status_code == 415
    assert "application/json or text/plain (charset utf-8)" in response.json()["detail"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "application/json"},
        {"Content-Type": "Application/JSON; Charset=UTF-8"},
        {"Content-Type": 'application/json; charset="utf-8"'},
        {"Content-Type": "text/plain"},
        {"Content-Type": "text/plain; charset=utf-8"},
        {"Content-Type": "application/json", "Content-Encoding": "identity"},
    ],
)
def test_these_are_spoken(
    shared: TestClient, headers: dict[str, str], good: dict[str, Any]
) -> None:
    content = json.dumps({"records": [good]})
    assert shared.post("/classify", content=content, headers=headers).status_code == 200


def test_a_body_that_announces_too_much_is_refused_however_little_comes(
    shared: TestClient,
) -> None:
    for length in ("1048577", "9" * 400):
        response = shared.post("/embed", content=iter([b"{}"]), headers={"Content-Length": length})
        assert response.status_code == 413
        assert response.json()["detail"].startswith("The body is longer than 1048576 bytes")
        assert response.headers["connection"] == "close"


def test_ten_thousand_empty_objects_are_refused_at_once(
    serve: Any, bundle: Any, good: dict[str, Any]
) -> None:
    client = serve(bundle)

    def post(record: dict[str, Any]) -> tuple[Response, float]:
        body = json.dumps({"records": [record] * 10_000})
        start = time.process_time()
        return client.post("/classify", content=body), time.process_time() - start

    accepted, seconds = post(good)
    response, seconds_to_refuse = post({})
    assert accepted.status_code == 200
    assert seconds_to_refuse < 3 * seconds
    assert len(errors_of(response)) == 10
    assert len(response.content) < 8000


def test_many_unknown_fields_with_hostile_names_are_told_briefly(
    shared: TestClient, good: dict[str, Any]
) -> None:
    hostile = {f"{i}" + "\N{GRINNING FACE}\n\x1b[31m" * 200: 1 for i in range(50)}
    for body in ({"records": [good | hostile]}, {"records": [good]} | hostile):
        response = shared.post("/classify", json=body)
        assert 5 <= len(errors_of(response)) <= 10
        assert len(response.content) < 8000
        assert "\\u001b" not in response.text


def test_fields_of_66_long_categories_are_told_briefly(serve: Any, make_bundle: Any) -> None:
    categories = tuple(f"{i}" + "é" * 500 for i in range(66))
    fields = tuple(
        Field(name=f"{i}" + "ü" * 150, kind="category", categories=categories) for i in range(20)
    )
    folder = make_bundle(fields, [{field.name: categories[0] for field in fields}])
    response = serve(folder).post("/classify", json={"records": [{}]})
    assert len(errors_of(response)) >= 5
    assert len(response.content) < 8000


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.just(SECRET)
NAMES = st.sampled_from(["cpu load", "error rate", "link up", "state", "vendor"]) | st.text()
RECORDS = st.lists(st.dictionaries(NAMES, LEAVES) | LEAVES, max_size=5)
ANYTHING = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10
)
BODIES = ANYTHING | st.fixed_dictionaries(
    {"records": RECORDS | ANYTHING},
    optional={"distances": st.booleans() | LEAVES, "explain": LEAVES, "x": LEAVES},
)


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(body=BODIES, path=st.sampled_from(PATHS))
def test_no_json_whatever_breaks_the_service_or_is_repeated(
    shared: TestClient, body: object, path: str
) -> None:
    response = shared.post(path, content=json.dumps(body))
    assert response.status_code in {200, 400, 422}
    assert SECRET not in response.text
    assert len(response.content) < 8000


@settings(max_examples=200, deadline=None)
@given(body=st.binary(), path=st.sampled_from(PATHS))
def test_no_bytes_whatever_break_the_service(shared: TestClient, body: bytes, path: str) -> None:
    assert shared.post(path, content=body).status_code in {400, 422}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP", "zstd", "identity"])
def test_a_compressed_body_is_answered_as_a_plain_one(
    shared: TestClient, path: str, encoding: str, good: dict[str, Any], down: dict[str, Any]
) -> None:
    body = json.dumps({"records": [good, down] * 10}).encode()
    packed = {"zstd": zstandard.compress(body), "identity": body}
    content = packed.get(encoding) or gzip.compress(body)
    response = shared.post(path, content=content, headers={"Content-Encoding": encoding})
    assert response.status_code == 200
    assert response.content == shared.post(path, content=body).content


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("zstd", zstandard.compress)]
)
def test_a_body_that_inflates_beyond_the_limit_is_too_large(
    shared: TestClient, encoding: str, pack: Callable[[bytes], bytes]
) -> None:
    bomb = pack(b" " * (64 << 20))
    assert len(bomb) < 1 << 20
    response = shared.post("/classify", content=bomb, headers={"Content-Encoding": encoding})
    assert response.status_code == 413
    state = shared.app.state.faultcube  # type: ignore[attr-defined]
    assert state.budget.held == state.scheduler.waiting == 0


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_body_that_is_not_of_its_encoding_is_a_400(shared: TestClient, encoding: str) -> None:
    response = shared.post("/embed", content=b"{}", headers={"Content-Encoding": encoding})
    assert (response.status_code, response.json()["reason"]) == (400, "unreadable")


def test_a_report_puts_an_error_in_the_place_of_each_bad_record(
    shared: TestClient, good: dict[str, Any], down: dict[str, Any]
) -> None:
    records = [good, good | {"cpu load": SECRET}, down, {}]
    response = shared.post("/classify?on_invalid=report", json={"records": records})
    assert response.status_code == 200
    first, second, third, fourth = response.json()["results"]
    assert [first["label"], third["label"]] == ["normal", "link-down"]
    assert second == {
        "error": {"record": 1, "field": "cpu load", "expected": NUMBER, "got": "a string"}
    }
    assert fourth["error"]["record"] == 3
    assert SECRET not in response.text
    points = shared.post("/embed?on_invalid=report", json={"records": records}).json()["embeddings"]
    assert [isinstance(point, list) for point in points] == [True, False, True, False]
    assert shared.post("/classify?on_invalid=strict", json={"records": records}).status_code == 422


@pytest.mark.parametrize("body", ["{}", '{"records": 1}', "[]", '{"records": [], "x": 1}'])
def test_a_report_forgives_no_body_without_records(shared: TestClient, body: str) -> None:
    assert shared.post("/classify?on_invalid=report", content=body).status_code == 422


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("on_invalid=perhaps", "on_invalid"),
        ("on_invald=report", "on_invald"),
        ("distances=1", "distances"),
        ("explain=yes", "explain"),
        ("x", "x"),
        ("&".join(["a=1"] * 50), "?"),
        ("%ff=1", "�"),
    ],
)
def test_a_query_that_is_not_known_is_refused(
    shared: TestClient, good: dict[str, Any], query: str, field: str
) -> None:
    response = shared.post(f"/classify?{query}", json={"records": [good]})
    (error, *_) = errors_of(response)
    assert error["field"] == field


def test_every_answer_names_its_bundle_in_its_head_too(
    shared: TestClient, good: dict[str, Any]
) -> None:
    response = shared.post("/classify", json={"records": [good]})
    bundle = response.json()["bundle"]
    assert response.headers["faultcube-bundle"] == f"{bundle['name']}/{bundle['version']}"


def stream(records: list[dict[str, Any]]) -> bytes:
    table = pa.Table.from_pylist(records)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


@pytest.mark.parametrize("distances", ["true", "false"])
def test_arrow_is_answered_in_arrow_and_says_what_json_says(
    shared: TestClient,
    distances: str,
    good: dict[str, Any],
    down: dict[str, Any],
    unknown: dict[str, Any],
) -> None:
    records, query = [good, down, unknown], f"?distances={distances}"
    told = shared.post("/classify" + query, json={"records": records}).json()["results"]
    response = shared.post("/classify" + query, content=stream(records), headers=ARROW)
    assert response.headers["content-type"] == ARROW["Content-Type"]
    table = pa.ipc.open_stream(response.content).read_all()
    for one, other in zip(table.to_pylist(), told, strict=True):
        assert (one["label"], one["good"]) == (other["label"], other["good"])
        assert one["nearest"] == other.get("nearest")
        assert one["distance"] == pytest.approx(other["distance"])
        assert ("distances" in one) == (distances == "true")
    points = shared.post("/embed", content=stream(records), headers=ARROW)
    embeddings = pa.ipc.open_stream(points.content).read_all().column("embedding").to_pylist()
    expected = shared.post("/embed", json={"records": records}).json()["embeddings"]
    assert embeddings == [pytest.approx(point) for point in expected]


def test_what_is_wanted_may_be_another_form_than_what_is_sent(
    shared: TestClient, good: dict[str, Any]
) -> None:
    body = stream([good])
    as_json = shared.post("/classify", content=body, headers=ARROW | {"Accept": "application/json"})
    assert as_json.json()["results"][0]["label"] == "normal"
    wanted = {"Accept": ARROW["Content-Type"]}
    as_arrow = shared.post("/classify", json={"records": [good]}, headers=wanted)
    assert pa.ipc.open_stream(as_arrow.content).read_all()["label"].to_pylist() == ["normal"]


def test_a_report_in_arrow_has_a_column_of_errors(shared: TestClient, good: dict[str, Any]) -> None:
    body = stream([good, good | {"state": SECRET}, good])
    response = shared.post("/classify?on_invalid=report", content=body, headers=ARROW)
    table = pa.ipc.open_stream(response.content).read_all()
    assert table["label"].to_pylist() == ["normal", None, "normal"]
    assert [error is None for error in table["error"].to_pylist()] == [True, False, True]
    assert SECRET not in str(table["error"])


def test_a_large_batch_is_answered_in_order(
    bundle: Path, serve: Callable[..., TestClient], good: dict[str, Any], down: dict[str, Any]
) -> None:
    client = serve(bundle)
    records = [down if number % 7 == 3 else good for number in range(9_000)]
    assert len(json.dumps(records)) > 2 * CHUNK_BYTES
    labels = [
        each["label"]
        for each in client.post("/classify", json={"records": records}).json()["results"]
    ]
    assert labels == ["link-down" if number % 7 == 3 else "normal" for number in range(9_000)]
    state = client.app.state.faultcube  # type: ignore[attr-defined]
    assert state.budget.held == state.scheduler.waiting == 0


@given(st.lists(st.binary(max_size=40), max_size=20), st.integers(1, 30))
def test_an_answer_is_sent_whole_in_parts_of_a_size(parts: list[bytes], size: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "_SEND_BYTES", size)
        sent = [*module._slices(parts)]
    assert b"".join(sent) == b"".join(parts)
    assert all(size <= len(part) < 2 * size for part in sent[:-1])
    assert all(len(part) < 2 * size for part in sent[-1:])


def test_many_records_are_a_large_request_however_few_bytes_they_have(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    sliced: list[int] = []

    async def run(steps: Any) -> Any:
        sliced.append(1)
        return await run_sliced(steps)

    scheduler = client.app.state.faultcube.scheduler  # type: ignore[attr-defined]
    run_sliced = scheduler.run_sliced
    monkeypatch.setattr(scheduler, "run_sliced", run)
    for records, large in ((255, 0), (257, 1)):
        body: dict[str, Any] = {"records": [{}] * records}
        response = client.post("/classify?on_invalid=report", json=body)
        assert len(response.json()["results"]) == records
        assert len(sliced) == large


def test_a_long_answer_has_the_length_that_it_says(
    client: TestClient, good: dict[str, Any]
) -> None:
    body = {"records": [good] * 9_000}
    response = client.post("/embed", json=body)
    assert len(response.content) > 1 << 19
    assert response.headers["content-length"] == str(len(response.content))
    assert len(response.json()["embeddings"]) == 9_000


def test_a_refused_body_is_not_held_until_the_garbage_is_collected(client: TestClient) -> None:
    """A problem with its traceback, whose frames hold the body and the problem, is a circle."""
    kept: list[weakref.ref[Problem]] = []
    count = client.app.state.faultcube.metrics.count_rejected  # type: ignore[attr-defined]

    def count_and_keep(problem: Problem) -> None:
        kept.append(weakref.ref(problem))
        count(problem)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client.app.state.faultcube.metrics, "count_rejected", count_and_keep)  # type: ignore[attr-defined]
        gc.disable()
        try:
            headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
            refused = client.post("/classify", content=b"no gzip", headers=headers)
            assert refused.status_code == 400
            assert [one() for one in kept] == [None]
        finally:
            gc.enable()
