from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import models

MODULES = sorted(module.name for module in pkgutil.walk_packages(models.__path__, "models."))


def public_names(source: str) -> list[str]:
    """Names without an underscore that a module defines itself."""
    names: list[str] = []
    for node in ast.parse(source).body:
        match node:
            case ast.FunctionDef() | ast.ClassDef():
                names.append(node.name)
            case ast.Assign():
                names += [target.id for target in node.targets if isinstance(target, ast.Name)]
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.append(name)
    return [name for name in names if not name.startswith("_")]


@pytest.mark.parametrize("name", MODULES)
def test_all_lists_exactly_the_public_names_of_a_module(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__file__
    source = Path(module.__file__).read_text(encoding="utf-8")
    assert sorted(module.__all__) == sorted(public_names(source))


def test_the_package_offers_exactly_what_its_all_lists() -> None:
    offered = [
        name
        for name, value in vars(models).items()
        if not name.startswith("_") and not isinstance(value, type(models))
    ]
    assert sorted(models.__all__) == sorted(offered)


def test_models_loads_neither_the_other_floors_nor_their_libraries() -> None:
    program = f"""
import importlib, sys
for name in {MODULES!r}:
    importlib.import_module(name)
heavy = ["torch", "sklearn", "fastapi", "uvicorn", "polars", "matplotlib", "service", "training"]
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == "[]"
