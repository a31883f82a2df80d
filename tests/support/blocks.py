"""The code blocks of a Markdown file, and how each one says that it is tested.

A comment on the line before the fence names it:

    <!-- test: alone -->                    runs in a copy of the checkout
    <!-- test: server -->                   the same, while the service runs
    <!-- test: elsewhere PATH::FUNCTION --> that test runs the block's commands, word by word

An `sh` block is a script; a `console` block holds commands after `$ `, and what they print, where
`...` stands for any text; a `python` block is a program. Other languages are not looked at.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Block", "blocks_of"]

_FENCE = re.compile(
    r"""(?:^[ ]*<!--\s*test:\s*(?P<how>[^>]*?)\s*-->[ ]*\n(?:[ ]*\n)?)?
        ^(?P<indent>[ ]*)```(?P<language>sh|console|python)\b[^\n]*\n
        (?P<text>.*?)
        ^(?P=indent)```[ ]*$""",
    re.MULTILINE | re.DOTALL | re.VERBOSE,
)
_SERVICE = re.compile(r"http://(?:127\.0\.0\.1|localhost):8000")


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        line: of its opening fence, from 1.
        language: sh, console or python.
        text: without the fences and their indentation.
        how: what the comment before it says, None without one.
    """

    line: int
    language: str
    text: str
    how: str | None

    def __str__(self) -> str:
        return f"line {self.line} ({self.language})"

    @property
    def steps(self) -> list[tuple[str, str | None]]:
        """Commands, and what each must print (None: anything)."""
        if self.language != "console":
            return [(self.text, None)]
        parts = re.split(r"^\$ ", self.text, flags=re.MULTILINE)
        assert not parts[0].strip(), f"{self}: a console block begins with a command"
        steps = [re.match(r"((?:.*\\\n)*.*\n?)", part) for part in parts[1:]]
        return [
            (step.group(), part[step.end() :] or None)
            for step, part in zip(steps, parts[1:], strict=True)
            if step
        ]

    @property
    def commands(self) -> list[str]:
        """The commands, one by one, without comments."""
        lines = "".join(command for command, _ in self.steps).replace("\\\n", " ").splitlines()
        bare = (" ".join(re.sub(r"(^|\s)#.*", "", line).split()) for line in lines)
        return [line for line in bare if line]

    def run(self, cwd: Path, env: Mapping[str, str], url: str | None = None) -> None:
        """Do what the block says; the service's usual address stands for `url`."""
        for command, expected in self.steps:
            text = _SERVICE.sub(url, command) if url else command
            program = [sys.executable, "-c"] if self.language == "python" else [_bash(), "-euc"]
            done = subprocess.run(
                [*program, text],
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
            assert done.returncode == 0, f"{self}: {text}\n{done.stdout}{done.stderr}"
            if expected:
                assert _matches(expected, done.stdout), f"{self}: {text}\n{done.stdout}"

    def check_elsewhere(self, root: Path) -> None:
        """Check that the test which is named exists and has every command of the block."""
        path, _, function = (self.how or "").removeprefix("elsewhere").strip().partition("::")
        assert (root / path).is_file(), f"{self}: there is no file {path!r}"
        source = (root / path).read_text()
        defined = {n.name for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef)}
        assert function in defined, f"{self}: {path} has no test {function!r}"
        for command in self.commands:
            assert command in source, f"{self}: {path} does not run `{command}`"


def blocks_of(text: str) -> list[Block]:
    """All blocks of a Markdown text that hold commands or programs."""
    return [
        Block(
            line=text.count("\n", 0, found.start("language")) + 1,
            language=found["language"],
            text=re.sub(f"^{found['indent']}", "", found["text"], flags=re.MULTILINE),
            how=found["how"],
        )
        for found in _FENCE.finditer(text)
    ]


def _bash() -> str:
    bash = shutil.which("bash")
    assert bash, "the blocks of shell commands need bash"
    return bash


def _matches(expected: str, printed: str) -> bool:
    pieces = (re.escape(piece) for piece in expected.strip().split("..."))
    return re.fullmatch(".*?".join(pieces), printed.strip(), flags=re.DOTALL) is not None
