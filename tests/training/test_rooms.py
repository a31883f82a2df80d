"""Imports inside training run downwards only."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2] / "training"
FLOORS = [{"recipe"}, {"dataset"}, {"fitting"}, {"onnx", "evaluation"}, {"reports"}]
FLOORS += [{"train"}, {"retrain"}, {"console"}, {"cli"}]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def imported(path: Path) -> set[str]:
    """Names of the modules that a file imports, in functions too."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}


def test_every_room_has_a_floor_and_says_what_it_imports() -> None:
    for path in ROOT.glob("*/__init__.py"):
        assert path.parent.name in FLOOR
        assert "Imports `models`" in path.read_text(encoding="utf-8")


def test_rooms_import_only_what_lies_below_them() -> None:
    for path in ROOT.rglob("*.py"):
        room = path.relative_to(ROOT).with_suffix("").parts[0]
        for module in imported(path):
            top, _, rest = module.partition(".")
            below = rest.split(".")[0]
            assert top != "service"
            if top == "training" and rest and below != room:
                assert FLOOR[below] < FLOOR[room], f"{path.name} imports {module}"


def test_modules_of_a_room_import_each_other_in_one_direction() -> None:
    uses = {
        ".".join(("training", *path.relative_to(ROOT).with_suffix("").parts)): imported(path)
        for path in ROOT.rglob("*.py")
    }
    done: set[str] = set()
    while ready := {name for name in uses.keys() - done if uses[name] & uses.keys() <= done}:
        done |= ready
    assert done == uses.keys()
