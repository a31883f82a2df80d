"""A small real bundle, and applications that serve it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from benchmarks.fuzz.toy import DOWN, FIELDS, GOOD, OVERLOAD, toy_bundle
from models import Field, Model
from service.app import create_app
from service.settings import Settings
from tests.support.databases import Postgres, running

MakeBundle = Callable[..., Path]


@pytest.fixture
def make_bundle(tmp_path: Path) -> MakeBundle:
    """Write a bundle with fields of one's own, and say where."""

    def make(fields: tuple[Field, ...] = FIELDS, examples: object = None) -> Path:
        folder = tmp_path / "toy"
        toy_bundle(fields, examples or [GOOD, DOWN, OVERLOAD]).write(folder)  # type: ignore[arg-type]
        return folder

    return make


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a bundle that nobody changes."""
    folder = tmp_path_factory.mktemp("bundles") / "toy"
    toy_bundle().write(folder)
    return folder


@pytest.fixture
def good() -> dict[str, Any]:
    """A record of good traffic."""
    return dict(GOOD)


@pytest.fixture
def down() -> dict[str, Any]:
    """A record of a link that is down, its error rate missing."""
    return dict(DOWN)


@pytest.fixture
def overload() -> dict[str, Any]:
    """A record of an overload."""
    return dict(OVERLOAD)


@pytest.fixture
def unknown() -> dict[str, Any]:
    """A record that no class accepts; link-down is the nearest."""
    return GOOD | {"link up": False, "cpu load": 70.0}


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    """A PostgreSQL server."""
    with running() as postgres:
        yield postgres


Serve = Callable[..., TestClient]


def _wait(client: TestClient) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if "still loading" not in client.get("/readyz").text:
            return
        time.sleep(0.005)
    raise AssertionError("the bundle was neither loaded nor refused")


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start an application in process and wait until its bundle is loaded or refused."""
    clients: list[TestClient] = []

    def start(folder: Path, **settings: Any) -> TestClient:
        # Not in a process of its own first: that takes half a second each time.
        app: FastAPI = create_app(Settings(bundle=folder, **settings), load=Model.load)
        client = TestClient(app, raise_server_exceptions=False).__enter__()
        clients.append(client)
        _wait(client)
        return client

    yield start
    for client in clients:
        client.__exit__()


@pytest.fixture
def client(bundle: Path, serve: Serve) -> TestClient:
    """A client of an application that has nothing behind it yet."""
    return serve(bundle)


@pytest.fixture(scope="session")
def shared(bundle: Path) -> Iterator[TestClient]:
    """A client of an application that tests share."""
    app = create_app(
        Settings(bundle=bundle, max_records=50, max_body_bytes=1 << 20), load=Model.load
    )
    with TestClient(app, raise_server_exceptions=False) as client:
        _wait(client)
        yield client
