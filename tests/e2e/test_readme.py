from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.settings import as_markdown
from tests.support.blocks import Block, blocks_of
from tests.support.running import environment, running

README = Path(__file__).parents[2] / "README.md"


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


@pytest.mark.parametrize("block", blocks_of(README.read_text()), ids=str)
def test_every_block_of_the_readme_does_what_it_says(
    block: Block, root: Path, checkout: Path, request: pytest.FixtureRequest
) -> None:
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


def test_the_settings_table_is_the_generated_one() -> None:
    assert as_markdown() in README.read_text()


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
print("unmarked")
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
