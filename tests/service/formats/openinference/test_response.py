from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient

from models import Field, FieldError, Model
from service.api.openinference import error_response
from service.formats.openinference.document import OUTPUTS, RequestedOutput
from service.formats.openinference.request import Request, read
from service.formats.openinference.response import metadata, server_metadata, write
from service.web.problems import BODY_TOO_LARGE, Problem, invalid_records
from tests.support.decisions import decided, named
from tests.support.tensors import (
    ROW,
    SCHEMA,
    whole,
)

MODEL = named(["normal", "link-döwn", "overload"], [True, False, False])
EMBEDDINGS = np.arange(8, dtype=np.float32).reshape(4, 2)
DISTANCES = np.arange(12, dtype=np.float32).reshape(4, 3)
ANSWERS: dict[str, Any] = {
    "label": ["normal", "link-döwn", "unknown", "unknown"],
    "good": [True, False, False, False],
    "distance": [0.25, 0.5, 0.75, 1.0],
    "confidence": [1.0, 0.5, 0.25, 0.125],
    "nearest": ["normal", "link-döwn", "overload", "link-döwn"],
    "embedding": EMBEDDINGS.tolist(),
    "distances": DISTANCES.tolist(),
}
FORMS: dict[str, Callable[[int], bool]] = {
    "JSON": lambda _: False,
    "binary": lambda _: True,
    "mixed": lambda place: place % 2 == 0,
}


@pytest.mark.parametrize("form", FORMS)
def test_tritons_client_reads_what_is_written(form: str) -> None:
    outputs = tuple(RequestedOutput(name, FORMS[form](i)) for i, name in enumerate(OUTPUTS))
    request = Request("7", 4, outputs, iter(()))
    headers, content = write(request, decided(DISTANCES), MODEL, EMBEDDINGS)
    told = {name.decode(): value.decode() for name, value in headers}
    length = told.get("inference-header-content-length")
    kind = "application/json" if length is None else "application/octet-stream"
    assert told["content-type"] == kind
    assert (length is None) == (form == "JSON")
    header_length = None if length is None else int(length)
    answer = InferenceServerClient.parse_response_body(content, header_length=header_length)
    assert answer.get_response()["id"] == "7"
    assert answer.get_response()["model_name"] == "toy"
    assert answer.get_response()["model_version"] == "abc"
    for wanted in outputs:
        found = answer.as_numpy(wanted.name)
        assert answer.get_output(wanted.name)["datatype"] == OUTPUTS[wanted.name]
        values = found.tolist()
        if wanted.binary and OUTPUTS[wanted.name] == "BYTES":
            values = [value.decode() for value in values]
        assert values == ANSWERS[wanted.name]


def test_a_request_without_an_id_is_answered_without_one() -> None:
    request = read(whole(ROW), None, SCHEMA, 5)
    headers, content = write(request, decided(DISTANCES), MODEL, EMBEDDINGS)
    assert headers == [(b"content-type", b"application/json")]
    document = json.loads(content)
    assert document.keys() == {"model_name", "model_version", "outputs"}
    assert [output["name"] for output in document["outputs"]] == list(ANSWERS)[:4]


def test_a_model_says_what_it_takes_and_gives(bundle: Path) -> None:
    told = metadata(Model.load(bundle))
    (records,) = told["inputs"]
    assert (records["name"], records["datatype"], records["shape"]) == ("records", "FP32", [-1, 5])
    assert records["parameters"]["columns"][0] == "cpu load"
    assert told["name"] == "toy"
    shapes = {output["name"]: output["shape"] for output in told["outputs"]}
    assert list(shapes) == list(OUTPUTS)
    assert (shapes["label"], shapes["embedding"], shapes["distances"]) == ([-1], [-1, 3], [-1, 3])
    json.dumps(told)


def test_a_model_with_a_field_called_records_takes_a_tensor_for_each_field(
    make_bundle: Callable[..., Path],
) -> None:
    fields = (
        Field(name="records", kind="gauge"),
        Field(name="up", kind="boolean"),
        Field(name="link", kind="category", categories=("a", "b")),
    )
    folder = make_bundle(fields, [{"records": 1.0, "up": True, "link": "a"}])
    inputs = metadata(Model.load(folder))["inputs"]
    assert [each["datatype"] for each in inputs] == ["FP32", "BOOL", "BYTES"]


def test_the_server_says_that_it_speaks_binary() -> None:
    told = server_metadata()
    assert told["name"] == "faultcube"
    assert told["version"]
    assert told["extensions"] == ["binary_tensor_data"]


def test_a_problem_is_told_in_the_protocols_words() -> None:
    assert json.loads(bytes(error_response(Problem(BODY_TOO_LARGE, "Too much."), "id").body)) == {
        "error": "Too much."
    }
    unfit = invalid_records([FieldError(3, "loss", "a number", "null")])
    assert json.loads(bytes(error_response(unfit, "id").body)) == {
        "error": "record 3, field 'loss': expected a number, got null"
    }
