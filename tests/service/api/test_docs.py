from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from starlette.testclient import TestClient

from models import Field
from models.schema import LARGEST
from service.api.docs import record_schema
from service.app import create_app
from service.settings import Settings
from service.web.problems import MEDIA_TYPE

Record = dict[str, Any]


def validate(document: Record, value: object, schema: Record) -> None:
    whole = {"components": document["components"], **schema}
    jsonschema.Draft202012Validator(whole).validate(value)


def answer_schema(document: Record, path: str, method: str, status: int) -> Record:
    content = document["paths"][path][method]["responses"][str(status)]["content"]
    media = "application/json" if status == 200 else MEDIA_TYPE
    schema: Record = content[media]["schema"]
    return schema


@pytest.fixture
def document(shared: TestClient) -> Record:
    document: Record = shared.get("/openapi.json").json()
    return document


@pytest.mark.parametrize(
    ("path", "options"),
    [("/classify", {}), ("/classify", {"distances": True}), ("/embed", {})],
)
def test_real_requests_and_answers_are_as_documented(
    shared: TestClient,
    document: Record,
    path: str,
    options: Record,
    good: Record,
    down: Record,
    unknown: Record,
) -> None:
    body = {"records": [good, down, unknown], **options}
    asked = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    validate(document, body, asked["schema"])
    answer = shared.post(path, json=body).json()
    validate(document, answer, answer_schema(document, path, "post", 200))


@pytest.mark.parametrize("path", ["/model", "/livez", "/readyz"])
def test_what_is_got_is_as_documented(shared: TestClient, document: Record, path: str) -> None:
    answer = shared.get(path).json()
    validate(document, answer, answer_schema(document, path, "get", 200))


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        ("{", {}, 400),
        ("{}", {"Content-Length": "99999999"}, 413),
        ("{}", {"Content-Type": "text/html"}, 415),
        ('{"records": [{}, 5], "x": 1}', {}, 422),
        ('{"records": [{}, 5]}', {}, 422),
    ],
)
def test_real_problems_are_as_documented(
    shared: TestClient, document: Record, body: str, headers: dict[str, str], status: int
) -> None:
    for path in ("/classify", "/embed"):
        response = shared.post(path, content=body, headers=headers)
        assert response.status_code == status
        validate(document, response.json(), answer_schema(document, path, "post", status))


def test_the_documented_example_is_a_real_record_that_is_answered(
    shared: TestClient, document: Record, good: Record
) -> None:
    for path in ("/classify", "/embed"):
        asked = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        assert asked["example"] == {"records": [good]}
        validate(document, asked["example"], asked["schema"])
        assert shared.post(path, json=asked["example"]).status_code == 200


BOUNDS = {"minimum": -LARGEST, "maximum": LARGEST}


def test_a_record_is_described_by_the_bundles_own_fields(document: Record) -> None:
    record = document["components"]["schemas"]["Record"]
    assert record["required"] == ["cpu load", "link up", "state"]
    assert record["additionalProperties"] is False
    assert record["properties"] == {
        "cpu load": {
            "type": "number",
            **BOUNDS,
            "description": "Gauge in %; typically 12.5 in good traffic.",
        },
        "error rate": {
            "type": ["number", "null"],
            **BOUNDS,
            "description": "Rate in errors/s; typically 0 in good traffic; may be missing.",
        },
        "link up": {
            "type": "boolean",
            "description": "Boolean; typically true in good traffic.",
        },
        "state": {
            "type": "string",
            "enum": ["idle", "busy"],
            "description": "Category; typically idle in good traffic.",
        },
        "vendor": {
            "type": ["string", "null"],
            "examples": ["acme", "b"],
            "description": "Category of any value; may be missing.",
        },
    }


def test_a_closed_category_that_may_be_missing_takes_null() -> None:
    field = Field(name="a", kind="category", categories=("x",), required=False)
    schema = record_schema((field,))
    assert schema["properties"]["a"]["enum"] == ["x", None]
    assert schema["required"] == []


def test_a_schema_that_refuses_is_the_same_as_a_service_that_refuses(
    shared: TestClient, document: Record, good: Record
) -> None:
    schema = document["components"]["schemas"]["Record"]
    for change in ({"cpu load": None}, {"state": "odd"}, {"x": 1}, {"link up": 1}, {"vendor": 1}):
        with pytest.raises(jsonschema.ValidationError):
            validate(document, good | change, schema)
        assert shared.post("/embed", json={"records": [good | change]}).status_code == 422


def test_without_a_bundle_the_document_says_so(bundle: Path) -> None:
    document = create_app(Settings(bundle=bundle)).openapi()
    assert "once a bundle is loaded" in document["components"]["schemas"]["Record"]["description"]
    asked = document["paths"]["/classify"]["post"]["requestBody"]["content"]["application/json"]
    assert "example" not in asked


def test_the_limit_of_one_application_is_not_anothers(
    bundle: Path, serve: Callable[..., TestClient]
) -> None:
    def limit(client: TestClient) -> int:
        asked = client.get("/openapi.json").json()["paths"]["/embed"]["post"]["requestBody"]
        most = asked["content"]["application/json"]["schema"]["properties"]["records"]["maxItems"]
        assert isinstance(most, int)
        return most

    first, second = serve(bundle, max_records=3), serve(bundle, max_records=7)
    assert (limit(first), limit(second), limit(first)) == (3, 7, 3)


def test_every_route_documents_its_problems_in_their_media_type(document: Record) -> None:
    for path in document["paths"].values():
        for operation in path.values():
            assert operation["summary"]
            assert operation["description"]
            problems = {code: a for code, a in operation["responses"].items() if code[0] != "2"}
            assert "500" in problems
            for code, answer in problems.items():
                (media,) = answer["content"]
                content = answer["content"][media]
                assert media == MEDIA_TYPE
                assert content["example"]["status"] == int(code)
                validate(document, content["example"], content["schema"])
    assert set(document["paths"]["/classify"]["post"]["responses"]) >= {
        "200", "400", "408", "413", "415", "422", "500", "503",
    }  # fmt: skip


def test_the_page_needs_nothing_from_the_internet(shared: TestClient) -> None:
    page = shared.get("/docs").text
    assert not re.search(r"https?:|//", page.split("<script>")[0])
    assert '"validatorUrl": null' in page
    addresses = re.findall(r'(?:href|src)="([^"]+)"', page)
    assert len(addresses) == 3
    for address in addresses:
        assert shared.get(f"/{address}").status_code == 200
    assert shared.get("/docs/swagger-ui-bundle.js").headers["content-type"].startswith("text/java")


def test_there_is_no_second_set_of_pages(shared: TestClient) -> None:
    assert shared.get("/redoc").status_code == 404


def test_the_page_may_do_nothing_but_what_it_does(shared: TestClient) -> None:
    response = shared.get("/docs")
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    scripts = re.findall(r"<script>(.*?)</script>", response.text, re.DOTALL)
    assert scripts
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert response.headers["x-frame-options"] == "DENY"
    assert response.headers["x-content-type-options"] == "nosniff"
