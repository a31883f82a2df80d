"""The plan of the house: which room may import which, and what stays in which room."""

from __future__ import annotations

import ast
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Each room with the rooms that it imports; every arrow runs down.
PLANS: dict[str, dict[str, set[str]]] = {
    "service": {
        "formats": set(),
        "ingest": {"formats"},
        "classes": {"web"},
        "incidents": {"classes", "web"},
        "web": {"formats"},
        "settings": {"web"},
        "observability": {"formats", "settings", "web"},
        "bundles": {"observability"},
        "scoring": {"formats", "web"},
        "live": {"classes", "observability", "scoring", "web"},
        "offline": {"bundles", "classes", "formats", "settings"},
        "runtime": {
            "bundles",
            "classes",
            "formats",
            "incidents",
            "ingest",
            "live",
            "observability",
            "scoring",
            "settings",
            "web",
        },
        "api": {
            "bundles",
            "classes",
            "formats",
            "incidents",
            "ingest",
            "live",
            "runtime",
            "scoring",
            "web",
        },
        "stream": {
            "classes",
            "formats",
            "incidents",
            "ingest",
            "observability",
            "runtime",
            "scoring",
            "settings",
        },
        "server": {"observability", "runtime", "settings", "web"},
        "app": {"api", "observability", "runtime", "settings", "web"},
        "cli": {"app", "classes", "offline", "server", "settings", "stream", "web"},
    },
    "training": {
        "recipe": set(),
        "dataset": {"recipe"},
        "fitting": {"dataset", "recipe"},
        "onnx": {"fitting"},
        "evaluation": {"dataset", "fitting", "recipe"},
        "reports": {"dataset", "evaluation", "fitting", "recipe"},
        "train": {"dataset", "evaluation", "fitting", "onnx", "recipe", "reports"},
        "retrain": {"dataset", "evaluation", "recipe", "train"},
        "check": {"dataset", "recipe"},
        "assembly": {"check", "dataset", "recipe"},
        "console": {
            "check",
            "dataset",
            "evaluation",
            "fitting",
            "onnx",
            "recipe",
            "reports",
            "retrain",
            "train",
        },
        "cli": {"assembly", "check", "console"},
    },
}
# Libraries that belong to some rooms alone.
LIBRARIES = {
    "uvicorn": {"service.server"},
    "httptools": {"service.server"},
    "watchfiles": {"service.bundles"},
    "sqlalchemy": {"service.classes", "service.incidents"},
    "alembic": {"service.classes"},
    "confluent_kafka": {"service.stream"},
    "cramjam": {"service.ingest"},
    "google": {"service.ingest"},
    "fastapi": {"service.api", "service.app", "service.server", "service.web"},
    "starlette": {
        "service.api",
        "service.app",
        "service.observability",
        "service.runtime",
        "service.server",
        "service.web",
    },
}


@cache
def imports(path: Path) -> list[str]:
    """Every module that a file imports, wherever in it."""
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += (f"{node.module}.{alias.name}" for alias in node.names)
    return found


def room_of(path: Path) -> str:
    """The room of a file: a folder of its floor, or a file beside them."""
    return path.relative_to(ROOT).with_suffix("").parts[1]


def arrows(floor: str) -> dict[str, set[str]]:
    """Which rooms each room of a floor imports."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / floor).rglob("*.py"):
        room = room_of(path)
        if room == "__init__":
            continue
        names = (name.split(".") for name in imports(path))
        others = {name[1] for name in names if name[0] == floor and len(name) > 1}
        found.setdefault(room, set()).update(others - {room})
    return found


@pytest.mark.parametrize("floor", PLANS)
def test_rooms_import_what_the_plan_says_and_nothing_else(floor: str) -> None:
    assert arrows(floor) == PLANS[floor]


@pytest.mark.parametrize("floor", PLANS)
def test_every_arrow_runs_down(floor: str) -> None:
    order = [*TopologicalSorter(PLANS[floor]).static_order()]  # raises where there is a circle
    assert set(order) == PLANS[floor].keys()


def test_the_house_stays_small_enough_to_be_seen() -> None:
    plan = PLANS["service"]
    assert len(plan) <= 17
    assert sum(map(len, plan.values())) <= 64


@pytest.mark.parametrize("floor", ["models", "service", "training"])
def test_no_files_import_each_other_in_a_circle(floor: str) -> None:
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for path in (ROOT / floor).rglob("*.py")
        if path.name != "__init__.py"
    }
    graph = {
        module: {
            name if name in files else name.rpartition(".")[0]
            for name in imports(path)
        } & files.keys()
        for module, path in files.items()
    }  # fmt: skip
    assert len([*TopologicalSorter(graph).static_order()]) == len(files)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_stays_in_its_rooms(library: str) -> None:
    users = {
        f"service.{room_of(path)}"
        for path in (ROOT / "service").rglob("*.py")
        if any(name.split(".")[0] == library for name in imports(path))
    }
    assert users == LIBRARIES[library]


def test_every_room_says_what_it_is_and_what_it_may_import() -> None:
    rooms = [path for floor in PLANS for path in (ROOT / floor).rglob("__init__.py")]
    for path in rooms:
        if path.parent.name != "versions" and path.parent.parent != ROOT:
            text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            assert "Imports " in text, path
