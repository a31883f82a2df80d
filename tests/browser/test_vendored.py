"""The page is made of our own files and those of the list, and loads nothing from elsewhere."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "service/page"
VENDOR = PAGE / "vendor"


def test_vendored_files_are_those_of_the_list() -> None:
    readme = (VENDOR / "README.md").read_text()
    listed = dict(re.findall(r"\| `([^`]+)` \| `([0-9a-f]{64})` \|", readme))
    files = {str(path.relative_to(VENDOR)): path for path in VENDOR.rglob("*") if path.is_file()}
    del files["README.md"]
    hashes = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    assert hashes == listed
    assert all((VENDOR / name.split("/")[0] / "LICENSE").is_file() for name in listed)


def test_the_page_makes_elements_of_no_markup_and_loads_nothing_from_elsewhere() -> None:
    ours = [path for path in PAGE.rglob("*.*") if VENDOR not in path.parents]
    for path in ours:
        text = path.read_text()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write", text), path
        addresses = set(re.findall(r"https?://[^\s\"'`]+", text))
        assert addresses <= {"http://www.w3.org/2000/svg"}, path


def test_every_module_is_imported_by_another_one() -> None:
    ours = [path for path in PAGE.rglob("*.js") if VENDOR not in path.parents]
    named = "".join(path.read_text() for path in [*ours, PAGE / "index.html"])
    assert [path.name for path in ours if f"{path.name}" not in named] == []
