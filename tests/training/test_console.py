"""What is seen at a terminal, and what is not seen without one."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest

from models.model import Model
from training.console import (
    compare_and_write,
    evaluate_few_shot,
    retrain_and_write,
    train_and_write,
)

FAULTCUBE = str(Path(sys.executable).parent / "faultcube")
RECIPE = """
name = "small"
table = "t.parquet"
label = "label"
good = "good"
split = {by = "column", column = "part"}
calibration = "dev"
encoder = {dimensions = 4, hidden = [8]}
fit = {epochs = 3, steps = 2, batch = 48}

[[backtests]]
name = "by device"
split = {by = "group", column = "device"}
"""


@pytest.fixture
def folder(tmp_path: Path, make_table: Callable[..., pl.DataFrame]) -> Path:
    make_table().write_parquet(tmp_path / "t.parquet")
    (tmp_path / "r.toml").write_text(RECIPE)
    return tmp_path


def read_all(terminal: int) -> str:
    pieces = []
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # Linux says so when the last writer has closed it
            break
        if not piece:
            break
        pieces.append(piece)
    return b"".join(pieces).decode()


def at_a_terminal(program: Callable[[], int], folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a program that succeeds shows on stderr, without colours and moves."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(folder)
    terminal, end = pty.openpty()
    with ThreadPoolExecutor() as pool, open(end, "w", encoding="utf-8") as stderr:  # noqa: PTH123
        screen = pool.submit(read_all, terminal)
        monkeypatch.setattr("sys.stderr", stderr)
        code = program()
        monkeypatch.undo()
        stderr.close()
        shown = screen.result(timeout=60)
    os.close(terminal)
    assert code == 0, shown
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)


def test_progress_of_every_fit_is_shown_at_a_terminal_and_only_on_stderr(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = at_a_terminal(
        lambda: train_and_write(Path("r.toml"), {}, Path("bundle")), folder, monkeypatch
    )
    for name in ("small", "by device"):
        line = rf"{name} .* 3/3 loss \d\.\d{{3}} excess -?\d\.\d{{3}} dev macro-F1 \d\.\d{{3}} \d:"
        assert re.search(line, plain)
    out = capsys.readouterr().out
    assert "3/3" not in out
    assert "\x1b" not in out
    assert "wrote bundle" in out
    assert re.search(r"^Of 1,000 good records \d+ raise a false alarm \(", out, re.MULTILINE)
    assert "These figures stand on 60 records." in out
    assert Model.load(folder / "bundle").manifest.name == "small"


@pytest.mark.usefixtures("short_film")
def test_fits_of_one_loss_share_a_line_that_counts_all_their_epochs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = {"losses": ("linear", "triplet"), "seeds": 2}
    plain = at_a_terminal(
        lambda: compare_and_write(Path("r.toml"), {}, asked, Path("out"), "faultcube compare"),
        folder,
        monkeypatch,
    )
    for name, epochs in (("linear", 6), ("triplet", 6), ("film: lossless", 3)):
        assert re.search(rf"{name} .* {epochs}/{epochs} loss \d\.\d{{3}} ", plain)
    assert capsys.readouterr().out == (folder / "out/comparison.md").read_text() + "\n"


def test_a_refusal_at_a_process_is_one_line_and_no_traceback(folder: Path) -> None:
    command = [FAULTCUBE, "train", "none.csv", "--label", "a", "--good", "b", "--split-random"]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "faultcube: there is no table none.csv\n"
    assert done.stdout == ""


@pytest.mark.parametrize(
    "command",
    [
        lambda recipe, out: retrain_and_write(recipe, {}, out, out, None),
        lambda recipe, _: evaluate_few_shot(recipe, {}, {}),
        lambda recipe, out: compare_and_write(recipe, {}, {}, out, "compare"),
    ],
    ids=["retrain", "evaluate", "compare"],
)
def test_a_command_for_one_process_refuses_several(
    command: Callable[[Path, Path], int],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "one")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert command(folder / "r.toml", folder / "out") == 2
    assert "start this command without torchrun" in capsys.readouterr().err
    assert not (folder / "out").exists()
