from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from models import cli

COMMANDS = {"serve", "settings", "train", "schema"}
HEAVY = ["torch", "sklearn", "fastapi", "uvicorn", "polars", "matplotlib"]


class Entry:
    """What `entry_points` gives, for a command made up here."""

    def __init__(self, name: str, load: Callable[[], Callable[..., None]]) -> None:
        self.name, self.load = name, load
        floor = "service" if name in {"serve", "settings"} else "training"
        self.value, self.module, self.attr = f"{floor}.cli:{name}", f"{floor}.cli", name

    def __lt__(self, other: Entry) -> bool:
        return self.name < other.name


def install(monkeypatch: pytest.MonkeyPatch, *argv: str, **commands: Callable[..., None]) -> None:
    entries = [Entry(name, lambda command=command: command) for name, command in commands.items()]  # type: ignore[misc]
    install_entries(monkeypatch, *argv, entries=entries)


def install_entries(monkeypatch: pytest.MonkeyPatch, *argv: str, entries: list[Entry]) -> None:
    def entry_points(*, group: str) -> list[Entry]:
        assert group == "faultcube.commands"
        return entries

    monkeypatch.setattr(cli, "entry_points", entry_points)
    monkeypatch.setattr(sys, "argv", ["faultcube", *argv])


def missing(name: str) -> Callable[[], None]:
    def command() -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    return command


def nothing() -> None:
    """Do nothing."""


def test_help_lists_every_command_and_loads_no_heavy_library() -> None:
    program = f"""
import sys
from models.cli import main
sys.argv = ["faultcube", "--help"]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print("LOADED", [name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert set(done.stdout.replace("│", " ").split()) >= COMMANDS
    assert "LOADED []" in done.stdout


def test_the_version_is_that_of_the_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["faultcube", "--version"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    assert capsys.readouterr().out == f"faultcube {version('faultcube')}\n"


def test_the_installed_command_shows_the_same_help() -> None:
    command = Path(sys.executable).with_name("faultcube")
    done = subprocess.run(
        [command, "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage: faultcube" in done.stdout
    assert set(done.stdout.replace("│", " ").split()) >= COMMANDS


def test_a_command_gets_its_arguments(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def serve(port: int = 1) -> None:
        sys.stdout.write(f"serving on {port}")

    install(monkeypatch, "serve", "--port", "8080", serve=serve, train=nothing)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    assert capsys.readouterr().out == "serving on 8080"


def test_commands_are_listed_in_the_order_of_the_alphabet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch, "--help", train=nothing, serve=nothing, schema=nothing)
    with pytest.raises(SystemExit):
        cli.main()
    words = capsys.readouterr().out.split()
    assert words.index("schema") < words.index("serve") < words.index("train")


@pytest.mark.parametrize(
    ("argv", "code"), [([], 2), (["dance"], 2), (["serve", "--nonsense"], 2), (["--help"], 0)]
)
def test_what_is_no_command_is_an_error_of_use(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    argv: list[str],
    code: int,
) -> None:
    install(monkeypatch, *argv, serve=nothing, train=nothing)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert (end.value.code or 0) == code
    assert "Usage: faultcube" in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("command", "library", "extra"),
    [
        ("serve", "fastapi", "service"),
        ("settings", "pydantic_settings", "service"),
        ("train", "torch", "training"),
        ("schema", "polars", "training"),
    ],
)
def test_a_library_that_is_not_installed_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, command: str, library: str, extra: str
) -> None:
    commands = dict.fromkeys(COMMANDS, nothing) | {command: missing(library)}
    install(monkeypatch, command, **commands)
    with pytest.raises(SystemExit) as end:
        cli.main()
    expected = f"faultcube: {library} is not installed: pip install -c constraints.txt '.[{extra}]'"
    assert end.value.code == expected


def test_a_floor_that_cannot_be_loaded_does_not_take_the_others_down(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load() -> Callable[..., Any]:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    def working() -> Callable[..., Any]:
        return lambda: sys.stdout.write("serving")

    entries = [Entry("serve", working), Entry("settings", working), Entry("train", load)]
    install_entries(monkeypatch, "serve", entries=entries)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    assert capsys.readouterr().out == "serving"


@pytest.mark.parametrize("argv", [["train"], ["train", "table.csv", "--out", "bundle"]])
def test_a_floor_that_cannot_be_loaded_names_its_library_whatever_is_asked_of_it(
    monkeypatch: pytest.MonkeyPatch, argv: list[str]
) -> None:
    def load() -> Callable[..., Any]:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    entries = [Entry("serve", lambda: nothing), Entry("train", load)]
    install_entries(monkeypatch, *argv, entries=entries)
    with pytest.raises(SystemExit) as end:
        cli.main()
    expected = "faultcube: torch is not installed: pip install -c constraints.txt '.[training]'"
    assert end.value.code == expected


def test_any_other_error_of_a_command_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def serve() -> None:
        raise LookupError("the model is gone")

    install(monkeypatch, "serve", serve=serve, train=nothing)
    with pytest.raises(LookupError, match="the model is gone"):
        cli.main()
