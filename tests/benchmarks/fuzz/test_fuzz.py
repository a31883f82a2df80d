from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks.fuzz.application import Reply
from benchmarks.fuzz.check import fault_of
from benchmarks.fuzz.chunks import small_chunks
from benchmarks.fuzz.mutation import mutate
from benchmarks.fuzz.request import Request
from benchmarks.fuzz.seeds import seeds
from benchmarks.fuzz.worker import Note, save_finding
from benchmarks.fuzz.workers import Workers
from models import Model
from service.formats import json_reader

SHIPPED = Path(__file__).parents[3] / "models" / "iosxr"
JSON = (b"content-type", b"application/json")
ASKED = Request("/classify", b"distances=true", (JSON,), b'{"records": []}\r\n\r\n')


@pytest.fixture(scope="module")
def starts() -> list[Request]:
    """Seeds of the model that ships."""
    return seeds(Model.load(SHIPPED))


def test_a_request_is_read_as_it_was_written(starts: list[Request]) -> None:
    for request in [*starts, ASKED, Request("/")]:
        assert Request.read(request.written()) == request


def test_a_body_arrives_in_the_chunks_that_it_is_cut_into() -> None:
    request = Request("/", body=b"abcdef", cuts=(9, 2, 2))
    assert request.chunks == [b"ab", b"", b"cdef", b""]


def test_the_same_chance_makes_the_same_request(starts: list[Request]) -> None:
    made = [mutate(starts, random.Random(number)) for number in range(300)]
    assert made == [mutate(starts, random.Random(number)) for number in range(300)]
    assert len({request.body for request in made}) > 150
    assert {len(request.headers) for request in made} > {0, 1, 2}
    assert all(0x21 <= byte < 0x7F for request in made for byte in request.query)


def test_pieces_are_small_for_a_while() -> None:
    before = dict(vars(json_reader))
    with small_chunks() as changed:
        assert vars(json_reader)["CHUNK_BYTES"] == 256
    assert vars(json_reader) == before
    assert changed > 5, "the service calls its sizes otherwise now"


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(200, {}, b'{"bundle": {}, "results": []}', 0), None),
        (Reply(200, {}, b'{"bundle": {}, "results": [NaN]}', 0), "form"),
        (Reply(200, {b"content-type": b"application/vnd.apache.arrow.stream"}, b"x", 0), "form"),
        (Reply(422, {}, b'{"reason": "unfit"}', 0), None),
        (Reply(422, {}, b"oh no", 0), "form"),
        (Reply(422, {}, b" " * 8000, 0), "long"),
        (Reply(422, {b"content-length": b"5"}, b'{"reason": ""}', 0), "length"),
        (Reply(503, {}, b"", 0), "status"),
        (Reply(499, {}, b"", 0), "status"),
        (Reply(200, {}, b"", 3.5), "slow"),
        (Reply(None, {}, b"", 0), "silent"),
        (Reply(500, {}, b"", 0, ValueError("odd")), "raised"),
    ],
)
def test_what_must_not_be_is_called_by_its_kind(reply: Reply, kind: str | None) -> None:
    fault = fault_of(ASKED, reply)
    assert (fault and fault.partition(":")[0]) == kind


def test_a_note_outlives_its_writer_and_a_finding_keeps_its_name(tmp_path: Path) -> None:
    Note(tmp_path / "note").write(7, ASKED)
    number, written = Note(tmp_path / "note").read()
    assert (number, Request.read(written)) == (7, ASKED)
    save_finding(tmp_path, "slow: 3 s", written)
    save_finding(tmp_path, "slow: 4 s", written)
    (kept,) = tmp_path.glob("slow-*.http")
    assert Request.read(kept.read_bytes()) == ASKED
    assert kept.with_suffix(".txt").read_text() == "slow: 4 s\n"


def test_a_workers_asks_every_input_once(tmp_path: Path) -> None:
    workers, said = Workers(0, 301, 2, (SHIPPED,), tmp_path, tmp_path), []
    workers.run(lambda: said.append(workers.sent))
    assert workers.sent == said[-1] == workers.statuses.total() == 301
    assert not workers.kinds
    assert not list(tmp_path.glob("*.http"))
    first, now, peak = workers.memory
    assert 1 << 24 < first <= now <= 1.05 * peak


def test_a_process_that_ends_before_its_time_is_a_finding(tmp_path: Path) -> None:
    Note(tmp_path / "0.note").write(0, ASKED)
    workers = Workers(0, 1, 1, (tmp_path / "no bundle",), tmp_path, tmp_path)
    workers.run(lambda: None)
    assert workers.kinds == {"crash": 1}
    (kept,) = tmp_path.glob("crash-*.http")
    assert Request.read(kept.read_bytes()) == ASKED
