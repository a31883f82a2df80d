from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from service.settings import as_markdown
from tests.support.blocks import Block, blocks_of
from tests.support.links import links_of
from tests.support.running import environment, running

ROOT = Path(__file__).parents[2]
README, DOCS = ROOT / "README.md", ROOT / "docs"
PAGES = [README, *sorted(DOCS.glob("*.md")), *sorted((ROOT / "docker/kubernetes").glob("*.md"))]


def env_of_blocks() -> dict[str, str]:
    programs = Path(sys.executable).parent
    return environment(PATH=f"{programs}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture(scope="module")
def address(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service of this environment, for all blocks that need one."""
    database = tmp_path_factory.mktemp("classes") / "classes.sqlite"
    env = env_of_blocks() | {
        "FAULTCUBE_PORT": "0",
        "FAULTCUBE_ADMIN_KEYS": hashlib.sha256(b"my-admin-key").hexdigest(),
        "FAULTCUBE_DATABASE_URL": f"sqlite:///{database}",
    }
    with running("faultcube serve", cwd=root, env=env, seconds=60) as (_, url):
        yield url


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_a_page_does_what_it_says(
    page: Path,
    root: Path,
    checkout: Path,
    request: pytest.FixtureRequest,
    subtests: pytest.Subtests,
) -> None:
    for block in blocks_of(page.read_text()):
        with subtests.test(str(block)):
            if "curl" in block.text and not shutil.which("curl"):
                pytest.skip("curl is not installed")
            match (block.how or "").split():
                case ["alone"]:
                    block.run(checkout, env_of_blocks())
                case ["server"]:
                    block.run(checkout, env_of_blocks(), request.getfixturevalue("address"))
                case ["elsewhere", _]:
                    block.check_elsewhere(root)
                case _:
                    pytest.fail(f"{block}: no comment before it says how it is tested")


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for link in links_of(page):
        link.check()


def test_the_readme_is_short_and_leads_to_every_page() -> None:
    assert len(README.read_text().splitlines()) <= 150
    assert {link.path for link in links_of(README)} >= set(PAGES[1:])


def test_the_settings_table_is_the_generated_one() -> None:
    assert (DOCS / "settings.md").read_text().endswith(f"\n\n{as_markdown()}\n")


def test_every_reason_metric_and_alert_is_in_a_table(root: Path, address: str) -> None:
    document = (root / "service" / "openapi.json").read_text()
    reasons = set(re.findall(r'"reason": "(\w+)"', document))
    page = (DOCS / "formats.md").read_text()
    assert {reason for reason in reasons if f"| `{reason}` |" not in page} == set()

    exposed = httpx2.get(f"{address}/metrics").text
    metrics = set(re.findall(r"^# HELP (faultcube_\w+)", exposed, flags=re.MULTILINE))
    rules = (root / "docker" / "monitoring" / "rules.yml").read_text()
    alerts = set(re.findall(r"- alert: (\w+)", rules))
    page = (DOCS / "operating.md").read_text()
    assert len(metrics) > 20
    assert len(alerts) > 15
    assert {name for name in metrics | alerts if f"`{name}`" not in page} == set()


SAMPLE = """\
# Sample

<!-- test: alone -->
```sh
echo one >file  # a comment
cat file
```

```json
{"not": "looked at"}
```
1. In a list:

   <!-- test: server -->

   ```console
   $ printf '%s\\n' http://localhost:8000/readyz \\
       two
   http://...:9/readyz
   two
   $ echo three
   ```

```python
print("without_bom")
```
"""


def test_blocks_are_found_with_their_line_language_and_mark() -> None:
    found = [(block.line, block.language, block.how) for block in blocks_of(SAMPLE)]
    assert found == [(4, "sh", "alone"), (16, "console", "server"), (24, "python", None)]


def test_a_script_runs_and_a_console_compares(tmp_path: Path) -> None:
    script, console, program = blocks_of(SAMPLE)
    script.run(tmp_path, env_of_blocks())
    assert (tmp_path / "file").read_text() == "one\n"
    console.run(tmp_path, env_of_blocks(), "http://127.0.0.1:9")
    program.run(tmp_path, env_of_blocks())
    assert script.commands == ["echo one >file", "cat file"]
    assert console.commands[1:] == ["echo three"]


@pytest.mark.parametrize(
    "block",
    [
        Block(1, "sh", "false\ntrue\n", "alone"),
        Block(1, "sh", "echo $UNSET_VARIABLE\n", "alone"),
        Block(1, "console", "$ echo one\ntwo\n", "alone"),
        Block(1, "console", "$ echo one two\none ... three\n", "alone"),
        Block(1, "console", "one\n$ echo one\n", "alone"),
        Block(1, "python", "raise SystemExit(1)\n", "alone"),
    ],
    ids=lambda block: block.text.splitlines()[0],
)
def test_a_block_that_fails_or_prints_something_else_is_seen(block: Block, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="line 1"):
        block.run(tmp_path, env_of_blocks())


@pytest.mark.parametrize(
    ("how", "command", "complaint"),
    [
        ("test_it.py::test_make", "make run", None),
        ("test_it.py::test_make", "make walk", "does not run `make walk`"),
        ("test_it.py::test_gone", "make run", "has no test 'test_gone'"),
        ("test_it.py", "make run", "has no test ''"),
        ("gone.py::test_make", "make run", "there is no file 'gone.py'"),
    ],
)
def test_a_block_tested_elsewhere_needs_a_test_with_its_commands(
    tmp_path: Path, how: str, command: str, complaint: str | None
) -> None:
    (tmp_path / "test_it.py").write_text('def test_make(): do("make run")\n')
    block = Block(1, "sh", f"{command}  # why\n", f"elsewhere {how}")
    if complaint is None:
        block.check_elsewhere(tmp_path)
    else:
        with pytest.raises(AssertionError, match=complaint):
            block.check_elsewhere(tmp_path)


LINKED = """\
# One page

[Here](#one-page), [there](other.md#a-b--c), a ![picture](gone.png), [away](https://gone.example)
and [nowhere](other.md#d).

```sh
echo "[not](a-link)"  # nor
# a heading
```
"""


def test_a_link_to_a_missing_file_or_heading_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(LINKED)
    (tmp_path / "other.md").write_text("## A, `b` & C\n")
    good, better, picture, nowhere = links_of(page)
    good.check()
    better.check()
    with pytest.raises(AssertionError, match=r"there is no .*gone.png"):
        picture.check()
    with pytest.raises(AssertionError, match="has no heading #d"):
        nowhere.check()
