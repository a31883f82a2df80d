"""The page's files: who gets them, and how."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from service.api import page

Serve = Callable[..., TestClient]
READ = "read-key"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page of a test's own."""
    folder = tmp_path / "page"
    (folder / "vendor" / "lib-1.0").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>Test</title>" + " " * 1000)
    (folder / "app.js").write_text("const a = 1;\n" * 200)
    (folder / "vendor" / "lib-1.0" / "LICENSE").write_text("Do what you like.")
    (tmp_path / "secret.js").write_text("secret")
    (folder / "link.js").symlink_to(tmp_path / "secret.js")
    monkeypatch.setattr(page, "_FOLDER", folder)
    return folder


def test_the_page_is_there_and_may_load_nothing_from_elsewhere(shared: TestClient) -> None:
    answer = shared.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    assert "require-trusted-types-for 'script'" in policy
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_page_asks_for_nothing_by_an_absolute_address_or_inline(shared: TestClient) -> None:
    text = shared.get("/").text
    for forbidden in ('="/', "='/", "<style", "style=", "onclick=", "onload=", "<script>"):
        assert forbidden not in text


@pytest.mark.parametrize(
    ("path", "media"),
    [
        ("app.js", "text/javascript; charset=utf-8"),
        ("vendor/lib-1.0/LICENSE", "text/plain; charset=utf-8"),
        ("index.html", "text/html; charset=utf-8"),
    ],
)
def test_a_file_is_sent_as_what_it_is(
    shared: TestClient, folder: Path, path: str, media: str
) -> None:
    answer = shared.get(f"/page/{path}")
    assert answer.content == (folder / path).read_bytes()
    assert answer.headers["content-type"] == media
    head = shared.head(f"/page/{path}")
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "nothing.js",
        "vendor",
        "../secret.js",
        "%2e%2e/secret.js",
        "..%2fsecret.js",
        "vendor/../../secret.js",
        "link.js",
        "/etc/passwd",
        "%00",
        "a" * 5000,
        "app.js/more",
    ],
)
@pytest.mark.usefixtures("folder")
def test_nothing_else_is_sent(shared: TestClient, path: str) -> None:
    answer = shared.get(f"/page/{path}")
    assert (answer.status_code, answer.json()["reason"]) == (404, "no_such_path")


def test_a_file_that_is_known_is_not_sent_again_until_it_changes(
    shared: TestClient, folder: Path
) -> None:
    first = shared.get("/page/app.js")
    assert first.headers["cache-control"] == "no-cache"
    known = {"If-None-Match": first.headers["etag"]}
    again = shared.get("/page/app.js", headers=known)
    assert (again.status_code, again.content) == (304, b"")
    (folder / "app.js").write_text("const b = 2;")
    changed = shared.get("/page/app.js", headers=known)
    assert (changed.status_code, changed.text) == (200, "const b = 2;")


@pytest.mark.usefixtures("folder")
def test_a_file_is_compressed_for_who_can_read_that(shared: TestClient) -> None:
    plain = shared.get("/page/app.js", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    with shared.stream("GET", "/page/app.js", headers={"Accept-Encoding": "gzip"}) as packed:
        raw = b"".join(packed.iter_raw())
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["vary"] == "Accept-Encoding"
    assert len(raw) < len(plain.content)
    assert gzip.decompress(raw) == plain.content
    small = shared.get("/page/vendor/lib-1.0/LICENSE", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in small.headers


def test_the_page_needs_no_key_and_what_it_shows_does(bundle: Path, serve: Serve) -> None:
    client = serve(bundle, read_keys=hashlib.sha256(READ.encode()).hexdigest())
    assert client.get("/").status_code == 200
    assert client.get("/page/index.html").status_code == 200
    for path in ("scene", "devices", "devices/r1", "records", "records/1", "health", "events"):
        assert client.get(f"/live/{path}").status_code == 401, path


def test_without_the_page_none_of_its_routes_is_there(bundle: Path, serve: Serve) -> None:
    client = serve(bundle, page="off")
    for path in ("/", "/page/index.html", "/session", "/live/scene", "/live/events"):
        assert client.get(path).status_code == 404, path
    paths = client.get("/openapi.json").json()["paths"]
    assert not [path for path in paths if path.startswith(("/live/", "/session"))]
