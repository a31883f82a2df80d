from __future__ import annotations

import msgspec
import pytest

from service.formats.errors import MalformedInputError
from service.ingest.decoded import Batch
from service.ingest.json_items import Items, check_size


class Thing(msgspec.Struct):
    size: int


THINGS = Items(Thing, "things")


def test_items_are_decoded() -> None:
    batch = Batch()
    assert THINGS.decode(b'[{"size":1},{"size":2,"more":0}]', batch) == [Thing(1), Thing(2)]
    assert THINGS.decode(b'{"size":3}', batch) == [Thing(3)]
    assert not batch.reasons


def test_items_that_do_not_fit_are_counted() -> None:
    batch = Batch()
    body = b'[{"size":1},{"size":"x"},5,null,{"size":2}]'
    assert THINGS.decode(body, batch) == [Thing(1), Thing(2)]
    assert batch.reasons == {"things of another form": 3}


@pytest.mark.parametrize("bad", [b"", b"[", b'[{"size":1}', b"[1,]", b"\xff"])
def test_what_is_no_json_is_malformed(bad: bytes) -> None:
    with pytest.raises(MalformedInputError, match="no JSON list of things"):
        THINGS.decode(bad, Batch())


def test_a_body_of_millions_of_nothings_is_refused_before_it_is_parsed() -> None:
    check_size(b"," * 1_000_000)
    with pytest.raises(MalformedInputError, match="a million"):
        THINGS.decode(b"[" + b"{}," * 2_000_000 + b"{}]", Batch())
