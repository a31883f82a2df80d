from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.running import environment

ROOT = Path(__file__).parents[2]


def modules_of(floor: str) -> list[str]:
    found = pkgutil.walk_packages([str(ROOT / floor)], f"{floor}.")
    return [floor, *(module.name for module in found if not module.name.endswith("__main__"))]


def imports_of(path: Path) -> set[str]:
    """The top-level packages that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names.add((node.module or "").partition(".")[0])
    return names


@pytest.mark.parametrize(
    ("floor", "foreign"),
    [
        ("models", {"torch", "sklearn", "training", "service", "fastapi"}),
        ("service", {"torch", "sklearn", "training"}),
    ],
)
def test_a_floor_loads_nothing_that_is_not_its_own(floor: str, foreign: set[str]) -> None:
    program = (
        "import importlib, sys\n"
        f"for name in {modules_of(floor)}: importlib.import_module(name)\n"
        "print(*sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not foreign & set(done.stdout.split())


@pytest.mark.parametrize(
    ("floor", "foreign"),
    [("models", {"service", "training"}), ("service", {"training"}), ("training", {"service"})],
)
def test_no_file_of_a_floor_names_a_floor_that_it_does_not_stand_on(
    floor: str, foreign: set[str]
) -> None:
    files = sorted((ROOT / floor).rglob("*.py"))
    assert files
    assert {str(file): imports_of(file) & foreign for file in files} == {
        str(file): set() for file in files
    }


def test_onnxruntime_does_not_report_to_its_maker(tmp_path: Path) -> None:
    # where it reports, it keeps a device's identity under the home folder; under CI it never does
    env = environment(HOME=str(tmp_path))
    for name in ("CI", "GITHUB_ACTIONS", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"):
        env.pop(name, None)
    subprocess.run([sys.executable, "-c", "import models"], cwd=ROOT, env=env, check=True)
    assert list(tmp_path.rglob("*")) == []
